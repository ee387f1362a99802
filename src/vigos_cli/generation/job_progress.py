"""Report the progress of a sampling job, also inside a batch, to the progress bar that is shown.

progress = JobProgress()
processor = progress.inside(prompt_width, stop_ids, max_new_tokens)   # a logits processor for `generate`
progress.finished(rollout)                                            # for each finished rollout
"""

from __future__ import annotations

import time

import torch
from torch import Tensor
from transformers import LogitsProcessor

from vigos_cli.types import Rollout
from vigos_cli.utils.progress import sampled

PAUSE = 0.5  # seconds between two counts inside a batch: counting waits for the GPU


class JobProgress:
    """Tokens and answers of a job, reported as they grow; an unfinished answer counts as a fraction."""

    def __init__(self) -> None:
        self._tokens, self._answers = 0, 0  # of finished rollouts
        self._told: tuple[int, float] = (0, 0.0)

    def finished(self, rollout: Rollout) -> None:
        """Count a finished rollout."""
        self._tokens += len(rollout.ids) or rollout.wrote
        self._answers += 1
        self._tell(self._tokens, self._answers)

    def inside(self, width: int, stop_ids: frozenset[int], most: int) -> _Inside:
        """A logits processor for a batch with prompts of `width` tokens and at most `most` new ones."""
        return _Inside(self, width, stop_ids, most)

    def running(self, tokens: int, answers: float) -> None:
        """Report the tokens of the batch that is sampled now, and how many of its answers are finished."""
        self._tell(self._tokens + tokens, self._answers + answers)

    def _tell(self, tokens: int, answers: float) -> None:
        before, self._told = self._told, (max(self._told[0], tokens), max(self._told[1], answers))
        sampled(self._told[0] - before[0], self._told[1] - before[1])


class _Inside(LogitsProcessor):
    """Changes no score; counts the tokens of the batch now and then."""

    def __init__(self, progress: JobProgress, width: int, stop_ids: frozenset[int], most: int):
        self._progress, self._width, self._stops, self._most = progress, width, sorted(stop_ids), most
        self._told = time.monotonic()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """The scores as they are."""
        self.count(input_ids[:, self._width :])
        return scores

    def count(self, ids_BT: Tensor) -> None:
        """Report the ids sampled so far, if the last report is some time ago."""
        if (now := time.monotonic()) - self._told >= PAUSE:
            self._told = now
            self._progress.running(*count_tokens(ids_BT, self._stops, self._most))


def count_tokens(ids_BT: Tensor, stop_ids: list[int], most: int) -> tuple[int, float]:
    """The tokens up to the end of each turn, and the share of the answers that is finished.

    An answer without an end counts as the share of the `most` tokens that it may have.
    """
    if not ids_BT.numel():
        return 0, 0.0
    ends_BT = torch.isin(ids_BT, torch.tensor(stop_ids, device=ids_BT.device))
    tokens_B = (ends_BT.cumsum(1) - ends_BT.long() == 0).sum(1)
    share_B = torch.where(ends_BT.any(1), 1.0, tokens_B / most)
    return int(tokens_B.sum()), float(share_B.sum())
