"""The exchange of gradients, counts and objects between the processes of one run.

Each process holds the whole model. With one process, every function returns its argument unchanged.

There are two groups of torch.distributed. Gradients use NCCL (gloo on the CPU) with its short time-out,
because all processes reach that exchange at about the same time. Python objects use gloo without a time-out,
because a process may have to wait long for another one that has more to sample, read or write. When a process
ends, its connections are closed, so the others do not wait for it.
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
NEVER = timedelta(days=365)  # gloo needs a time-out


class _State:
    """The group for Python objects, and whether this process currently acts alone."""

    objects: Any = None
    alone = False


def start(device: torch.device) -> None:
    """Join the processes that torchrun or `accelerate launch` started."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        _State.objects = distributed.new_group(backend="gloo", timeout=NEVER)


def rank() -> int:
    """The rank of this process."""
    return distributed.get_rank() if distributed.is_initialized() and not _State.alone else 0


def size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() and not _State.alone else 1


@contextmanager
def first_alone() -> Iterator[bool]:
    """Let rank 0 do something alone, while the others wait at the end of the block.

    with first_alone() as mine:
        if mine:
            ...                     # here size() is 1, and no function waits for other processes
    """
    mine = rank() == 0
    _State.alone = mine and distributed.is_initialized()
    try:
        yield mine
    finally:
        _State.alone = False
        wait()


def share(items: Sequence[T]) -> list[T]:
    """The items of this process, from a list that all processes have."""
    return list(items[rank() :: size()])


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace all gradients by their sums over the processes, in one exchange."""
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    if size() > 1:
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
    for p, grad in zip(parameters, grads, strict=True):
        p.grad = grad


def gather(value: T) -> list[T]:
    """The values of all processes in the order of ranks, on every process."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    distributed.all_gather_object(values, value, group=_State.objects)
    return values


def sum_counts(counts: Mapping[str, Any]) -> Counter[str]:
    """The sums of the counts over all processes."""
    total: Counter[str] = Counter()
    for part in gather(dict(counts)):
        total.update(part)
    return total


def wait() -> None:
    """Wait until all processes have called this function."""
    if size() > 1:
        distributed.barrier(group=_State.objects)
