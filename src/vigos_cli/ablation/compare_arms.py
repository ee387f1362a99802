"""Each arm's means over its runs, and its paired difference from the reference arm.

    rows = compare_arms(sweep.arms, reference="vigos")
    rows[1].means["greedy"]["score"]          # IntervalEstimate over runs and questions
    rows[1].differences["greedy"]["score"]    # Difference from the reference on the same items and seeds

The interval is a bootstrap over bases (see `repeat_over`), seeds and questions; fewer than three bases, or
seeds of a base, are not resampled. The test sums the differences of a question over its pictures and over
all runs, and flips the signs of these sums at random. Holm's correction is over the arms, separately for each
measure and kind of answer. The main result is the first measure of the greedy answers. An arm is called
higher or lower only if the interval excludes zero and the corrected p is below 0.05.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vigos_cli.ablation.arms import ANSWERS, Arm, Items, Run
from vigos_cli.evaluation.run_comparison import Difference, holm, sign_flips
from vigos_cli.utils.errors import ConfigError, nearest
from vigos_cli.utils.stats import IntervalEstimate, crossed_difference, crossed_interval

WORLD = (
    "score",
    "prior",
    "other",
    "description",
    "valid",
)  # PriorWorld's measures, in the order of the table
UNTESTED = ("valid",)  # measures that are shown without a difference
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm in the table; the reference arm has no differences. Keys: kind of answer, then measure."""

    arm: Arm
    means: dict[str, dict[str, IntervalEstimate | None]]
    differences: dict[str, dict[str, Difference]]


def compare_arms(arms: Sequence[Arm], reference: str | None = None) -> list[ArmRow]:
    """One row per arm. Raises ConfigError if no arm has the label `reference`."""
    base = find_reference(arms, reference)
    shown, rows = measures(arms), []
    for arm in arms:
        means = {kind: {measure: _mean(arm.runs, kind, measure) for measure in shown} for kind in ANSWERS}
        found: dict[str, dict[str, Difference]] = {kind: {} for kind in ANSWERS}
        if base is not None and arm is not base:
            for kind in ANSWERS:
                for measure in compared(shown):
                    if difference := _difference(arm, base, kind, measure):
                        found[kind][measure] = difference
        rows.append(ArmRow(arm, means, found))
    return _corrected(rows, compared(shown))


def measures(arms: Sequence[Arm]) -> tuple[str, ...]:
    """All measures that any arm has, PriorWorld's first. The first one is the main result."""
    found = dict.fromkeys(m for arm in arms for run in arm.runs for kind in ANSWERS for m in run.kinds[kind])
    return tuple([m for m in WORLD if m in found] + sorted(found.keys() - {*WORLD, "capture"}))


def compared(shown: Sequence[str]) -> tuple[str, ...]:
    """The measures for which differences between arms are tested."""
    return tuple(measure for measure in shown if measure not in UNTESTED)


def find_reference(arms: Sequence[Arm], label: str | None) -> Arm | None:
    """The arm with this label; without a label the first arm that was trained. Raises ConfigError."""
    if label is None:
        return next((arm for arm in arms if arm.trained), None)
    labels = {arm.label: arm for arm in arms}
    if label not in labels:
        raise ConfigError(f"reference={label}: {nearest(label, labels)}choose one of {'; '.join(labels)}")
    return labels[label]


def verdict_on(difference: Difference) -> str:
    """The verdict on a difference: "higher", "lower", or the reason why it shows no difference."""
    if difference.low <= 0 <= difference.high:
        return "interval spans zero"
    if difference.p_holm >= LEVEL:
        return "not significant after correction"
    return difference.says


def _mean(runs: Sequence[Run], kind: str, measure: str) -> IntervalEstimate | None:
    cells = []
    for run in runs:
        clusters: dict[Hashable, list[float]] = {}
        for cluster, values in run.kinds[kind].get(measure, {}).values():
            clusters.setdefault(cluster, []).extend(values)
        cells.append(clusters)
    return crossed_interval(cells, bases=[run.base for run in runs])


def _difference(arm: Arm, base: Arm, kind: str, measure: str) -> Difference | None:
    """The difference over the runs that both arms have; the untrained model is paired with every seed."""
    sides = _side_by_side(arm.runs, base.runs)
    made = [paired(a.kinds[kind].get(measure, {}), b.kinds[kind].get(measure, {})) for a, b in sides]
    pairs = [pair for pair in made if pair]
    estimate = crossed_difference(
        [{cluster: [a - b for a, b in items] for cluster, items in pair.items()} for pair in pairs],
        bases=[a.base for (a, _), pair in zip(sides, made, strict=True) if pair],
    )
    if estimate is None:
        return None
    flat = [item for pair in pairs for items in pair.values() for item in items]
    sums: dict[Hashable, float] = {}
    for pair in pairs:
        for cluster, items in pair.items():
            sums[cluster] = sums.get(cluster, 0.0) + sum(a - b for a, b in items)
    p = sign_flips(np.array(list(sums.values())))
    return Difference(
        bench=measure,
        answers=kind,
        first=float(np.mean([b for _, b in flat])),
        other=float(np.mean([a for a, _ in flat])),
        low=estimate.low,
        high=estimate.high,
        items=len(flat),
        p=p,
        p_holm=p,
        test="question sign flips",
    )


def _side_by_side(one: Sequence[Run], two: Sequence[Run]) -> list[tuple[Run, Run]]:
    """The runs of the same base and seed in two arms; one without a seed belongs to every seed."""
    return [
        (a, b)
        for a in one
        for b in two
        if a.base == b.base and (a.seed == b.seed or None in (a.seed, b.seed))
    ]


def paired(one: Items, two: Items) -> dict[Hashable, list[tuple[float, float]]]:
    """Map each cluster to pairs of means: one pair for every item that both runs have."""
    pairs: dict[Hashable, list[tuple[float, float]]] = {}
    for item in one.keys() & two.keys():
        (cluster, first), (_, second) = one[item], two[item]
        pairs.setdefault(cluster, []).append((float(np.mean(first)), float(np.mean(second))))
    return dict(sorted(pairs.items(), key=lambda pair: str(pair[0])))


def _corrected(rows: Sequence[ArmRow], columns: Sequence[str]) -> list[ArmRow]:
    """Holm's correction over the arms, for each kind of answer and each measure."""
    found = {kind: dict[str, list[Difference | None]]() for kind in ANSWERS}
    for kind in ANSWERS:
        for measure in columns:
            column = [row.differences[kind].get(measure) for row in rows]
            corrected = iter(holm([d.p for d in column if d]))
            found[kind][measure] = [d and replace(d, p_holm=next(corrected)) for d in column]
    return [
        replace(
            row,
            differences={
                kind: {measure: d for measure, column in found[kind].items() if (d := column[i])}
                for kind in ANSWERS
            },
        )
        for i, row in enumerate(rows)
    ]
