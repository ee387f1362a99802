"""Print the table of docs/results.md for a sweep: greedy answers, and the Score of sampled ones.

python tests/tools/results_table.py runs/main
python tests/tools/results_table.py runs/three --repeat-over model.path
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vigos_cli.ablation.arms import read_sweep
from vigos_cli.ablation.compare_arms import compare_arms, find_reference, verdict_on
from vigos_cli.ablation.report_text import difference_text, mean_text, measure_name
from vigos_cli.reporting.markdown import as_code, markdown_table

MEASURES = ("score", "prior", "other", "description")


def table(sweep: Path, reference: str | None = None, repeat_over: Sequence[str] = ()) -> str:
    """One row an arm; a difference is in Score, and in bold if the report calls it higher or lower."""
    arms = read_sweep(sweep, repeat_over).arms
    base = find_reference(arms, reference)
    rows = []
    for row in compare_arms(arms, reference):
        changes = []
        for kind in ("greedy", "sampled"):
            found = row.differences[kind].get("score")
            text = "reference" if row.arm is base else difference_text(found)
            changes.append(f"**{text}**" if found and verdict_on(found) == found.says else text)
        greedy = [mean_text(row.means["greedy"].get(measure)) for measure in MEASURES]
        title = row.arm.title
        if row.arm.trained:
            note = title.removeprefix(row.arm.label)
            title = " ".join(map(as_code, row.arm.label.split(", "))) + note
        rows.append([title, *greedy, changes[0], mean_text(row.means["sampled"]["score"]), changes[1]])
    names = [measure_name(measure) for measure in MEASURES]
    head = ["arm", *names, "difference", "Score, sampled", "difference, sampled"]
    return markdown_table(head, rows, marked=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--reference")
    parser.add_argument("--repeat-over", nargs="*", default=[])
    args = parser.parse_args()
    print(table(args.sweep, args.reference, args.repeat_over))


if __name__ == "__main__":
    main()
