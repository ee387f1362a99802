"""Optimizer and schedule of both phases, and batches drawn ahead in another process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def optimizer_and_schedule(parameters: list[Tensor], lr: float, steps: int, warmup: int):
    """AdamW with weight decay on matrices; cosine to a fiftieth."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * s / steps)))
    )


@dataclass(frozen=True, slots=True)
class Steps(torch.utils.data.Dataset[Any]):
    """What `draw` gives for each step."""

    draw: Callable[[int], Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Any:
        return self.draw(step)


def ahead(draw: Callable[[int], Any], count: int) -> Iterable[Any]:
    """`draw(0)`, `draw(1)`, ... drawn by another process while the one before is learned from."""
    return torch.utils.data.DataLoader(Steps(draw, count), batch_size=None, num_workers=1, prefetch_factor=4)
