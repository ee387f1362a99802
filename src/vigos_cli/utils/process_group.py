"""The processes of one run. Each holds the whole model; they exchange sums, never activations.

With one process every function returns what it was given.

Two groups of torch.distributed serve it. Gradients go over NCCL (gloo on the CPU), whose time-out is short:
all processes reach that exchange at about the same time. Everything else is Python objects over gloo without
a time-out, because one process may wait long for another that has more to sample, to read or to write. A
process that dies closes its connections, so the others do not wait for it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")
NEVER = timedelta(days=365)  # gloo wants some time-out


class _State:
    """The group for Python objects, and whether this process acts for all at the moment."""

    objects: Any = None
    alone = False


def start(device: torch.device) -> None:
    """Join the group that torchrun or `accelerate launch` has announced."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        _State.objects = distributed.new_group(backend="gloo", timeout=NEVER)


def rank() -> int:
    """This process's number."""
    return distributed.get_rank() if distributed.is_initialized() and not _State.alone else 0


def size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() and not _State.alone else 1


@contextmanager
def first_alone() -> Iterator[bool]:
    """Let the first process do something by itself, while the others wait at the end of the block.

    with first_alone() as mine:
        if mine:
            ...                     # here this process is the only one of its run: it waits for nobody
    """
    mine = rank() == 0
    _State.alone = mine and distributed.is_initialized()
    try:
        yield mine
    finally:
        _State.alone = False
        wait()


def share(items: Sequence[T]) -> list[T]:
    """This process's items of a list that all of them know."""
    return list(items[rank() :: size()])


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Add up every process's gradients in one flat exchange."""
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    if size() > 1:
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
    for p, grad in zip(parameters, grads, strict=True):
        p.grad = grad


def gather(value: T) -> list[T]:
    """Every process's value, in order, on every process."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    distributed.all_gather_object(values, value, group=_State.objects)
    return values


def sum_counts(counts: Mapping[str, Any]) -> Counter[str]:
    """Add up every process's counts."""
    total: Counter[str] = Counter()
    for part in gather(dict(counts)):
        total.update(part)
    return total


def wait() -> None:
    """Until all processes are here."""
    if size() > 1:
        distributed.barrier(group=_State.objects)
