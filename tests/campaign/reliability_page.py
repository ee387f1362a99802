"""Write the campaign's tables into docs/reliability.md, between its two comments."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from vigos_cli.utils.progress import duration

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- campaign -->", "<!-- end of campaign -->"


def cell(text: str) -> str:
    """Text inside a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def tables(results: list[dict], seed: int) -> str:
    """The tables of all groups, with the number of cases, the seed and the time."""
    count, cases, wrong = len(results), sum(r["cases"] for r in results), sum(not r["right"] for r in results)
    total = duration(sum(r["seconds"] for r in results))
    lines = [
        f"Seed {seed}: {count} trials, {cases:,} cases, {wrong} faults; the trials took {total} together."
    ]
    for group, members in groupby(results, key=lambda r: r["group"]):
        lines += ["", f"### {group[0].upper()}{group[1:]}", ""]
        lines += ["| moment or kind | what was done | what came back | cases |", "|---|---|---|---|"]
        for r in members:
            verdict = "" if r["right"] else "**fault:** "
            lines.append(
                f"| {cell(r['moment'])} | {cell(r['did'])} | {verdict}{cell(r['came_back'])} | {r['cases']} |"
            )
    return "\n".join(lines)


def write(results: list[dict], seed: int) -> None:
    """Replace what stands between the comments."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(results, seed)}\n\n{END}{after}", encoding="utf-8")
