"""The exchange of gradients, counts and objects between the processes of one run.

Each process holds the whole model, or with `trainer.shard` a part of it. With one process, every function
returns its argument unchanged.

There are two groups of torch.distributed. Gradients use NCCL (gloo on the CPU) with its short time-out,
because all processes reach that exchange at about the same time. Python objects use gloo without a time-out,
because a process may have to wait long for another one that has more to sample, read or write. When a process
ends, its connections are closed, so the others do not wait for it.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch
from torch import Tensor, distributed

from vigos_cli.utils.errors import ConfigError

T = TypeVar("T")
NEVER = timedelta(days=365)  # gloo needs a time-out
TO_START = timedelta(minutes=5)  # for reading the configuration and importing the libraries


class _State:
    """The group for Python objects, whether this process acts alone, and the store of both groups."""

    objects: Any = None
    alone = False
    store: Any = None  # where the processes find each other; None: as the environment says


def use_store(store: Any) -> None:
    """Let `start` find the other processes in this store of torch.distributed."""
    _State.store = store


def start(device: torch.device) -> None:
    """Join the processes that torchrun, `accelerate launch` or submitit started."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and not distributed.is_initialized():
        _meet(count)
        where = {"store": _State.store, "rank": int(os.environ["RANK"]), "world_size": count}
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, **(where if _State.store else {}))
        _State.objects = distributed.new_group(backend="gloo", timeout=NEVER)


def _meet(count: int) -> None:
    """Wait until all processes are about to join, or raise torch's DistStoreError.

    One that has ended since its start would keep the others waiting in `init_process_group` for half an hour.
    """
    if _State.store:
        _State.store.set(f"here/{os.environ['RANK']}", "")
        _State.store.wait([f"here/{other}" for other in range(count)], TO_START)


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


def check_shared(folder: Path) -> None:
    """Raise a ConfigError, on all processes, if one of them does not see the folder of the first one.

    Every process reads checkpoints and earlier answers. One that read another folder would go on from another
    step than the first, and the processes would wait for each other.
    """
    if size() == 1:
        return
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / gather(f".seen-{uuid4().hex}")[0]
    if rank() == 0:
        mark.touch()
    wait()
    found = gather(None if _appears(mark) else socket.gethostname())
    if rank() == 0:
        mark.unlink()
    if blind := [f"process {i} on {host}" for i, host in enumerate(found) if host]:
        raise ConfigError(
            f"out={folder}: {', '.join(blind)} cannot see this folder of the first process: "
            "set out= to a folder that all machines share"
        )


def _appears(file: Path) -> bool:
    """Whether a file is there; a network file system may show it some seconds late."""
    for _ in range(20):
        if file.exists():
            return True
        time.sleep(0.25)
    return False


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


def fill_from_first(tensor: Tensor) -> None:
    """Give the tensor the values that it has in rank 0; all processes call this."""
    if size() > 1:
        distributed.broadcast(tensor.view(-1).view(torch.uint8), 0)  # bytes: gloo does not know every dtype


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
