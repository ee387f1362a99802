"""The optimizers and the schedule of both phases, and batches drawn ahead in another process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Optimization:
    """AdamW, and Muon for chosen matrices, with one schedule: a warm-up, then a cosine to a fiftieth.

    Muon learns the texts of the language model in a third of AdamW's steps. The vision tower learns more
    slowly with it, and it is not made for embeddings.
    """

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, steps: int, warmup: int, *, muon: Sequence[Tensor] = ()
    ):
        self.parameters = list(parameters)
        by_muon = {id(p) for p in muon}
        rest = [p for p in self.parameters if id(p) not in by_muon]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizers: list[Any] = [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)]
        if muon:
            self.optimizers.append(
                torch.optim.Muon(list(muon), lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
            )

        def share(step: int) -> float:
            cosine = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
            return min(1, (step + 1) / warmup) * cosine

        self.schedules = [torch.optim.lr_scheduler.LambdaLR(o, share) for o in self.optimizers]

    def step(self, loss: Tensor) -> None:
        """Change the parameters by the gradient of this loss, clipped to the norm 1."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


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
