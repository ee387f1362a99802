"""Read responses from a file, to grade them without loading a model or reading a picture.

>>> saved = saved_responses(Path("answers.jsonl"), "pid")
>>> for sample, draw, text in joined(samples, saved): ...      # text is None if it is missing

Four kinds of files are read:

    JSON lines   an id, and `response` or a list of `responses`
    vigos        the responses.jsonl of an earlier run (`sample_id`, `draw`, `text`)
    lmms-eval    the samples that it logs (`doc_id`, `target`, `resps` or `filtered_resps`)
    VLMEvalKit   a sheet with `prediction`, as .csv or .tsv

The id of lmms-eval is the number of the row in the data. So its responses are matched to rows, and its
targets to the correct answers: with the rows in another order all verdicts would be meaningless.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vigos_cli.data.file_kinds import LINES, kind_of_file
from vigos_cli.evaluation.interface import Bench
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, UserError

SHEETS = {".csv": ",", ".tsv": "\t"}
EXCEL = (".xlsx", ".xls")
LONGEST = 1 << 26  # characters of a cell; a longer one ends the reading with an error


@dataclass
class Saved:
    """Saved responses by item. `ours`: from a run of vigos, where the first response of an item is greedy.

    If `by_row`, the keys are numbers of rows, and `targets` holds the correct answer that the file states.
    """

    texts: dict[str, list[str | None]]
    ours: bool = False
    by_row: bool = False
    targets: dict[str, str] = field(default_factory=dict)

    @property
    def draws(self) -> int:
        """The largest number of responses that any item has; an item with fewer responses lacks some."""
        return max(map(len, self.texts.values()))


def saved_responses(path: Path, id_column: str) -> Saved:
    """The responses of a file by id: `id` or the benchmark's own id column. Raises UserError."""
    if not path.is_file():
        raise ConfigError(f"responses={path}: there is no such file")
    ending = path.suffix.lower()
    if ending in EXCEL:
        raise UserError(f"responses={path} is an Excel sheet: save it as CSV (.csv) and name that file")
    if ending in LINES and (kind := kind_of_file(path)):
        raise UserError(f"responses={path} is {kind}")
    saved = Saved({})
    for number, read in _sheet(path, SHEETS[ending]) if ending in SHEETS else _lines(path):
        try:
            line = read if isinstance(read, dict) else json.loads(read)
            if "sample_id" in line:
                saved.ours = True
                said = saved.texts.setdefault(line["sample_id"], [])
                said += [None] * (int(line["draw"]) + 1 - len(said))
                said[int(line["draw"])] = None if line.get("refused") else line["text"]
                continue
            if "doc_id" in line:
                id, texts = _lmms_eval(line, id_column, saved)
                if saved.texts.get(id) == texts:  # the same response again, after another filter
                    continue
            elif "prediction" in line:
                names = [name for name in (id_column, "id", "index") if name in line]
                id, texts = str(line[names[0]]).strip(), [_text(line["prediction"]) or None]
            else:
                id = str(line["id"] if "id" in line else line[id_column])
                said = line["responses"] if "responses" in line else line["response"]
                texts = [_text(one) for one in (said if isinstance(said, list) else [said])]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise UserError(f"responses={path}, line {number}: not an object with id and response") from error
        if id in saved.texts:
            raise UserError(
                f"responses={path}, line {number}: a second line for {id}; put all into one list `responses`"
            )
        saved.texts[id] = texts
    if not any(saved.texts.values()):
        raise UserError(f"responses={path}: there are no responses in it")
    return saved


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def _sheet(path: Path, separator: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV or TSV file by the names in its first line, with the numbers of their last lines."""
    before = csv.field_size_limit(LONGEST)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.DictReader(file, delimiter=separator)
            for row in reader:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"responses={path}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _lmms_eval(line: Mapping[str, Any], id_column: str, saved: Saved) -> tuple[str, list[str | None]]:
    """The key and the responses of a line of lmms-eval. The key is the id in `doc`, else the row's number."""
    texts: list[str | None] = list(_flat(line["resps"] if line.get("resps") else line["filtered_resps"]))
    if not texts:
        raise TypeError
    doc = line.get("doc")
    if not saved.by_row and isinstance(doc, dict) and doc.get(id_column) is not None:
        return str(doc[id_column]), texts
    saved.by_row = True
    row = str(int(line["doc_id"]))
    if isinstance(line.get("target"), str | int | float):
        saved.targets[row] = str(line["target"])
    return row, texts


def _flat(said: Any) -> Iterator[str]:
    """The texts in lists of lists. Raises TypeError for anything else, such as log-probabilities."""
    if isinstance(said, str):
        yield said
    elif isinstance(said, list):
        for one in said:
            yield from _flat(one)
    else:
        raise TypeError


def _text(said: Any) -> str | None:
    """A response as text; a number becomes text, null becomes None. Raises TypeError for anything else."""
    if isinstance(said, bool) or not isinstance(said, str | int | float | None):
        raise TypeError
    return None if said is None else str(said)


def by_item(bench: Bench, rows: Sequence[tuple[int, Sample]], saved: Saved, path: str) -> Saved:
    """Responses that are keyed by rows, keyed by items; `rows` are the items with the numbers of their rows.

    Raises UserError if a row has several items, or if none of the stated targets is a correct answer to its
    row. If only some are not, their number is printed.
    """
    texts, differ, items = dict(saved.texts), 0, {}
    for row, sample in rows:
        if items.setdefault(str(row), sample) is not sample:
            raise UserError(
                f"responses={path}: its doc_id is the number of a row, but a row of {bench.name} has several "
                f"items; name them by {bench.id_column}"
            )
        if (target := saved.targets.get(str(row))) is not None:
            stated = target.strip() in bench.golds(sample)
            differ += not stated and bench.grade(sample, target).verdict != "right"
    stated = sum(row in saved.targets for row in items)
    if differ and differ == stated:
        raise UserError(
            f"responses={path}: no target is the correct answer to the row of {bench.name} with the number "
            "doc_id: do the rows have another order than those that lmms-eval asked?"
        )
    if differ:
        print(
            f"{bench.name}: the file states another target than the rows for {differ} of {stated} items",
            file=sys.stderr,
        )
    named = {sample.id: texts.pop(row) for row, sample in items.items() if row in texts}
    return replace(saved, texts=named | {f"doc_id {row}": said for row, said in texts.items()}, by_row=False)


def joined(samples: Iterable[Sample], saved: Saved) -> Iterator[tuple[Sample, int, str | None]]:
    """Every item with `saved.draws` responses; None for those that are missing."""
    for sample in samples:
        texts = saved.texts.get(sample.id, [])
        for draw in range(saved.draws):
            yield sample, draw, texts[draw] if draw < len(texts) else None


def missing(bench: Bench, known: set[str], saved: Saved, path: str) -> dict[str, int]:
    """Count items without responses (`missing`), with too few (`fewer`), and unknown ids (`unknown`)."""
    if not known & set(saved.texts):
        raise UserError(
            f"responses={path}: none of its ids, such as {next(iter(saved.texts))}, is a "
            f"{bench.id_column} of {bench.name}, such as {min(known, default='none')}"
        )
    counts = {
        "missing": len(known - set(saved.texts)),
        "fewer": sum(len(saved.texts[id]) < saved.draws for id in known & set(saved.texts)),
        "unknown": len(set(saved.texts) - known),
    }
    if counts["missing"] or counts["fewer"]:
        print(
            f"{bench.name}: {counts['missing']} items have no response and {counts['fewer']} have fewer than "
            f"{saved.draws}: missing responses count as wrong",
            file=sys.stderr,
        )
    return counts


def not_over_a_run(folder: Path, responses: Path) -> None:
    """Raise ConfigError if `folder` has other responses: the verdicts would not match them."""
    asked = folder / "responses.jsonl"
    if asked.exists() and not asked.samefile(responses):
        raise ConfigError(f"out={folder} contains a run with its own responses: choose another folder")
