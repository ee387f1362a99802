"""What a benchmark is to the evaluator: rows become samples, a sample a prompt, a response a verdict.

    rows -> samples -> prompt -> (the model) -> grade -> Graded -> summarise

>>> bench = registry.get("mathvista")
>>> reader = RowReader(folder)
>>> for sample in bench.samples(rows, reader): bench.prompt(sample)
>>> bench.grade(sample, "<answer>B</answer>").verdict
'right'

Samples come one at a time, pictures decoded: a benchmark need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.figures import summary
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.row_parsing import labelled, paragraphs
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.errors import UserError


class Bench(Protocol):
    """What the evaluator asks of a benchmark."""

    @property
    def name(self) -> str:
        """The key under `bench.tasks`."""
        ...

    @property
    def rows_file(self) -> str:
        """The JSON file of the repository that holds the rows, with its pictures beside it; "": tables do."""
        ...

    @property
    def id_column(self) -> str:
        """The column that names an item, or how its name is made; responses are joined on it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that rows must have."""
        ...

    def own_rows(self) -> tuple[Sequence[Row], Path]:
        """The rows of a benchmark without a source, and the folder of their pictures."""
        ...

    def samples(
        self, rows: Sequence[Row], reader: RowReader | None = None, only: Sequence[int] | None = None
    ) -> Iterator[Sample]:
        """The items, of the rows at `only` these indexes where they are named.

        A row that makes none is counted in `reader`; a missing picture is a UserError.
        """
        ...

    def prompt(self, sample: Sample) -> str:
        """The question as it is put to the model, with options and a hint about the answer's form."""
        ...

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """The verdict on a response; `official` is the benchmark's own rule where it differs."""
        ...

    @property
    def official(self) -> bool:
        """Whether `scorer=official` is another rule than ours."""
        ...

    @property
    def needs_judge(self) -> bool:
        """Whether no rule can grade it: a judge then says which share of an answer is right."""
        ...

    def golds(self, sample: Sample) -> tuple[str, ...]:
        """The answers that are right, any of them, as a judge is shown them; none where there is none."""
        ...

    def chance(self, sample: Sample) -> float | None:
        """How often a uniform guess is right; None where there is nothing to guess from."""
        ...

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """The benchmark's own figures, each with n and interval."""
        ...


@dataclass(frozen=True)
class Adapter:
    """The part that most benchmarks share. A subclass says how a row becomes samples, and what differs."""

    name: str
    id_column: str
    columns: tuple[str, ...]

    rows_file = ""
    groups = {}  # noqa: RUF012 - a class's constant, of type Groups
    needs_judge = False
    official = False

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """The samples of one row. Raises BadRow for a row that makes none."""
        raise NotImplementedError

    def own_rows(self) -> tuple[Sequence[Row], Path]:
        """Most benchmarks have none."""
        raise UserError(
            f"bench.tasks.{self.name} names no data: set its path (a JSON lines or parquet file, or a "
            f"folder) or its hub; bench={self.name} brings the hub data set where there is one"
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
                yield from self.row(row, index, reader)
            except BadRow as error:
                reader.left_out.setdefault(str(error), []).append(named)
            except UserError as error:
                raise UserError(f"{self.name}, item {error}") from error

    def prompt(self, sample: Sample) -> str:
        """See Bench."""
        return paragraphs(sample.question, labelled(sample.options), self.hint(sample))

    def hint(self, sample: Sample) -> str:
        """One sentence about the answer's form."""
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
