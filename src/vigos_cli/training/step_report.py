"""The report of one step: its line of metrics.jsonl, summed over all processes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import isfinite
from typing import Any

from vigos_cli.config.schema import RoutingConfig
from vigos_cli.method.losses import TokenStats
from vigos_cli.method.routing import fallback_teachers
from vigos_cli.models.peak_memory import peak_gib
from vigos_cli.supervision.contexts import Supervised
from vigos_cli.supervision.loss_calls import Call
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.rollout_grading import is_right
from vigos_cli.training.learner import Learner
from vigos_cli.training.sampler_gap import SamplerGap
from vigos_cli.utils import process_group


class StepReport:
    """Collects the figures of one step: create it before the step, and call `line` after the step."""

    def __init__(self, learner: Learner, routing: RoutingConfig) -> None:
        self.learner, self.routing = learner, routing
        self.seconds_before = learner.seconds.copy()
        self.loss: defaultdict[str, float] = defaultdict(float)  # by teacher or target
        self.tokens: Counter[str] = Counter()  # supervised tokens by kind
        self.sums: defaultdict[str, float] = defaultdict(float)  # divergence by kind; clipped, silent tokens
        self.gap = SamplerGap()

    def add(self, call: Call, loss: float, stats: TokenStats, rows: Sequence[Supervised]) -> None:
        """Add the tokens of one call in the micro-batch `rows`."""
        self.gap.add(call, stats, rows)
        self.loss[call.by] += loss
        kinds = [term.kind for term in call.terms]
        for kind, value in zip(kinds, stats.divergence_N.tolist(), strict=True):
            self.tokens[kind] += 1
            self.sums[kind] += value
        self.sums["clipped"] += float(stats.clipped_N.sum())
        self.sums["silent"] += float(stats.silent_N.sum())
        self.tokens["all"] += len(kinds)

    def line(
        self,
        prepared: Sequence[Prepared],
        rows: Sequence[Supervised],
        counts: Counter[str],
        *,
        lr: float,
        grad_norm: float,
    ) -> dict[str, Any]:
        """Return the line of the step just taken, and add what was counted in it to the counts of the run."""
        counts.update(_rollout_counts(rows))
        counts = process_group.sum_counts(counts)
        self.learner.counts.update(counts)
        seconds = {phase: total - self.seconds_before[phase] for phase, total in self.learner.seconds.items()}
        sampled = sum(len(row.rollout.ids) for row in rows)
        rates = {phase: round(sampled / s, 1) if s > 0 else None for phase, s in seconds.items()}
        return {
            "step": self.learner.step,
            "lr": lr,
            "grad_norm": grad_norm if isfinite(grad_norm) else None,
            **_describe_rollouts(prepared, rows, fallback_teachers(self.routing)),
            **self._describe_loss(),
            **self.gap.figures(),
            **{f"seconds/{phase}": round(value, 4) for phase, value in seconds.items()},
            **{f"tokens_per_second/{phase}": rate for phase, rate in rates.items()},
            **{f"counts/{name}": value for name, value in counts.items() if value},
            "peak_gib": peak_gib(self.learner.student.device),
        }

    def _describe_loss(self) -> dict[str, float]:
        """Loss by teacher, divergence by kind, shares of clipped tokens and of tokens without gradient."""
        loss = process_group.sum_counts(self.loss)
        sums, tokens = process_group.sum_counts(self.sums), process_group.sum_counts(self.tokens)
        supervised = tokens.pop("all", 0)
        line = {f"loss/{by}": value for by, value in sorted(loss.items())}
        line["loss"] = sum(loss.values())
        line |= {f"divergence/{kind}": sums[kind] / n for kind, n in sorted(tokens.items())}
        if supervised:
            line["clip_rate"] = sums["clipped"] / supervised
            line["zero_gradient_rate"] = sums["silent"] / supervised
        line["supervised_tokens"] = supervised
        return line


def _rollout_counts(rows: Sequence[Supervised]) -> Counter[str]:
    """Invalid rollouts by reason, and rollouts that met the length limit."""
    counts: Counter[str] = Counter()
    for row in rows:
        if not row.segments.valid:
            counts[f"invalid_{row.segments.reason}"] += 1
        counts["length_limit"] += not row.rollout.finished
    return counts


def _describe_rollouts(
    prepared: Sequence[Prepared], rows: Sequence[Supervised], fallback: frozenset[str]
) -> dict[str, float]:
    """Valid, fallback and cut-off rates, accuracy and lengths of a step's rollouts."""
    samples = {item.key: item.sample for item in prepared}
    sums = Counter(rollouts=0)
    for row in rows:
        sums["rollouts"] += 1
        sums["valid"] += row.segments.valid
        sums["fallback"] += any(term.by in fallback for term in row.terms)
        sums["right"] += is_right(samples[row.rollout.sample_id], row.segments)
        sums["cut_off"] += not row.rollout.finished
        sums["tokens"] += len(row.rollout.ids)
    sums = process_group.sum_counts(sums)
    n = sums["rollouts"]
    if n == 0:
        return {"rollouts": 0}
    return {
        "rollouts": n,
        "valid_rate": sums["valid"] / n,
        "fallback_rate": sums["fallback"] / n,
        "answer_accuracy": sums["right"] / n,
        "cut_off_rate": sums["cut_off"] / n,
        "tokens_per_rollout": sums["tokens"] / n,
    }
