"""Choose the next token of each row of a batch: the most likely one, or the one that its key draws.

    choice = KeyedChoice(noise_BT, sampling, student.banned_ids, rows=32, log_probs=True)
    ids_B = choice.choose(scores_BV, position)     # position 0 is the first sampled token
    choice.keep(rows_B)                            # the other rows have ended
    choice.log_p(row, length)                      # of the chosen tokens, before temperature and cuts

A token is drawn by inverting the distribution's sum at a number fixed beforehand for (seed, sample, draw,
position). So what is drawn does not depend on the batch in which a row happens to be.

Shapes: B rows, T positions, V vocabulary, K entries that top-k keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


class KeyedChoice:
    """The choices for one batch; `noise_BT` is None if they are greedy."""

    def __init__(
        self,
        noise_BT: Tensor | None,
        sampling: Sampling,
        banned: Sequence[int],
        *,
        rows: int,
        log_probs: bool = False,
    ):
        self._noise_BT, self._sampling, self._banned = noise_BT, sampling, list(banned)
        self._place, self._wanted = list(range(rows)), log_probs
        self._log_p: list[tuple[list[int], Tensor]] = []  # for each position: rows of the batch, values

    def choose(self, scores_BV: Tensor, position: int) -> Tensor:
        """The chosen ids (B,) at one position."""
        scores_BV = scores_BV.float()
        sums_B1 = scores_BV.logsumexp(-1, keepdim=True) if self._wanted else None
        scores_BV[:, self._banned] = -torch.inf
        if self._noise_BT is None:
            chosen_B = scores_BV.argmax(-1)
        else:
            chosen_B = sample_tokens(scores_BV, self._noise_BT[:, position], self._sampling)
        if sums_B1 is not None:
            self._log_p.append((self._place, (scores_BV.gather(1, chosen_B[:, None]) - sums_B1)[:, 0]))
        return chosen_B

    def keep(self, rows_B: Tensor) -> None:
        """Go on with these rows only."""
        self._place = [self._place[i] for i in rows_B.tolist()]
        if self._noise_BT is not None:
            self._noise_BT = self._noise_BT[rows_B]

    def log_p(self) -> list[list[float]]:
        """The log-probabilities of the chosen tokens of every row, also of those behind the end of a turn."""
        found: dict[int, list[float]] = {}
        for rows, values_B in self._log_p:
            for row, value in zip(rows, values_B.tolist(), strict=True):
                found.setdefault(row, []).append(value)
        return [found[row] for row in sorted(found)]


class ChoiceProcessor(LogitsProcessor):
    """Lets `generate`, run greedily, take the tokens that a KeyedChoice has chosen."""

    def __init__(self, choice: KeyedChoice, prompt_width: int):
        self._choice, self._width = choice, prompt_width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Scores (B, V) -> the same with one finite entry a row."""
        chosen_B = self._choice.choose(scores, input_ids.shape[1] - self._width)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen_B[:, None], 0.0)


def sample_tokens(logits_BV: Tensor, noise_B: Tensor, sampling: Sampling) -> Tensor:
    """Draw one token a row: temperature, then top-k, then top-p, as the engines of others do."""
    k = min(sampling.top_k or logits_BV.shape[-1], logits_BV.shape[-1])
    top_BK, ids_BK = (logits_BV / sampling.temperature).topk(k, dim=-1)
    p_BK = top_BK.softmax(-1)
    if sampling.top_p < 1:  # keep a token while those before it hold less than top_p
        p_BK = p_BK.masked_fill(p_BK.cumsum(-1) - p_BK >= sampling.top_p, 0.0)
    sums_BK = p_BK.double().cumsum(-1)
    threshold_B1 = noise_B[:, None].double() * sums_BK[:, -1:]
    position_B = (sums_BK <= threshold_B1).sum(-1).clamp(max=k - 1)
    return ids_BK.gather(1, position_B[:, None])[:, 0]
