"""What a person looks at after a run: the before/after table, and the curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vigos_cli.utils.files import drafted

LABELS = {
    "score": "right where the picture contradicts the usual look",
    "prior": "right where it agrees",
    "other": "right on questions without a usual answer",
    "description": "descriptions of contradicting pictures that state the asked look as it is",
    "capture": "contradicting pictures answered with the usual look",
    "valid": "answers that hold the format",
}
HEADLINES = ("accuracy", "score", "prior")  # of another benchmark, where it has them

Spread = tuple[float, float, float]  # mean, and the ends of its 95 % interval


def cell(report: Mapping[str, Any], name: str) -> str:
    """A mean with its interval and n, as text."""
    mean, interval = report[name], report["interval"][name]
    if mean is None:
        return "-"
    return f"{mean:.3f} [{interval[0]:.2f}, {interval[1]:.2f}] n={report['n'][name]}"


def print_table(reports: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """One column a report, greedy and sampled; means with 95 % intervals."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = "\n".join(
        [
            "PriorWorld, held out: shares with 95 % intervals; n counts answers, several an item if sampled",
            *(f"{name:<12}{label}" for name, label in LABELS.items()),
        ]
    )
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in reports:
        table.add_column(name, justify="right", no_wrap=True)
    for name in LABELS:
        greedy = [cell(report, name) for report in reports.values()]
        drawn = [cell(report["sampled"], name) if "sampled" in report else "-" for report in reports.values()]
        table.add_row(name, "greedy", *greedy)
        table.add_row("", "sampled", *drawn, end_section=True)
    show(table)


def before_and_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[list[str]]:
    """A row a measure and kind of answers: measure, kind, before, after, as text with intervals and n."""
    rows = []
    if "score" in after:
        for kind, (then, now) in _kinds(before, after).items():
            rows += [[name, kind, cell(then, name), cell(now, name)] for name in LABELS]
    for bench, figures in after.get("benches", {}).items():
        for kind, (then, now) in _kinds(before["benches"][bench], figures).items():
            for name in HEADLINES:
                if isinstance(now.get(name), Mapping):
                    rows.append([f"{bench}, {name}", kind, _with_n(then.get(name)), _with_n(now[name])])
    return rows


def _kinds(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    kinds: dict[str, tuple[Any, Any]] = {"greedy": (before, after)}
    return kinds | ({"sampled": (before["sampled"], after["sampled"])} if "sampled" in after else {})


def held_out(figures: Mapping[str, Any]) -> dict[str, Spread]:
    """The greedy figures of an evaluation that are worth a curve."""
    worth = ("score", "prior", "other", "description")
    found = {
        name: (figures[name], *figures["interval"][name]) for name in worth if figures.get(name) is not None
    }
    for bench, part in figures.get("benches", {}).items():
        for name in HEADLINES:
            if isinstance(figure := part.get(name), Mapping):
                found[f"{bench}, {name}"] = figure["mean"], figure["low"], figure["high"]
    return found


def _with_n(figure: Mapping[str, Any] | None) -> str:
    return f"{_share(figure)} n={figure['n']}" if figure else "-"


def print_before_and_after(before: Mapping[str, Any], after: Mapping[str, Any], title: str) -> None:
    """PriorWorld's table where it was asked, and one of the other benchmarks."""
    if "score" in after:
        print_table({"before": before, "after": after}, title)
    rows = before_and_after(before, {"benches": after.get("benches", {})})
    if rows:
        table = Table(title=f"{title}: shares with 95 % intervals", title_justify="left")
        for name in ("benchmark", "answers", "before", "after"):
            table.add_column(name, justify="left" if name in ("benchmark", "answers") else "right")
        for row in rows:
            table.add_row(*row)
        show(table, least=110)


def show(renderable: Any, least: int = 100) -> None:
    """On the terminal, at least that many columns wide: figures that are cut are of no use."""
    Console(width=max(Console().width, least)).print(renderable)


def main_figure(report: Mapping[str, Any]) -> float | None:
    """PriorWorld's Score, a judge's mean score where only a judge grades, or else the accuracy.

    Of a run with several benchmarks it is the first one's.
    """
    if "score" not in report and "benches" in report:
        return main_figure(next(iter(report["benches"].values())))
    found = report["score"] if "score" in report else report["accuracy"]
    return found["mean"] if isinstance(found, Mapping) else found


def print_scores(scores: Mapping[str, Mapping[str, Any]], shown: str = "") -> None:
    """One row a benchmark: accuracy with its interval, n, unparsed share, chance; Pass@k where sampled."""
    table = Table(title=f"shares with 95 % intervals{shown}", title_justify="left")
    for name in ("benchmark", "answers", "accuracy", "n", "unparsed", "chance", "pass"):
        table.add_column(name, justify="left" if name in ("benchmark", "answers") else "right")
    for name, kind, part in _parts(scores):
        if part.get("accuracy"):
            table.add_row(name, kind, *_score_cells(part))
    if table.row_count:
        show(table)
    further = Table(title=f"further figures{shown}", title_justify="left")
    for name in ("benchmark", "answers", "figure", "with 95 % interval", "n"):
        further.add_column(name, justify="right" if name == "n" else "left")
    for name, kind, part in _parts(scores):
        for key, found in part.items():
            if (
                key not in ("accuracy", "leakage")
                and isinstance(found, Mapping)
                and {"mean", "low", "n"} <= found.keys()
            ):
                further.add_row(name, kind, key, _share(found), str(found["n"]))
    if further.row_count:
        show(further)
    for name, report in scores.items():
        if "note" in report:
            print(f"{name}: {report['note']}")


def print_judged(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """One row a benchmark: what a judge makes of the answers, and how often it agrees with the rules."""
    table = Table(title="by the judge, shares with 95 % intervals", title_justify="left")
    for name in ("benchmark", "answers", "judge", "score", "n", "no verdict", "agrees with the rules"):
        table.add_column(name, justify="left" if name in ("benchmark", "answers", "judge") else "right")
    for name, kind, part in _parts(scores):
        if found := part.get("judge"):
            counts = str(found["n"]), str(found["null"])
            table.add_row(
                name, kind, found["model"], _share(found["score"]), *counts, _share(found["agreement"])
            )
    if table.row_count:
        show(table)


def _parts(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Benchmark, kind of answers, and their figures."""
    for name, report in scores.items():
        yield name, _answers(report), report
        if "sampled" in report:
            yield name, "sampled", report["sampled"]


def _share(figure: Mapping[str, Any] | None) -> str:
    if not figure:
        return "-"
    interval = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['mean']:.3f}{interval}"


def _answers(report: Mapping[str, Any]) -> str:
    return "greedy" if "missing" not in report else f"saved, {report['missing']} missing"


def _score_cells(report: Mapping[str, Any]) -> list[str]:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    passes = report.get("pass", {})
    return [
        _share(report["accuracy"]),
        str(report["accuracy"]["n"]),
        share(report.get("unparsed")),
        share(report.get("chance")),
        "  ".join(f"@{k} {part['mean']:.3f}" for k, part in passes.items()) or "-",
    ]


def print_leakage(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """A line a benchmark: how many greedy descriptions state the reference, and another item's."""
    for name, report in scores.items():
        if found := report.get("leakage"):
            chance = found["chance"]
            print(
                f"{name}: {found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of {found['n']} "
                f"descriptions state the reference, {chance['mean']:.3f} "
                f"[{chance['low']:.3f}, {chance['high']:.3f}] another item's"
            )


def print_differences(scores: Mapping[str, Mapping[str, Any]], run: str) -> None:
    """One row a benchmark and kind of answers: accuracy there and here, and the paired difference."""
    table = Table(title=f"against {run}, item by item", title_justify="left")
    for name in ("benchmark", "answers", "there", "here", "difference", "same answer", "items", "p (Holm)"):
        table.add_column(name, justify="left" if name in ("benchmark", "answers") else "right")
    for report in scores.values():
        for d in report.get("against", {}).get("differences", ()):
            table.add_row(
                d["benchmark"],
                d["answers"],
                f"{d['first']:.3f}",
                f"{d['other']:.3f}",
                f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]",
                "-" if d["unchanged"] is None else f"{d['unchanged']:.3f}",
                str(d["items"]),
                f"{d['p_holm']:.2g}",
            )
    show(table, least=110)


PANELS: dict[str, tuple[str, dict[str, str]]] = {  # title: (unit, {metric: label})
    "Loss by term": (
        "nats per token, weighted",
        {f"loss/{role}": role for role in ("perception", "reasoning", "reference", "privileged", "target")},
    ),
    "Divergence from the teacher by segment": (
        "nats per token, before the clip",
        {
            f"divergence/{kind}": kind
            for kind in ("description", "reasoning", "answer", "delimiters", "end", "invalid")
        },
    ),
    "Rollouts": (
        "share",
        {
            "valid_rate": "valid",
            "fallback_rate": "fallback",
            "answer_accuracy": "right answer",
            "zero_gradient_rate": "tokens without gradient",
        },
    ),
}
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")  # told apart by the colour-blind


def draw_curves(
    lines: Sequence[Mapping[str, Any]], evaluations: Mapping[int, Mapping[str, Any]], path: Path, title: str
) -> None:
    """The run over its steps: losses, divergences, rollouts, and the held-out measures with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    for axis, (name, (unit, metrics)) in zip(axes.flat, PANELS.items(), strict=False):
        for (metric, label), style, colour in zip(metrics.items(), STYLES * 2, COLOURS * 2, strict=False):
            points = [(line["step"], line[metric]) for line in lines if line.get(metric) is not None]
            if points:
                axis.plot(
                    *zip(*points, strict=True), label=label, linestyle=style, color=colour, linewidth=1.3
                )
        axis.set(title=name, xlabel="optimizer step", ylabel=unit)
        if unit == "share":
            axis.set_ylim(-0.03, 1.03)
        if axis.lines:
            axis.legend(fontsize=8, frameon=False)
    axis = axes.flat[3]
    series: dict[str, list[tuple[int, Spread]]] = {}
    for step, figures in sorted(evaluations.items()):
        for name, spread in held_out(figures).items():
            series.setdefault(name, []).append((step, spread))
    looks = zip(cycle(STYLES), cycle(COLOURS), cycle("osD^"), strict=False)
    for (name, found), (style, colour, marker) in zip(series.items(), looks, strict=False):
        axis.errorbar(
            [step for step, _ in found],
            [mean for _, (mean, _, _) in found],
            yerr=[[mean - low for _, (mean, low, _) in found], [high - mean for _, (mean, _, high) in found]],
            label=name,
            linestyle=style,
            color=colour,
            marker=marker,
            capsize=3,
        )
    axis.set(
        title="Held out, greedy, 95 % intervals", xlabel="optimizer step", ylabel="share", ylim=(-0.03, 1.03)
    )
    if axis.has_data():
        axis.legend(fontsize=8, frameon=False)
    figure.suptitle(title)
    with drafted(path) as draft:
        figure.savefig(draft, dpi=110, format=path.suffix[1:])
    pyplot.close(figure)
