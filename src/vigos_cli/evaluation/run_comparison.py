"""Paired differences between two runs on the same items: `vigos eval compare=[A,B]`.

With one folder, the current run is compared with it: `vigos eval diagnostic=blind compare=[plain]`.
Single answers (greedy or saved) are compared with single answers, and sampled answers with sampled answers.
`same` is the share of items whose single answer is the same in both runs.

If there is one answer for each item, and no clusters, the test is McNemar's exact test. Otherwise (several
draws, clusters, or shares given by a judge) the test flips the sign of each cluster's difference at random.
The interval is a bootstrap over clusters; if all differences are equal, it is Wilson's interval. Holm's
correction covers all rows of the table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vigos_cli.grading.text_equality import same_text
from vigos_cli.reporting.csv_rows import in_cell
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.files import read_lines
from vigos_cli.utils.stats import crossed_difference

FLIPS = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of `other` minus that of `first` on the items that both answered."""

    bench: str
    answers: str  # "greedy", "sampled", or "one each" if some of the answers are saved responses
    first: float
    other: float
    low: float
    high: float
    items: int
    p: float
    p_holm: float
    test: str
    unchanged: float | None = None  # share of items with the same single answer in both; None if sampled

    @property
    def mean(self) -> float:
        """The accuracy of `other` minus that of `first`."""
        return self.other - self.first

    @property
    def says(self) -> str:
        """The result of the corrected test in words."""
        if self.p_holm >= 0.05:
            return "no difference shown"
        return "higher" if self.mean > 0 else "lower"


def compare_runs(runs: Sequence[str]) -> list[Difference]:
    """Compare the second run with the first, benchmark by benchmark.

    Raises ConfigError unless there are two runs, UserError if they share no item.
    """
    if len(runs) != 2:
        raise ConfigError(f"compare=[RUN,RUN] needs two folders of vigos eval, not {len(runs)}")
    one, two = (read_verdicts(Path(run)) for run in runs)
    raw = []
    for name in sorted(one.keys() & two.keys()):
        for sampled in (False, True):
            first, other = (
                [line for line in run[name] if (_answers(line) == "sampled") == sampled] for run in (one, two)
            )
            if pairs := _paired(first, other):
                kinds = {_answers(line) for line in (*first, *other)}
                made = _difference(name, "one each" if "saved" in kinds else kinds.pop(), pairs)
                raw.append(made if sampled else replace(made, unchanged=_unchanged(first, other)))
    if not raw:
        raise UserError(f"{runs[0]} and {runs[1]} have no item of any benchmark in common")
    corrected = holm([difference.p for difference in raw])
    return [replace(difference, p_holm=p) for difference, p in zip(raw, corrected, strict=True)]


def read_verdicts(run: Path) -> dict[str, list[dict[str, Any]]]:
    """The verdicts of a run, by benchmark and part (pictures that agree with a usual answer, or do not).

    Raises UserError if an answer occurs twice, for example because the folder contains several runs.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    places: dict[tuple[str, str, int], Path] = {}
    own = run / "verdicts.jsonl"
    for path in [own] if own.exists() else sorted(run.glob("*/verdicts.jsonl")):
        for line in read_lines(path):
            name = f"{line['bench']} {line['part']}".strip()
            key = name, line["id"], line["draw"]
            if key in places:
                raise UserError(
                    f"compare: {run} is not one run: item {line['id']} of {name}, draw {line['draw']}, is "
                    f"there twice, in {places[key]} and in {path.parent}"
                )
            places[key] = path.parent
            found.setdefault(name, []).append(line)
    if not found:
        raise ConfigError(f"compare: there is no verdicts.jsonl in {run}")
    return found


def _paired(
    one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]
) -> dict[str, list[tuple[float, float, int]]]:
    """For each cluster its items that both runs answered: both accuracies, and the number of answers."""
    sides = []
    for lines in (one, two):
        items: dict[str, tuple[str, list[float]]] = {}
        for line in lines:
            right = _right(line)
            if right is not None:
                items.setdefault(line["id"], (line["cluster"], []))[1].append(right)
        sides.append(items)
    pairs: dict[str, list[tuple[float, float, int]]] = {}
    for id in sides[0].keys() & sides[1].keys():
        (cluster, first), (_, other) = sides[0][id], sides[1][id]
        number = min(len(first), len(other))
        pairs.setdefault(cluster, []).append((float(np.mean(first)), float(np.mean(other)), number))
    return dict(sorted(pairs.items()))


def _answers(line: Mapping[str, Any]) -> str:
    """Whether the answer is "greedy", "sampled" or "saved" (the only saved response to its item).

    In a file without the field `answers`, draw 0 is greedy and the other draws are sampled.
    """
    return line.get("answers") or ("sampled" if line["draw"] else "greedy")


def _right(line: Mapping[str, Any]) -> float | None:
    """1 if the answer is right, otherwise 0. If only a judge grades (mmvet): its score, or None."""
    return line.get("judge") if line.get("rule") == "judge" else float(line["verdict"] == "right")


def _unchanged(one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]) -> float:
    """The share of items with the same single answer in both runs; missing answers are never the same."""
    first, other = ({line["id"]: line.get("extracted") for line in lines} for lines in (one, two))
    both = first.keys() & other.keys()
    return float(np.mean([same_text(first[id] or "", other[id] or "") for id in both]))


def _difference(name: str, answers: str, pairs: Mapping[str, list[tuple[float, float, int]]]) -> Difference:
    rows = [row for items in pairs.values() for row in items]
    first, other = float(np.mean([r[0] for r in rows])), float(np.mean([r[1] for r in rows]))
    gaps = {cluster: [b - a for a, b, _ in items] for cluster, items in pairs.items()}
    gap = crossed_difference([gaps])
    assert gap
    if len(pairs) == len(rows) and all(row[2] == 1 and {*row[:2]} <= {0, 1} for row in rows):
        p, test = mcnemar(sum(r[1] > r[0] for r in rows), sum(r[1] < r[0] for r in rows)), "McNemar"
    else:
        p, test = sign_flips(np.array([sum(gap) for gap in gaps.values()])), "cluster sign flips"
    return Difference(name, answers, first, other, gap.low, gap.high, len(rows), p, p, test)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test for these discordant pairs."""
    from scipy.stats import binomtest  # takes a second to import, and few runs need it

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flips(sums: np.ndarray, seed: int = 0) -> float:
    """The two-sided p-value of the sum of these differences, if each had a random sign.

    `sums` has one difference for each cluster: the sum over its items.
    """
    signs = np.random.default_rng(seed).integers(0, 2, (FLIPS, len(sums))) * 2 - 1
    extreme = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12
    return float((extreme.sum() + 1) / (FLIPS + 1))


def holm(values: Sequence[float]) -> list[float]:
    """The p-values after Holm's step-down correction for several tests, in the same order."""
    corrected, so_far = [0.0] * len(values), 0.0
    for rank, i in enumerate(np.argsort(values)):
        so_far = max(so_far, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = so_far
    return corrected


def write_comparison(differences: Sequence[Difference], out: Path) -> str:
    """Write compare.csv, compare.md and compare.json, and return the text of compare.md."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [difference_row(difference) for difference in differences]
    with (out / "compare.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows({name: in_cell(value) for name, value in row.items()} for row in rows)
    (out / "compare.json").write_text(json.dumps(rows, indent=1) + "\n")
    text = comparison_markdown(differences)
    (out / "compare.md").write_text(text, encoding="utf-8")
    return text


def difference_row(d: Difference) -> dict[str, Any]:
    """The row of a difference in compare.csv and compare.json."""
    return {
        "benchmark": d.bench,
        "answers": d.answers,
        "first": round(d.first, 4),
        "other": round(d.other, 4),
        "difference": round(d.mean, 4),
        "low": round(d.low, 4),
        "high": round(d.high, 4),
        "unchanged": None if d.unchanged is None else round(d.unchanged, 4),
        "items": d.items,
        "p": d.p,
        "p_holm": d.p_holm,
        "test": d.test,
        "says": d.says,
    }


def comparison_markdown(differences: Sequence[Difference]) -> str:
    """The differences as a Markdown table."""
    heads = ("benchmark", "answers", "first", "other", "difference", "same", "items", "p (Holm)", "")
    rows = [
        (
            d.bench,
            d.answers,
            f"{d.first:.3f}",
            f"{d.other:.3f}",
            f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]",
            "-" if d.unchanged is None else f"{d.unchanged:.3f}",
            d.items,
            f"{d.p_holm:.2g}",
            d.says,
        )
        for d in differences
    ]
    return markdown_table(heads, rows) + "\n"
