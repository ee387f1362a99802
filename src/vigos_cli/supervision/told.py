"""What a teacher is told and shown about one sample: the texts and pictures that its routing names.

    texts = told_texts(teacher, item, group, routing)      # question, and everything else as one reference
    pictures = pictures_of({"mask": {"column": "crop"}}, item, seed)

A text or picture that a row does not have raises BadRow, which names the column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vigos_cli.config.routing_checks import used_teachers
from vigos_cli.config.schema import RoutingConfig, TeacherContext
from vigos_cli.data.columns import OWN_TEXTS, NeededColumns, picture_column, text_column
from vigos_cli.data.degradations import degraded, picture_source
from vigos_cli.data.images import BadRow
from vigos_cli.method.reference_text import reference_text
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from vigos_cli.supervision.siblings import Group

PICTURE = "picture"  # stands for the pictures of another row among its columns


@dataclass(frozen=True, slots=True)
class Told:
    """The texts that fill the slots of a teacher's template; an empty one is not told."""

    question: str
    reference: str


def told_texts(teacher: TeacherContext, item: Prepared, group: Group, routing: RoutingConfig) -> Told:
    """The texts of a teacher; all but the question are joined to one reference, in the order of `told`."""
    question = item.sample.question if "question" in teacher.told else ""
    parts = [_text(entry, item, group, routing) for entry in teacher.told if entry != "question"]
    return Told(question, "\n\n".join(parts))


def _text(entry: Any, item: Prepared, group: Group, routing: RoutingConfig) -> str:
    if entry == "answer":
        return item.replaced or item.reference
    if entry == "solution":
        return reference_text(item.sample, "solution")
    if "sibling" in entry:
        return group.sibling(entry["sibling"], entry.get("choose", "first"))
    if "row" not in entry:
        return text_column(item.sample, entry["column"])
    if item.other is None:
        raise BadRow("no_other_row")
    if entry["column"] == "answer":
        return item.replaced or answer_in_use(item, routing)
    return column_text(item.other, entry["column"])


def answer_in_use(item: Prepared, routing: RoutingConfig) -> str:
    """The answer that the teachers are told, of whichever row it is."""
    if item.other is not None and "answer" in columns_of_other_row(routing):
        return reference_text(item.other, rules=routing.student.spans)
    return item.reference


def columns_of_other_row(routing: RoutingConfig) -> set[str]:
    """The columns of another row that the used teachers are told; `PICTURE` if its pictures are seen."""
    teachers = [routing.teachers[name] for name in used_teachers(routing)]
    told = [entry for teacher in teachers for entry in teacher.told]
    columns = {entry["column"] for entry in told if isinstance(entry, Mapping) and "row" in entry}
    seen = [routing.student.sees, *(teacher.sees for teacher in teachers)]
    return columns | {PICTURE for sees in seen if picture_source(sees) == {"row": "other"}}


def needed_columns(routing: RoutingConfig) -> NeededColumns:
    """The columns of the data that the student and the used teachers are shown and told."""
    texts: dict[str, None] = {}
    pictures = dict.fromkeys(picture_columns(routing.student.sees))
    required = set()
    for name in used_teachers(routing):
        teacher = routing.teachers[name]
        columns = [e for e in teacher.told if isinstance(e, Mapping) and "column" in e]
        own = {e["column"] for e in columns if "row" not in e} | set(picture_columns(teacher.sees))
        texts |= dict.fromkeys(e["column"] for e in columns if e["column"] not in OWN_TEXTS)
        pictures |= dict.fromkeys(picture_columns(teacher.sees))
        required |= own if teacher.missing == "error" else set()
    optional = {*texts, *pictures} - required - set(picture_columns(routing.student.sees))
    return NeededColumns(tuple(texts), tuple(pictures), tuple(sorted(optional)))


def picture_columns(sees: Any) -> tuple[str, ...]:
    """The column from which a context's pictures come, if they come from one."""
    source = picture_source(sees)
    return (str(source["column"]),) if isinstance(source, Mapping) and "column" in source else ()


def check_row(item: Prepared, routing: RoutingConfig, seed: int) -> None:
    """Raise BadRow if the row lacks a column that a teacher needs, unless the teacher may be missing."""
    for name in used_teachers(routing):
        teacher = routing.teachers[name]
        if teacher.missing == "skip":
            continue
        for entry in teacher.told:
            if isinstance(entry, Mapping) and set(entry) == {"column"}:
                text_column(item.sample, entry["column"])
        if item.sample.images and isinstance(teacher.sees, Mapping):
            pictures_of(teacher.sees, item, seed)


def column_text(sample: Sample, column: str) -> str:
    """The text of a column of a row: its question, answer or solution, or any other column."""
    if column == "question":
        return sample.question
    if column in ("answer", "solution"):
        return reference_text(sample, column)
    return text_column(sample, column)


def pictures_of(sees: Any, item: Prepared, seed: int) -> tuple[Image, ...]:
    """The pictures that a context sees: the sample's, a column's or another row's, perhaps changed."""
    source = picture_source(sees)
    if isinstance(source, Mapping) and "column" in source:
        own = picture_column(item.sample, source["column"])
    elif isinstance(source, Mapping):
        if item.other is None:
            raise BadRow("no_other_row")
        own = item.other.images
    else:
        own = item.sample.images
    return degraded(own, sees, seed=seed, sample_id=item.sample.id)
