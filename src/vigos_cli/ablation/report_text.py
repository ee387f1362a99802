"""Texts of a sweep's report: numbers as text, summary sentences, warnings and limitations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vigos_cli.ablation.arms import ANSWERS, Arm, SweepResults, override_text
from vigos_cli.ablation.compare_arms import ArmRow, measures, verdict_on
from vigos_cli.evaluation.run_comparison import Difference
from vigos_cli.utils.stats import IntervalEstimate, crossed

NAMES = {
    "score": "Score",
    "prior": "Prior",
    "other": "Other",
    "description": "Description true",
    "valid": "Valid",
}
MEANINGS = {
    "score": "share of right answers where the picture contradicts the usual look",
    "prior": "share of right answers where the picture agrees with the usual look",
    "other": "share of right answers to questions about things that have no usual look",
    "description": "share of descriptions of contradicting pictures that state correctly what is asked for",
    "valid": "share of answers with a valid format",
}
ANSWER_NAMES = {
    "greedy": "Greedy answers",
    "sampled": "Sampled answers",
    "pass@n": "Pass@n: any of the sampled answers is right",
}


def answer_kinds(rows: Sequence[ArmRow]) -> list[str]:
    """The kinds of answers for which there are numbers."""
    return [kind for kind in ANSWERS if measures_of(rows, kind)]


def measures_of(rows: Sequence[ArmRow], kind: str) -> list[str]:
    """The measures for which there are numbers on one kind of answers."""
    shown = measures([row.arm for row in rows])
    return [measure for measure in shown if any(row.means[kind][measure] for row in rows)]


def runs_text(arm: Arm) -> str:
    """The number of an arm's runs, and of the models that they start from if these are several."""
    if not arm.trained:
        return "-"
    models = len({run.base for run in arm.runs})
    return str(len(arm.runs)) + (f" ({models} models)" if models > 1 else "")


def measure_name(measure: str) -> str:
    """A measure's name in a table; a benchmark's measure keeps its own name."""
    return NAMES.get(measure, measure)


def measure_meaning(measure: str) -> str:
    """What a measure is the share of."""
    return MEANINGS.get(measure, "share of right answers")


def mean_text(estimate: IntervalEstimate | None) -> str:
    """A mean and its interval."""
    return "-" if estimate is None else f"{estimate.mean:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def palr_text(estimate: IntervalEstimate | None) -> str:
    """PALR with its interval; a value that is tiny but not zero is not rounded to zero."""
    if estimate is None:
        return "no teacher"
    return f"{_short(estimate.mean)} [{_short(estimate.low)}, {_short(estimate.high)}]"


def nats(value: float | None) -> str:
    """A pull in nats per token, to two digits."""
    return "-" if value is None else f"{value:.2g}"


def _short(value: float) -> str:
    return f"{value:.1e}" if 0 < value < 0.0005 else f"{value:.3f}" if value else "0"


def difference_text(difference: Difference | None) -> str:
    """A difference with its interval and its corrected p."""
    if difference is None:
        return "-"
    p = "p < 0.001" if difference.p_holm < 0.001 else f"p = {difference.p_holm:.2g}"
    return f"{difference.mean:+.3f} [{difference.low:+.2f}, {difference.high:+.2f}], {p}"


def difference_cell(row: ArmRow, base: Arm, kind: str, measure: str) -> str:
    """A cell of a table without markup: a difference and its verdict, or "reference"."""
    if row.arm is base:
        return "reference"
    found = row.differences[kind].get(measure)
    return difference_text(found) + (f", {verdict_on(found)}" if found else "")


def main_results(rows: Sequence[ArmRow], base: Arm) -> list[str]:
    """A sentence per arm: its difference from the reference in the first measure of the greedy answers."""
    first = measures([row.arm for row in rows])[0]
    lines = []
    for row in rows:
        if found := row.differences["greedy"].get(first):
            verdict = {
                "higher": "higher",
                "lower": "lower",
                "interval spans zero": "no difference shown: the interval spans zero",
            }.get(verdict_on(found), "no difference shown: not significant after correction")
            interval = f"[{found.low:+.2f}, {found.high:+.2f}]"
            lines.append(
                f"{row.arm.label}: {measure_name(first)} {found.mean:+.3f} {interval} against {base.label}, "
                f"{verdict}"
            )
    return lines


def warnings(results: SweepResults) -> list[str]:
    """Warnings for the reader: missing or stopped cells, few seeds, different versions or models."""
    found = []
    for state in ("failed", "cut short", "not run"):
        if count := sum(cell.state == state for cell in results.cells):
            found.append(f"{count} of {len(results.cells)} cells: {state}; the results do not include them")
    trained = [arm for arm in results.arms if arm.trained]
    runs = [run for arm in trained for run in arm.runs]
    for arm in trained:
        if arm.untrained:
            found.append(
                f"arm {arm.label}: {'; '.join(arm.untrained)} in the context that it reads, by the card of "
                "the model; the arm is no evidence about the method"
            )
    if stopped := [run.folder for run in runs if run.summary.get("stopped")]:
        found.append(
            f"{len(stopped)} of {len(results.cells)} cells were stopped early because the model collapsed; "
            f"the results include them: {', '.join(stopped)}"
        )
    seeds = [len(arm.runs) for arm in trained]
    if not all(crossed([run.base for run in arm.runs]) for arm in trained):
        found.append("some arms have fewer than three seeds: their intervals cover questions only, not seeds")
    if len(set(seeds)) > 1:
        found.append(
            "the arms have different numbers of seeds: a difference uses the seeds that both arms have"
        )
    commits = {run.summary.get("commit") for arm in results.arms for run in arm.runs if run.summary}
    if len(commits) > 1:
        found.append(
            "the cells were made by different versions of the program: " + ", ".join(map(str, commits))
        )
    if len({cell.config["model"]["path"] for cell in results.cells}) > 1 and len(bases(results)) < 2:
        found.append(
            "there are several models: differences between arms include the difference between models"
        )
    return found


def bases(results: SweepResults) -> set[str]:
    """The models, or other values of `repeat_over`, that the runs of the arms started from."""
    return {run.base for arm in results.arms for run in arm.runs}


def how_it_was_made(results: SweepResults) -> dict[str, str]:
    """Commit, versions, device and time of the runs."""
    summary = next(run.summary for arm in results.arms for run in arm.runs if run.summary)
    versions = summary.get("versions", {})
    seconds = [run_seconds(run.summary) for arm in results.arms for run in arm.runs if run.summary]
    return {
        "commit": override_text(summary.get("commit")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "device": override_text(summary.get("device")),
        "minutes": f"{sum(seconds) / len(seconds) / 60:.1f} a run (mean), {sum(seconds) / 60:.0f} in total",
    }


def run_seconds(summary: Mapping[str, Any]) -> float:
    """The seconds of a run; the phase "loss" is not added, because it is part of "learn"."""
    return sum(value for phase, value in summary.get("seconds", {}).items() if phase != "loss")


def limitations(results: SweepResults) -> list[str]:
    """What no number of the report can show."""
    many = len(bases(results))
    world = (
        "PriorWorld is a constructed test bed: small drawn pictures of things that have a usual look. It "
        "shows what a method does on such pictures. It does not show how large an effect is on photographs "
        "or on the paper's benchmarks."
    )
    return [
        *([world] if results.samples else []),
        f"All arms start from {f'the same {many} models' if many > 1 else 'one model'}. Seeds change the "
        "order of the data, the rollouts and the start of the adapter; they do not change the pretraining.",
        "Few questions and few seeds make wide intervals. If an interval spans zero, no difference is shown; "
        "this does not mean that there is none.",
        "All arms use the same learning rate, steps and clip unless these were varied. An arm may do better "
        "with other values.",
    ]
