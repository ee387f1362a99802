"""What the report says in words: figures as text, what a reader must know, what no figure here can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vigos_cli.ablation.arms import KINDS, Arm, Table, text
from vigos_cli.ablation.compare import Row, measures, says
from vigos_cli.evaluation.run_comparison import Difference
from vigos_cli.utils.stats import Estimate

NAMES = {
    "score": "Score",
    "prior": "Prior",
    "other": "Other",
    "description": "Description true",
    "valid": "Valid",
}
MEANINGS = {
    "score": "share of right answers where the picture contradicts the usual look",
    "prior": "share of right answers where the picture agrees with it",
    "other": "share of right answers to questions without a usual answer",
    "description": "share of descriptions of contradicting pictures that state the asked look as it is",
    "valid": "share of answers that hold the format",
}
KIND_NAMES = {
    "greedy": "Greedy answers",
    "sampled": "Sampled answers",
    "pass@n": "Pass@n, any of the sampled answers",
}


def kinds(rows: Sequence[Row]) -> list[str]:
    """The kinds of answers that there are."""
    return [kind for kind in KINDS if held(rows, kind)]


def held(rows: Sequence[Row], kind: str) -> list[str]:
    """The measures that there are of one kind of answers."""
    shown = measures([row.arm for row in rows])
    return [measure for measure in shown if any(row.means[kind][measure] for row in rows)]


def named(measure: str) -> str:
    """A measure's name in a table; a benchmark's is its own."""
    return NAMES.get(measure, measure)


def meaning(measure: str) -> str:
    """What it is the share of."""
    return MEANINGS.get(measure, "share of right answers")


def mean_text(estimate: Estimate | None) -> str:
    """A mean and its interval."""
    return "-" if estimate is None else f"{estimate.mean:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def palr_text(estimate: Estimate | None) -> str:
    """PALR with its interval; it may be tiny and above zero."""
    if estimate is None:
        return "no teacher"
    return f"{_short(estimate.mean)} [{_short(estimate.low)}, {_short(estimate.high)}]"


def nats(value: float | None) -> str:
    """A pull, to two digits."""
    return "-" if value is None else f"{value:.2g}"


def _short(value: float) -> str:
    return f"{value:.1e}" if 0 < value < 0.0005 else f"{value:.3f}" if value else "0"


def difference_text(difference: Difference | None) -> str:
    """A difference with its interval and corrected p."""
    if difference is None:
        return "-"
    p = "p < 0.001" if difference.p_holm < 0.001 else f"p = {difference.p_holm:.2g}"
    return f"{difference.mean:+.3f} [{difference.low:+.2f}, {difference.high:+.2f}], {p}"


def in_short(rows: Sequence[Row], base: Arm) -> list[str]:
    """What the first measure, greedy, says of each arm against the reference, a sentence each."""
    first = measures([row.arm for row in rows])[0]
    lines = []
    for row in rows:
        if found := row.differences["greedy"].get(first):
            verdict = {
                "higher": "higher",
                "lower": "lower",
                "interval spans zero": "no difference shown: the interval spans zero",
            }.get(says(found), "no difference shown: not significant after correction")
            lines.append(
                f"{row.arm.label}: {named(first)} {found.mean:+.3f} [{found.low:+.2f}, {found.high:+.2f}] "
                f"against {base.label}, {verdict}"
            )
    return lines


def warnings(table: Table) -> list[str]:
    """What a reader must know before the figures."""
    found = []
    counts = {
        state: sum(cell.state == state for cell in table.cells)
        for state in ("failed", "cut short", "not run")
    }
    for state, count in counts.items():
        if count:
            found.append(f"{count} of {len(table.cells)} cells: {state}; the figures are of the others")
    seeds = [len(arm.runs) for arm in table.arms if arm.trained]
    if min(seeds) < 3:
        found.append(
            "arms with fewer than three seeds: their intervals are over questions only, not over seeds"
        )
    if len(set(seeds)) > 1:
        found.append(
            "the arms have different numbers of seeds; differences are over the seeds that both have"
        )
    commits = {run.summary.get("commit") for arm in table.arms for run in arm.runs if run.summary}
    if len(commits) > 1:
        found.append(
            "the cells were made by different states of the program: " + ", ".join(map(str, commits))
        )
    if len({cell.config["model"]["path"] for cell in table.cells}) > 1:
        found.append("several models: the difference between them is part of every difference between arms")
    return found


def made(table: Table) -> dict[str, str]:
    """What made the runs."""
    summary = next(run.summary for arm in table.arms for run in arm.runs if run.summary)
    versions = summary.get("versions", {})
    seconds = [sum(phases(run.summary)) for arm in table.arms for run in arm.runs if run.summary]
    return {
        "commit": text(summary.get("commit")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "device": text(summary.get("device")),
        "minutes": f"{sum(seconds) / len(seconds) / 60:.1f} a run on average, {sum(seconds) / 60:.0f} in all",
    }


def phases(summary: Mapping[str, Any]) -> list[float]:
    """The seconds of a run by phase, each second once."""
    return [value for phase, value in summary.get("seconds", {}).items() if phase != "loss"]  # part of learn


def limits(table: Table) -> list[str]:
    """What no figure here can tell, whatever it is."""
    world = (
        "PriorWorld is a constructed test bed: small drawn pictures of things with a usual look. It shows "
        "what a method does there, never how large an effect is on photographs or on the paper's benchmarks."
    )
    return [
        *([world] if table.samples else []),
        "One model is behind all arms: seeds vary the order of the data, the rollouts and the adapter's "
        "start, not the pretraining.",
        "Few questions and few seeds make wide intervals. A difference whose interval spans zero is no "
        "difference shown, which is not the same as no difference.",
        "Arms share their learning rate, steps and clip unless these were varied. An arm that would do "
        "better with others is not shown at its best.",
    ]
