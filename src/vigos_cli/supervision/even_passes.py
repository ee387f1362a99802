"""Let all processes make the same number of passes, in the same order, if they share one split model.

    for micro in even_batches(student, micro_batches(rows, size), []):     # as many in every process
        for name in even_names(student, ["perception", "reasoning"]):      # the same names in every process
            ...                                                            # a pass; an idle one without rows
        loss = zero_loss(hidden_BTH, idle=not micro)

With `trainer.shard` each pass is an exchange of all processes: one that made a pass fewer than the others
would let them wait forever. But the numbers differ: one process has an invalid rollout, which another teacher
reads, or fewer rollouts that are supervised. So a process without rows for a pass reads one token instead
(`Student.idle_pass`), which has no effect on the gradient. If each process has the whole model, nothing is
exchanged, and the functions return what they are given.

Shapes: B rows, T tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from vigos_cli.models.student import Student
from vigos_cli.utils import process_group

T = TypeVar("T")


def even_batches(student: Student, batches: Sequence[T], empty: T) -> list[T]:
    """The micro-batches of this process, followed by empty ones up to the largest number of any process."""
    most = max(process_group.gather(len(batches))) if student.sharded else len(batches)
    return [*batches, *[empty] * (most - len(batches))]


def even_names(student: Student, names: Sequence[str]) -> list[str]:
    """The names of the teachers of any process, sorted; without a split model only this process's own."""
    every = process_group.gather(list(names)) if student.sharded else [names]
    return sorted({name for of_process in every for name in of_process})


def zero_loss(hidden_BTH: Tensor, *, idle: bool) -> Tensor:
    """Zero, to which a micro-batch adds its losses. An idle pass has none, but needs a backward pass too."""
    return 0 * hidden_BTH.float().sum() if idle else hidden_BTH.new_zeros((), dtype=torch.float32)
