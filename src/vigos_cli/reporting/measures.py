"""Choose the measures of an evaluation that a report shows, and write them as text.

    >>> format_measure({"score": 0.9, "interval": {"score": (0.85, 0.94)}, "n": {"score": 120}}, "score")
    '0.900 [0.85, 0.94] n=120'

PriorWorld has measures of its own (`LABELS`): each a plain number, its interval and n in separate fields. Any
other benchmark has one mapping for each measure, with `mean`, `low`, `high` (a 95 % interval) and `n`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = {
    "score": "right answers where the picture contradicts the usual look",
    "prior": "right answers where the picture agrees with the usual look",
    "other": "right answers to questions without a usual answer",
    "description": "descriptions of contradicting pictures that state the asked look correctly",
    "capture": "answers that give the usual look where the picture contradicts it",
    "valid": "answers in the required format",
}
DRAW_FIGURES = {  # figures about the draws of an item, for all benchmarks
    "vote": "majority vote",
    "agreement": "agreement",
    "cut_off": "cut off",
    "tokens": "tokens per answer",
    "tokens_per_right": "tokens per right answer",
}
HEADLINES = ("accuracy", "score", "prior")  # measures of another benchmark that are shown, if it has them
FURTHER = {  # and these, of its greedy answers
    "valid": "answers in the required format",
    "tokens": "tokens per answer",
    "cut_off": "cut off",
    "leakage": "descriptions that state the answer",
}

Spread = tuple[float, float, float]  # mean, and both ends of its 95 % interval


def format_measure(report: Mapping[str, Any], name: str) -> str:
    """A measure of PriorWorld as text: mean, interval and n."""
    mean, interval = report[name], report["interval"][name]
    if mean is None:
        return "-"
    return f"{mean:.3f} [{interval[0]:.2f}, {interval[1]:.2f}] n={report['n'][name]}"


def format_share(share: Mapping[str, Any] | None) -> str:
    """A measure of another benchmark as text: mean and interval."""
    if not share:
        return "-"
    interval = "" if share["low"] is None else f" [{share['low']:.3f}, {share['high']:.3f}]"
    return f"{share['mean']:.3f}{interval}"


def format_figure(figure: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Mean, interval and n of a share, or of a number of tokens (more than 1); "-" if it is not known."""
    if not figure:
        return "-", "", ""
    digits = 3 if figure["mean"] <= 1 else 1
    low, high = figure["low"], figure["high"]
    interval = "" if low is None else f"[{low:.{digits}f}, {high:.{digits}f}]"
    return f"{figure['mean']:.{digits}f}", interval, f"n={figure['n']}"


def before_and_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[list[str]]:
    """One row for each measure and kind of answers: measure, kind, value before, value after."""
    rows = []
    if "score" in after:
        for kind, (then, now) in _kinds(before, after).items():
            rows += [[name, kind, format_measure(then, name), format_measure(now, name)] for name in LABELS]
    for bench, measured in after.get("benches", {}).items():
        for kind, (then, now) in _kinds(before["benches"][bench], measured).items():
            for name in HEADLINES:
                if isinstance(now.get(name), Mapping):
                    rows.append([f"{bench}, {name}", kind, _with_n(then.get(name)), _with_n(now[name])])
            for name, label in FURTHER.items() if kind == "greedy" else ():
                if now.get(name):
                    values = (" ".join(filter(None, format_figure(part.get(name)))) for part in (then, now))
                    rows.append([f"{bench}, {label}", kind, *values])
    return rows


def _kinds(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    kinds: dict[str, tuple[Any, Any]] = {"greedy": (before, after)}
    return kinds | ({"sampled": (before["sampled"], after["sampled"])} if "sampled" in after else {})


def _with_n(share: Mapping[str, Any] | None) -> str:
    return f"{format_share(share)} n={share['n']}" if share else "-"


def held_out(report: Mapping[str, Any]) -> dict[str, Spread]:
    """The greedy measures of an evaluation that are drawn as curves over training."""
    drawn = ("score", "prior", "other", "description")
    found = {
        name: (report[name], *report["interval"][name]) for name in drawn if report.get(name) is not None
    }
    for bench, part in report.get("benches", {}).items():
        for name in HEADLINES:
            if isinstance(share := part.get(name), Mapping):
                found[f"{bench}, {name}"] = share["mean"], share["low"], share["high"]
    return found


def main_figure(report: Mapping[str, Any]) -> float | None:
    """The one number that sums up an evaluation, for a Hydra sweeper.

    PriorWorld's Score; a judge's mean score where only a judge grades; otherwise the accuracy. With several
    benchmarks it is the number of the first one.
    """
    if "score" not in report and "benches" in report:
        return main_figure(next(iter(report["benches"].values())))
    found = report["score"] if "score" in report else report["accuracy"]
    return found["mean"] if isinstance(found, Mapping) else found
