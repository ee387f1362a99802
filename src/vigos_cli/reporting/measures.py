"""Choose the measures of an evaluation that a report shows, and write them as text.

    >>> format_measure({"score": 0.9, "interval": {"score": (0.85, 0.94)}, "n": {"score": 120}}, "score")
    '0.900 [0.85, 0.94] n=120'

PriorWorld has measures of its own (`LABELS`): each a plain number, its interval and n in separate fields. Any
other benchmark has one mapping for each measure, with `mean`, `low`, `high` (a 95 % interval) and `n`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any

LABELS = {
    "score": "right answers where the picture contradicts the usual look",
    "prior": "right answers where the picture agrees with the usual look",
    "other": "right answers to questions without a usual answer",
    "description": "descriptions of contradicting pictures that state the asked look rightly (-: free words)",
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
READINESS = {  # the measures of `vigos rollout`: what is shown of each, and what its n counts
    "valid": ("answers in the required format", "answers"),
    "valid_finished": ("the same, of those not cut off", "answers"),
    "accuracy": ("right, where the reference can be graded", "answers"),
    "tokens": ("tokens per answer", "answers"),
    "cut_off": ("cut off at rollout.max_new_tokens", "answers"),
    "leakage": ("descriptions that state the answer", "descriptions"),
    "chance": ("the same, of another question's answer", "descriptions"),
    "divergence": ("divergence, {}, nats", "tokens"),
    "turn_kl": ("KL(teacher || student), whole answer, nats", "answers"),
    "differ": ("teacher and student prefer other tokens", "tokens"),
    "clipped": ("above the clip", "tokens"),
    "no_gradient": ("without a gradient because of the clip", "tokens"),
    "lost_divergence": ("divergence on tokens without a gradient", "tokens"),
}
HEADLINES = ("accuracy", "score", "prior")  # measures of another benchmark that are shown, if it has them
FURTHER = {  # and these, of its greedy answers
    "valid": "answers in the required format",
    "tokens": "tokens per answer",
    "cut_off": "cut off",
    "leakage": "descriptions that state the answer",
}

Spread = tuple[float, float, float]  # mean, and both ends of its 95 % interval
PartialSpread = tuple[float, float | None, float | None]  # the ends are None where the interval is not known


def format_measure(report: Mapping[str, Any], name: str) -> str:
    """A measure of PriorWorld as text: mean, interval and n."""
    mean, interval = report[name], report["interval"][name]
    if mean is None:
        return "-"
    return f"{mean:.3f} [{interval[0]:.2f}, {interval[1]:.2f}] n={report['n'][name]}"


def format_spread(spread: PartialSpread) -> str:
    """Mean and interval as text."""
    mean, low, high = spread
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def format_share(share: Mapping[str, Any] | None) -> str:
    """A measure of another benchmark as text: mean and interval."""
    return format_spread((share["mean"], share["low"], share["high"])) if share else "-"


def format_figure(figure: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Mean, interval and n of a share, or of a number of tokens (more than 1); "-" if it is not known."""
    if not figure:
        return "-", "", ""
    digits = 3 if figure["mean"] <= 1 else 1
    low, high = figure["low"], figure["high"]
    interval = "" if low is None else f"[{low:.{digits}f}, {high:.{digits}f}]"
    return f"{figure['mean']:.{digits}f}", interval, f"n={figure['n']}"


def readiness_rows(measures: Mapping[str, Any]) -> list[list[str]]:
    """One row for each measure of `vigos rollout`: name, value, interval, and n with what it counts."""
    rows = []
    for name, figure in measures.items():
        for key, found in ((name, figure), ("chance", (figure or {}).get("chance"))):
            label, counted = READINESS[key.split("/")[0]]
            value, interval, n = _in_nats(found) if label.endswith("nats") else format_figure(found)
            if key != "chance" or found:
                label = label.format(key.partition("/")[2])
                rows.append([label, value, interval, f"{n.removeprefix('n=')} {counted}" if n else ""])
    return rows


def _in_nats(figure: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Like format_figure, with three significant digits: a mean over tokens may be very small."""
    if not figure:
        return "-", "", ""
    low, high = figure["low"], figure["high"]
    interval = "" if low is None else f"[{low:.3g}, {high:.3g}]"
    return f"{figure['mean']:.3g}", interval, f"n={figure['n']}"


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
    if ("score" in report) + len(report.get("benches", {})) > 1:
        mean, low, high = mean_score(report) or (None, None, None)
        if mean is not None and low is not None and high is not None:
            found["mean of the benchmarks"] = mean, low, high
    return found


def evaluations(
    before: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]
) -> dict[int, Mapping[str, Any]]:
    """The figures of a run's evaluations before and during training, by step.

    `lines` are those of metrics.jsonl.
    """
    return {0: before} | {line["step"]: line["eval"] for line in lines if "eval" in line}


def mean_score(report: Mapping[str, Any]) -> PartialSpread | None:
    """The score by which the evaluations of one run are compared; None if no benchmark has one.

    PriorWorld's Score, or the score or accuracy of another benchmark; with several benchmarks their mean. The
    benchmarks have different items, so the half-widths of their intervals are added as roots of squares
    (the MOVER interval of a mean).
    """
    parts: list[PartialSpread] = []
    if report.get("score") is not None:
        parts.append((report["score"], *report["interval"]["score"]))
    for bench in report.get("benches", {}).values():
        found = bench.get("score") or bench.get("accuracy")
        if found:
            parts.append((found["mean"], found["low"], found["high"]))
    if not parts:
        return None
    mean, k = sum(part[0] for part in parts) / len(parts), len(parts)
    below = [m - low for m, low, _ in parts if low is not None]
    above = [high - m for m, _, high in parts if high is not None]
    if k == 1:
        return parts[0]
    if len(below) < k or len(above) < k:
        return mean, None, None
    return mean, mean - sqrt(sum(d * d for d in below)) / k, mean + sqrt(sum(d * d for d in above)) / k


def main_figure(report: Mapping[str, Any]) -> float | None:
    """The one number that sums up an evaluation, for a Hydra sweeper.

    PriorWorld's Score; a judge's mean score where only a judge grades; otherwise the accuracy. With several
    benchmarks it is the number of the first one.
    """
    if "score" not in report and "benches" in report:
        return main_figure(next(iter(report["benches"].values())))
    found = report["score"] if "score" in report else report["accuracy"]
    return found["mean"] if isinstance(found, Mapping) else found
