"""How far the sampler's log-probabilities are from those of the trainer, token by token.

    gap = SamplerGap()
    gap.add(call, stats, rows)                # for each call of each micro-batch
    line |= gap.figures()                     # sampler_gap/mean, sampler_gap/max, in nats
    watch = GapWatch(config, lines)           # the lines of metrics.jsonl; a resumed run does not warn again
    watch.warn(line)                          # one line on stderr at the first step above the threshold
    summary["sampler_gap"] = whole_gap(lines)

Both sides are log-probabilities of the sampled token, before temperature and cuts. They would be equal if the
sampler computed exactly as the trainer does. A small gap comes from other kernels and from the rounding of
16-bit numbers. A large one means that the rollouts are not those of the student: the sampler has other
weights (a server with 16-bit weights beside a 4-bit student, or an old adapter) or reads another picture.

Only supervised tokens are compared, because only their log-probabilities are known to the trainer anyway.
Completions that were not sampled (the control `sft`, a dry run) have no gap.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vigos_cli.config.schema import DistillRun
from vigos_cli.method.losses import TokenStats
from vigos_cli.supervision.contexts import Supervised
from vigos_cli.supervision.loss_calls import Call
from vigos_cli.utils import process_group

MEAN, MOST, TOKENS = "sampler_gap/mean", "sampler_gap/max", "sampler_gap/tokens"
HIGH = 0.05  # nats per token on average


class SamplerGap:
    """Collects the gap of one step."""

    def __init__(self) -> None:
        self._sum, self._most, self._tokens = 0.0, 0.0, 0

    def add(self, call: Call, stats: TokenStats, rows: Sequence[Supervised]) -> None:
        """Add the tokens of one call whose sampler has told their log-probabilities."""
        for (b, i), ours in zip(call.tokens, stats.student_logp_N.tolist(), strict=True):
            if told := rows[b].rollout.log_p:
                gap = abs(told[i] - ours)
                self._sum, self._most, self._tokens = self._sum + gap, max(self._most, gap), self._tokens + 1

    def figures(self) -> dict[str, float]:
        """Mean and maximum over all processes, in nats, and the number of tokens; empty without tokens."""
        parts = process_group.gather((self._sum, self._most, self._tokens))
        tokens = sum(n for _, _, n in parts)
        if not tokens:
            return {}
        return {
            MEAN: sum(total for total, _, _ in parts) / tokens,
            MOST: max(most for _, most, _ in parts),
            TOKENS: tokens,
        }


def whole_gap(lines: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
    """Mean and maximum over a whole run, and the number of tokens; None if no sampler told anything."""
    found = [(line[MEAN], line[MOST], line[TOKENS]) for line in lines if MEAN in line]
    tokens = sum(n for _, _, n in found)
    if not tokens:
        return None
    mean = sum(mean * n for mean, _, n in found) / tokens
    return {"mean": mean, "max": max(most for _, most, _ in found), "tokens": tokens}


class GapWatch:
    """Warns once when the mean gap of a step is above `HIGH`; `lines` are the steps before a resume.

    With `adapter.dropout` the trainer's numbers are those of a student with other units dropped in each pass,
    so their distance from the sampler's says nothing, and nothing is printed.
    """

    def __init__(self, config: DistillRun, lines: Iterable[Mapping[str, Any]] = ()):
        self._config = config
        self._done = bool(config.adapter.dropout) or any(line.get(MEAN, 0.0) > HIGH for line in lines)

    def warn(self, line: Mapping[str, Any]) -> None:
        """Print the warning on stderr, if this step is the first above the threshold."""
        if self._done or line.get(MEAN, 0.0) <= HIGH:
            return
        self._done = True
        print(
            f"vigos: step {line['step']}: the sampler's log-probabilities are {line[MEAN]:.2g} nats per "
            f"token from the trainer's (more than {HIGH:g}), so the rollouts are not its own: "
            f"{_likely(self._config)}",
            file=sys.stderr,
        )


def _likely(config: DistillRun) -> str:
    """The likeliest reason under this configuration, and what to change."""
    served = config.rollout.name == "vllm"
    if served and config.adapter.quantise == "nf4":
        return "the server has 16-bit weights and the student 4-bit ones; adapter=lora trains in 16 bit too"
    if served:
        return "does the server have the same dtype (vllm serve --dtype) and picture size?"
    if config.model.dtype in ("float16", "bfloat16", "auto"):
        return "16-bit kernels differ; model.dtype=float32 shows whether that is the reason"
    return "this should not happen in process with float32: please report it"
