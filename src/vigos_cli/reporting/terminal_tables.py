"""Print the tables of `vigos rollout`, `vigos distill` and `vigos eval` on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from vigos_cli.reporting.measures import (
    DRAW_FIGURES,
    LABELS,
    before_and_after,
    format_figure,
    format_measure,
    format_share,
    readiness_rows,
)
from vigos_cli.utils.console import Terminal


def print_priorworld_table(reports: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """One column for each report and one row for each measure, greedy and sampled, with 95 % intervals."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = "\n".join(
        [
            "PriorWorld, held out: shares with 95 % intervals; n counts answers (sampled: several per item)",
            *(f"{name:<12}{label}" for name, label in LABELS.items()),
        ]
    )
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in reports:
        table.add_column(name, justify="right", no_wrap=True)
    for name in LABELS:
        sampled = [report.get("sampled") for report in reports.values()]
        table.add_row(name, "greedy", *(format_measure(report, name) for report in reports.values()))
        if any(sampled):  # not with bench.samples=0
            drawn = (format_measure(report, name) if report else "-" for report in sampled)
            table.add_row("", "sampled", *drawn)
        table.add_section()
    print_wide(table)


def print_before_and_after(before: Mapping[str, Any], after: Mapping[str, Any], title: str) -> None:
    """The table of PriorWorld if it was evaluated, and one table of all other benchmarks."""
    if "score" in after:
        print_priorworld_table({"before": before, "after": after}, title)
    rows = before_and_after(before, {"benches": after.get("benches", {})})
    if rows:
        table = _table(f"{title}: with 95 % intervals", ("benchmark", "answers"), ("before", "after"))
        for row in rows:
            table.add_row(*row)
        print_wide(table, least=110)
    _print_notes(after.get("benches", {}))


def print_scores(scores: Mapping[str, Mapping[str, Any]], shown: str = "") -> None:
    """Accuracy, n, unparsed share, chance and Pass@k of each benchmark; then other measures, and notes."""
    names = ("benchmark", "answers")
    table = _table(
        f"shares with 95 % intervals{shown}", names, ("accuracy", "n", "unparsed", "chance", "pass")
    )
    further = _table(f"further figures{shown}", (*names, "figure", "with 95 % interval"), ("n",))
    for name, kind, part in _parts(scores):
        if part.get("accuracy"):
            table.add_row(name, kind, *_score_cells(part))
        for key, found in part.items():
            is_share = isinstance(found, Mapping) and {"mean", "low", "n"} <= found.keys()
            if is_share and key not in ("accuracy", "leakage", *DRAW_FIGURES):
                further.add_row(name, kind, key, format_share(found), str(found["n"]))
    for each in (table, further):
        if each.row_count:
            print_wide(each)
    _print_notes(scores)


def _print_notes(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """What a reader of the figures must know, such as that only a part of the items was asked."""
    for name, report in scores.items():
        if "note" in report:
            print(f"{name}: {report['note']}")


def _score_cells(report: Mapping[str, Any]) -> list[str]:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    passes = report.get("pass", {})
    return [
        format_share(report["accuracy"]),
        str(report["accuracy"]["n"]),
        share(report.get("unparsed")),
        share(report.get("chance")),
        "  ".join(f"@{k} {part['mean']:.3f}" for k, part in passes.items()) or "-",
    ]


def print_draws(scores: Mapping[str, Mapping[str, Any]], shown: str = "") -> None:
    """What the draws of an item have in common, the tokens they need, and how many were cut off."""
    table = _table(
        f"draws and tokens{shown}: n and 95 % intervals",
        ("benchmark", "answers"),
        tuple(DRAW_FIGURES.values()),
    )
    for name, kind, part in _parts(scores):
        if any(part.get(key) for key in DRAW_FIGURES):
            cells = (_in_two_lines(part.get(key)) for key in DRAW_FIGURES)
            table.add_row(name, kind.split(",")[0], *cells, end_section=True)
    if table.row_count:
        print_wide(table, least=110)


def _in_two_lines(figure: Mapping[str, Any] | None) -> str:
    mean, interval, n = format_figure(figure)
    return f"{mean} {n}\n{interval}".strip()


def print_judged(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """The mean score that a judge gives on each benchmark, and how often it agrees with the rules."""
    table = _table(
        "by the judge, shares with 95 % intervals",
        ("benchmark", "answers", "judge"),
        ("score", "n", "no verdict", "agrees with the rules"),
    )
    for name, kind, part in _parts(scores):
        if found := part.get("judge"):
            score, agreement = format_share(found["score"]), format_share(found["agreement"])
            table.add_row(name, kind, found["model"], score, str(found["n"]), str(found["null"]), agreement)
    if table.row_count:
        print_wide(table)


def print_leakage(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """How many greedy descriptions state the reference, and how many that of another item (chance)."""
    for name, report in scores.items():
        if found := report.get("leakage"):
            chance = found["chance"]
            print(
                f"{name}: {found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of {found['n']} "
                f"descriptions state the reference; {chance['mean']:.3f} "
                f"[{chance['low']:.3f}, {chance['high']:.3f}] state the reference of another item"
            )


def print_differences(
    differences: Sequence[Mapping[str, Any]], title: str, sides: tuple[str, str] = ("other run", "this run")
) -> None:
    """Both accuracies on the same items, and their paired difference; rows of `difference_row`."""
    columns = (*sides, "difference", "same answer", "items", "p (Holm)")
    table = _table(title, ("benchmark", "answers"), columns)
    for d in differences:
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
    print_wide(table, least=110)


def print_readiness(report: Mapping[str, Any]) -> None:
    """The measures of `vigos rollout` in one table, and the verdict whether training can start."""
    table = _table(
        f"before training, rows of the data: {report['rows']}", ("measure",), ("value", "95 % interval", "n")
    )
    for row in readiness_rows(report["measures"]):
        table.add_row(*row)
    print_wide(table)
    if report["loss"]:
        print(report["loss"])
    print(f"verdict: {report['line']}")


def print_wide(renderable: Any, least: int = 100) -> None:
    """Print on the terminal, at least `least` columns wide, so that no number is cut off."""
    Terminal(width=max(Terminal().width, least)).print(renderable)


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty table with left-aligned columns (names), then right-aligned ones (numbers)."""
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _parts(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Benchmark, kind of answers, and the report of these answers."""
    for name, report in scores.items():
        greedy = "greedy" if "missing" not in report else f"saved, {report['missing']} missing"
        yield name, greedy, report
        if "sampled" in report:
            yield name, "sampled", report["sampled"]
