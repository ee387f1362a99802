"""Compare our grading with the official verdicts on published outputs, as Markdown tables.

    python tests/tools/official_agreement.py mathvista_verdicts.jsonl mmmu_outputs.jsonl

A MathVista line has the benchmark's columns and `system`, `pid`, `response`, `extraction` and `true_false`,
the official verdict. An MMMU line has `id`, `question_type`, `answer`, `index2ans`, `response` and
`official_parsed`: a letter, or for an open question one of the official candidates. Where the letter rules
find nothing in a response, the official parser chooses one at random; those lines are counted separately.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vigos_cli.grading.extract import extract
from vigos_cli.grading.grade import grade
from vigos_cli.grading.official import mmmu_candidates, mmmu_letter, official_mathvista
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.types import Verdict

Row = Mapping[str, Any]
Kinds = dict[str, list[str]]  # kinds of differences, each with its items
SHOWN = 3  # number of items shown for each kind of difference


class Mistake(Exception):
    """A user's mistake; its message is shown as one line."""


def ours(row: Row, text: str) -> Verdict:
    """Our verdict on a MathVista row."""
    free = row["question_type"] == "free_form"
    return grade(
        row["answer"],
        text,
        choices=row["choices"] or (),
        precision=row["precision"],
        unit=row["unit"],
        kind=row["answer_type"] if free else None,
    )


def mathvista(rows: Sequence[Row]) -> str:
    """The table of agreement with the official MathVista verdicts, and the differences by kind."""
    scorers = {
        "official, of the published extraction": lambda row: official_mathvista(row, row["extraction"]),
        "official, of our extraction": lambda row: official_mathvista(row, extract(row["response"])),
        "ours, of the published extraction": lambda row: ours(row, row["extraction"]),
        "ours, of the response": lambda row: ours(row, row["response"]),
    }
    lines, notes = [], []
    official = sum(bool(row["true_false"]) for row in rows)
    for name, scorer in scorers.items():
        kinds: Kinds = defaultdict(list)
        verdicts: Counter[str] = Counter()
        for row in rows:
            verdict = scorer(row)
            verdicts[verdict.verdict] += 1
            if (verdict.verdict == "right") != bool(row["true_false"]):
                told = "right" if row["true_false"] else "wrong"
                kind = f"official {told}, this {verdict.verdict}: {row['answer_type']}, {verdict.rule}, "
                kind += "the value" if verdict.rule.startswith("official") else verdict.reason
                kinds[kind].append(
                    f"{row['system']} {row['pid']}: {_short(row['answer'])} / {_short(verdict.extracted)}"
                )
        agree = len(rows) - sum(map(len, kinds.values()))
        share = f"{agree / len(rows):.2%}"
        lines.append((name, len(rows), agree, share, verdicts["right"], verdicts["unparsed"]))
        notes += _differences(name, kinds)
    table = markdown_table(("scorer", "rows", "agree", "share", "right", "unparsed"), lines)
    return "\n".join([f"## MathVista ({official} right by the official verdicts)", "", table, *notes])


def mmmu(rows: Sequence[Row]) -> str:
    """The table of agreement with the official MMMU parser, and the differences by kind."""
    seen: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    kinds: Kinds = defaultdict(list)
    own: Kinds = defaultdict(list)
    lucky = expected = 0.0
    for row in rows:
        parsed = row["official_parsed"]
        if row["question_type"] != "multiple-choice":
            place, same = "open question", str(parsed) in {str(c) for c in mmmu_candidates(row["response"])}
        else:
            letter, place = mmmu_letter(row["response"], row["index2ans"])
            if letter is None:
                lucky += parsed == row["answer"]
                expected += 1 / len(row["index2ans"])
            same = letter == parsed
            verdict = grade(
                row["answer"], row["response"], choices=list(row["index2ans"].values()), kind="letter"
            )
            if (verdict.verdict == "right") != (parsed == row["answer"]):
                told = "right" if parsed == row["answer"] else "wrong"
                drawn = " (drawn)" if letter is None else ""
                kind = f"official {told}{drawn}, ours {verdict.verdict}: {verdict.reason}"
                own[kind].append(f"{row['id']}: {row['answer']} / {_short(verdict.extracted)}")
        seen[place] += 1
        agreed[place] += same
        if not same and not place.startswith("no letter"):
            kinds[place].append(f"{row['id']}: {_short(str(parsed))}")
    places = [place for place in seen if not place.startswith("no letter")]
    table = [(place, seen[place], agreed[place], f"{agreed[place] / seen[place]:.2%}") for place in places]
    total, good = sum(seen[p] for p in places), sum(agreed[p] for p in places)
    table.append(("all not drawn at random", total, good, f"{good / max(total, 1):.2%}"))
    drawn = len(rows) - total
    lines = [
        markdown_table(("official rule", "rows", "agree", "share"), table),
        "",
        f"Drawn at random: {drawn} rows in which no rule finds a letter. Of those letters {lucky:.0f} are",
        f"right, and {expected:.1f} would be by chance.",
    ]
    return "\n".join(
        ["## MMMU", "", *lines, *_differences("the official parser", kinds), *_differences("ours", own)]
    )


def _differences(name: str, kinds: Kinds) -> list[str]:
    """A table of one scorer's differences, the most frequent kind first."""
    if not kinds:
        return ["", f"### {name}: no differences"]
    rows = [
        (kind, len(items), "; ".join(items[:SHOWN]))
        for kind, items in sorted(kinds.items(), key=lambda pair: -len(pair[1]))
    ]
    table = markdown_table(("kind", "rows", "for example"), rows, marked=True)
    return ["", f"### {name}: differences by kind", "", table]


def _short(text: str | None) -> str:
    """At most 40 characters on one line, as Markdown code."""
    shown = " ".join(str(text).split()).replace("`", "'")
    return f"`{shown[:40]}`"


def main(paths: Iterable[str]) -> None:
    """Print the tables of each file. Raises Mistake for one that has neither benchmark's columns."""
    for path in paths:
        try:
            rows = [
                json.loads(line)
                for line in Path(path).read_text(encoding="utf-8").split("\n")
                if line.strip()
            ]
        except (OSError, ValueError) as error:
            raise Mistake(f"cannot read {path}: {error}") from None
        if rows and "true_false" in rows[0]:
            print(mathvista(rows))
        elif rows and "official_parsed" in rows[0]:
            print(mmmu(rows))
        else:
            raise Mistake(f"{path} has neither `true_false` (MathVista) nor `official_parsed` (MMMU)")
        print()


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python tests/tools/official_agreement.py FILE...")
    try:
        main(sys.argv[1:])
    except Mistake as error:
        sys.exit(str(error))
