"""The interface of a benchmark, and the base class of the adapters.

    rows -> samples -> prompt -> (the model) -> grade -> Graded -> summarise

>>> bench = registry.get("mathvista")
>>> reader = RowReader(folder)
>>> for sample in bench.samples(rows, reader): bench.prompt(sample)
>>> bench.grade(sample, "<answer>B</answer>").verdict
'right'

Samples are produced one at a time, with decoded pictures, so a benchmark need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.figures import summary
from vigos_cli.evaluation.graded import Graded, Groups
from vigos_cli.evaluation.row_parsing import (
    MOST_OPTIONS,
    labelled,
    letters_in_another_order,
    number_marks,
    paragraphs,
    shown,
)
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.errors import UserError


class Bench(Protocol):
    """What the evaluator needs from a benchmark."""

    @property
    def name(self) -> str:
        """The key under `bench.tasks`."""
        ...

    @property
    def rows_file(self) -> str:
        """The JSON file with the rows, in a repository with picture files; "" if the rows are in tables."""
        ...

    @property
    def id_column(self) -> str:
        """The column with an item's id, or how the id is built; responses are matched to items by id."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that rows must have."""
        ...

    @property
    def groups(self) -> Groups:
        """The groupings of the items, such as subject or type, for which there are figures."""
        ...

    def own_rows(self) -> tuple[Sequence[Row], Path]:
        """The rows if the task has neither path nor hub data set, and the folder of their pictures."""
        ...

    def samples(
        self, rows: Sequence[Row], reader: RowReader | None = None, only: Sequence[int] | None = None
    ) -> Iterator[Sample]:
        """The items of all rows, or of the rows at the indexes in `only`.

        Unusable rows are skipped and counted in `reader`. Raises UserError if a picture is missing.
        """
        ...

    def prompt(self, sample: Sample) -> str:
        """The question for the model, with options and a hint about the form of the answer."""
        ...

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """The verdict on a response; `scorer="official"` uses the benchmark's own rule where it differs."""
        ...

    @property
    def official(self) -> bool:
        """Whether `scorer=official` differs from our rule."""
        ...

    @property
    def needs_judge(self) -> bool:
        """Whether only a judge can grade it; the judge then gives the share of an answer that is right."""
        ...

    def golds(self, sample: Sample) -> tuple[str, ...]:
        """The gold answers that a judge is shown; any of them is right. Empty if there is none."""
        ...

    def chance(self, sample: Sample) -> float | None:
        """How often a uniform guess is right; None if there are no options to guess from."""
        ...

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """The benchmark's own figures, each with n and interval."""
        ...


@dataclass(frozen=True)
class Adapter:
    """The parts that most benchmarks share. A subclass defines how rows become samples, and what differs."""

    name: str
    id_column: str
    columns: tuple[str, ...]

    rows_file = ""
    groups = {}  # noqa: RUF012 - a constant of the class, of type Groups
    needs_judge = False
    official = False

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """The samples of one row. Raises BadRow if the row is unusable."""
        raise NotImplementedError

    def own_rows(self) -> tuple[Sequence[Row], Path]:
        """Raise UserError, because most benchmarks do not bring their own rows."""
        raise UserError(
            f"bench={self.name} needs bench.path=, a JSON lines or parquet file or a folder (with several "
            f"benchmarks bench.tasks.{self.name}.path=)"
        )

    def samples(
        self, rows: Sequence[Row], reader: RowReader | None = None, only: Sequence[int] | None = None
    ) -> Iterator[Sample]:
        """See Bench."""
        reader = reader or RowReader()
        for index in range(len(rows)) if only is None else only:
            reader.at, named = index, f"row {index}"
            try:
                row = rows[index]
                named = str(row.get(self.id_column) or named)
                for sample in self.row(row, index, reader):
                    if len(sample.options) > MOST_OPTIONS:
                        raise BadRow("too_many_options")
                    yield _with_numbered_marks(sample)
            except BadRow as error:
                reader.left_out.setdefault(str(error), []).append(named)
            except UserError as error:
                raise UserError(f"{self.name}, item {shown(str(error))}") from error

    def prompt(self, sample: Sample) -> str:
        """See Bench."""
        return paragraphs(sample.question, labelled(sample.options), self.hint(sample))

    def hint(self, sample: Sample) -> str:
        """One sentence about the form of the answer."""
        if letters_in_another_order(sample.options):
            return "The answer is the letter before one option, not the letter that is its text."
        return "The answer is the letter of one option." if sample.options else ""

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """See Bench."""
        from vigos_cli.grading.response_verdicts import by_grading

        return by_grading(sample.answer, response, choices=sample.options)

    def golds(self, sample: Sample) -> tuple[str, ...]:
        """See Bench."""
        return (sample.answer,) if sample.answer else ()

    def chance(self, sample: Sample) -> float | None:
        """See Bench."""
        return 1 / len(sample.options) if sample.options else None

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """See Bench."""
        return summary(graded, self.chance, self.groups)


def _with_numbered_marks(sample: Sample) -> Sample:
    """The sample without marks `<image i>`, which a model's chat template could read as pictures.

    A mark that the adapter has not replaced becomes `[image i]`, with its own number.
    """
    question, *options = number_marks([sample.question, *sample.options], None)
    return replace(sample, question=question, options=tuple(options))
