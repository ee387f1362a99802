"""Every text and picture that a routing can name, from the right row, and the columns that they need."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from written_rollouts import DATA, RIGHT, prepared, write

from vigos_cli.config.routing_checks import check_routing
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import RoutingConfig, StudentContext, SuperviseConfig, TeacherContext
from vigos_cli.data.columns import NeededColumns
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import load_data
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import other_row, prepare
from vigos_cli.supervision.contexts import supervise_all
from vigos_cli.supervision.siblings import Group
from vigos_cli.supervision.told import (
    PICTURE,
    check_row,
    columns_of_other_row,
    needed_columns,
    pictures_of,
    told_texts,
)

from conftest import distill_config  # isort: skip

SAMPLE = replace(DATA[0], fields={"hint": "Look left.", "steps": "One. Two."})
GROUP = Group(True, {"right": ("long right", "right"), "wrong": ("wrong",)})
OTHER = "other_row"


@cache
def plain() -> Any:
    return distill_config("routing=opsd")


def routing(*told: Any, sees: Any = "image", **more: Any) -> RoutingConfig:
    """A single teacher, which is told and shown this."""
    teacher = TeacherContext(sees=sees, told=list(told), **more)
    one = RoutingConfig(
        student=StudentContext(format="think"),
        teachers={"one": teacher},
        supervise=SuperviseConfig(all="one"),
    )
    check_routing(one)
    return one


def item_of(tiny: Any, table: RoutingConfig, sample: Any = SAMPLE, data: Any = DATA) -> Any:
    """The sample as a run with this routing reads it."""
    _, (item,) = prepared(tiny, replace(plain(), routing=routing()), [0], [sample])
    return replace(item, other=other_row(data, sample, table, seed=0))


def told(tiny: Any, *entries: Any, sample: Any = SAMPLE, **item: Any) -> tuple[str, str]:
    table = routing(*entries)
    texts = told_texts(table.teachers["one"], replace(item_of(tiny, table, sample), **item), GROUP, table)
    return texts.question, texts.reference


# ---- texts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "question", "reference"),
    [
        ([], "", ""),
        (["question"], SAMPLE.question, ""),
        (["answer"], "", "yellow"),
        (["question", "answer"], SAMPLE.question, "yellow"),
        (["solution"], "", "The tree is yellow."),
        ([{"column": "hint"}], "", "Look left."),
        ([{"column": "steps"}, "question", {"column": "hint"}], SAMPLE.question, "One. Two.\n\nLook left."),
        ([{"column": "cue"}], "", "tree: checked middle left."),
        (["answer", "solution"], "", "yellow\n\nThe tree is yellow."),
        ([{"sibling": "right"}], "", "long right"),
        ([{"sibling": "right", "choose": "shortest"}], "", "right"),
        ([{"sibling": "wrong", "choose": "longest"}], "", "wrong"),
    ],
)
def test_each_entry_tells_its_text_in_the_order_of_the_file(tiny, entries, question, reference):
    assert told(tiny, *entries) == (question, reference)


def test_a_row_without_a_solution_tells_its_answer(tiny):
    assert told(tiny, "solution", sample=replace(SAMPLE, solution=None)) == ("", "yellow")


def test_references_are_told_without_their_markup(tiny):
    marked = replace(SAMPLE, answer=r"\boxed{yellow}", solution=r"It is \boxed{yellow}.")
    assert told(tiny, "answer", "solution", sample=marked)[1] == "yellow\n\nIt is yellow."


@pytest.mark.parametrize("which", ["majority", "right"])
def test_a_missing_sibling_is_named(tiny, which):
    table = routing({"sibling": which})
    with pytest.raises(BadRow, match=f"no_{which}_sibling"):
        told_texts(table.teachers["one"], item_of(tiny, table), Group(), table)


def test_a_measurement_replaces_every_answer_and_nothing_else(tiny):
    other = {"row": "other", "column": "answer"}
    assert told(tiny, "answer", replaced="blue") == ("", "blue")
    assert told(tiny, other, replaced="blue") == ("", "blue")
    assert (
        told(tiny, "solution", {"column": "hint"}, replaced="blue")[1] == "The tree is yellow.\n\nLook left."
    )


# ---- other rows


@pytest.mark.parametrize("column", ["question", "answer", "solution", "cue", "demonstration"])
def test_another_row_is_the_same_one_for_a_row_and_differs_in_what_counts(column):
    table = routing("question", {"row": "other", "column": column})
    assert columns_of_other_row(table) == {column}
    chosen = []
    for sample in (DATA[i] for i in range(24)):
        one, again = (other_row(DATA, sample, table, seed=0) for _ in range(2))
        assert one is not None and again is not None and one.id == again.id
        assert one.id != sample.id
        if column == "answer":
            assert one.answer != sample.answer
        else:
            assert one.question != sample.question
        chosen.append(one.id)
    assert len(set(chosen)) > 12, "the rows do not share one donor"
    elsewhere = [other_row(DATA, DATA[i], table, seed=1) for i in range(24)]
    assert [one.id for one in elsewhere if one] != chosen, "the seed chooses"


def test_another_row_never_has_the_same_question_whatever_its_spelling():
    same = [replace(SAMPLE, id=f"s{i}", question=f"  {SAMPLE.question.upper()} ") for i in range(9)]
    table = routing("question", {"row": "other", "column": "solution"})
    with pytest.raises(BadRow, match="no_other_row"):
        other_row(same, SAMPLE, table, seed=0)
    one = other_row([*same, DATA[1]], SAMPLE, table, seed=0)
    assert one is not None and one.question == DATA[1].question


def test_no_other_row_is_drawn_if_no_teacher_needs_one():
    assert other_row(DATA, SAMPLE, routing("question", "answer"), seed=0) is None


def test_both_texts_of_another_row_are_of_the_same_row(tiny):
    entries = [{"row": "other", "column": name} for name in ("question", "solution")]
    table = routing("question", *entries)
    item = item_of(tiny, table)
    texts = told_texts(table.teachers["one"], item, GROUP, table)
    assert texts.reference == f"{item.other.question}\n\n{item.other.solution}"


# ---- pictures


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def seen(tiny: Any, sees: Any, sample: Any = SAMPLE) -> tuple[Image.Image, ...]:
    return pictures_of(sees, item_of(tiny, routing("question", sees=sees), sample), seed=0)


def test_each_word_shows_its_picture(tiny):
    (own,) = SAMPLE.images
    (shown,) = seen(tiny, "image")
    assert same(shown, own) and seen(tiny, "none") == ()
    (black,), (noise,), (blur,) = (seen(tiny, word) for word in ("black", "noise", "blur"))
    assert black.size == noise.size == blur.size == own.size
    assert black.getextrema() == ((0, 0),) * 3
    assert len(noise.getcolors(84 * 84) or ()) > 6000
    steps = [max(abs(a - b) for a, b in pairwise(one.convert("L").tobytes())) for one in (own, blur)]
    assert steps[1] < steps[0] / 4, "no sharp edge is left"
    (masked,) = seen(tiny, {"mask": "image", "area": 0.25})
    hidden = ImageChops.difference(masked, own).getbbox()
    assert hidden is not None
    left, top, right, bottom = hidden
    assert (right - left) * (bottom - top) <= 0.26 * 84 * 84
    (again,) = seen(tiny, {"mask": "image", "area": 0.25}, replace(SAMPLE, id="another"))
    assert same(masked, again), "the same place for equal sizes"


def test_a_column_shows_its_own_pictures_and_a_mask_of_it_the_same_size(tiny):
    chart = Image.new("RGB", (60, 30), (200, 10, 10))
    sample = replace(SAMPLE, fields={"chart": (chart,)})
    (shown,) = seen(tiny, {"column": "chart"}, sample)
    assert same(shown, chart)
    (masked,) = seen(tiny, {"mask": {"column": "chart"}, "area": 0.5}, sample)
    assert masked.size == chart.size
    assert sorted(colour for _, colour in masked.getcolors() or ()) == [(0, 0, 0), (200, 10, 10)]
    with pytest.raises(BadRow, match="no_column_chart"):
        seen(tiny, {"column": "chart"})


def test_the_picture_of_another_row_is_the_one_whose_text_is_told(tiny):
    table = routing("question", {"row": "other", "column": "solution"}, sees={"row": "other"})
    item = item_of(tiny, table)
    assert pictures_of({"row": "other"}, item, seed=0) == item.other.images
    with pytest.raises(BadRow, match=OTHER):
        pictures_of({"row": "other"}, replace(item, other=None), seed=0)


def test_one_of_draws_once_for_a_sample_and_leaves_the_rest_as_it_is(tiny):
    sees = {"one_of": [[0.5, "black"]]}
    found = [seen(tiny, sees, replace(SAMPLE, id=f"s{i}"))[0] for i in range(40)]
    black = [one.getextrema() == ((0, 0),) * 3 for one in found]
    assert 10 < sum(black) < 30
    assert all(dark or same(one, SAMPLE.images[0]) for dark, one in zip(black, found, strict=True))
    again = [seen(tiny, sees, replace(SAMPLE, id=f"s{i}"))[0] for i in range(40)]
    assert all(map(same, found, again))


# ---- columns


def test_the_needed_columns_are_those_of_the_student_and_of_used_teachers():
    used = TeacherContext(sees={"mask": {"column": "crop"}}, told=["question", {"column": "cue"}])
    may_lack = TeacherContext(told=[{"column": "hint"}, {"row": "other", "column": "steps"}], missing="skip")
    unused = TeacherContext(sees={"column": "map"}, told=[{"column": "note"}])
    table = RoutingConfig(
        student=StudentContext(format="think", sees={"column": "boxed"}),
        teachers={"used": used, "may_lack": may_lack, "unused": unused},
        supervise=SuperviseConfig(all=["used", "may_lack"]),
    )
    assert needed_columns(table) == NeededColumns(
        ("cue", "hint", "steps"), ("boxed", "crop"), ("hint", "steps")
    )
    assert needed_columns(routing("question", "answer")) == NeededColumns()


def test_a_row_without_a_column_is_refused_unless_the_teacher_may_be_missing(tiny):
    for more in ({}, {"missing": "skip"}):
        for entries, sees in (
            (["question", {"column": "gone"}], "image"),
            (["question"], {"column": "gone"}),
        ):
            table = routing(*entries, sees=sees, **more)
            item = item_of(tiny, table)
            if more:
                check_row(item, table, seed=0)
            else:
                with pytest.raises(BadRow, match="no_column_gone"):
                    check_row(item, table, seed=0)


def with_hints(folder: Path) -> Path:
    """Three rows, of which the second has no hint."""
    DATA[0].images[0].save(folder / "a.png")
    rows = [{"image": "a.png", "question": f"{i}?", "answer": "red", "hint": "Look."} for i in range(3)]
    del rows[1]["hint"]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


@pytest.mark.parametrize(
    ("missing", "counted", "taught"), [("error", 1, [True, True]), ("skip", 0, [True, False, True])]
)
def test_rows_without_a_column_are_left_out_or_lose_the_terms_of_their_teacher(
    tiny, tmp_path, missing, counted, taught
):
    table = routing("question", {"column": "hint"}, missing=missing)
    config = replace(distill_config("data=jsonl", f"data.path={with_hints(tmp_path)}"), routing=table)
    rows = load_data(config.data, config.seed, None, needed_columns(table))
    prompter, counts = Prompter(tiny.processor, config.prompt, table), Counter[str]()
    items = prepare(rows, list(enumerate(range(3))), prompter, config, counts)
    assert counts == Counter({"no_column_hint": counted} if counted else {})
    found = supervise_all([(item, write(tiny, item, RIGHT)) for item in items], prompter, config)
    assert [bool(row.terms) for row in found] == taught
    assert [("one" in row.contexts) for row in found] == taught
    assert all(STUDENT in row.contexts for row in found)


def test_priorworld_gives_each_column_to_every_family():
    table = routing("question", {"column": "cue"}, {"column": "demonstration"}, sees={"column": "crop"})
    data = PriorWorld(size=24)
    assert {sample.family for sample in data} >= {"colour", "count", "background"}
    assert needed_columns(table).further == ("cue", "demonstration", "crop")


@pytest.mark.parametrize("sees", [{"row": "other"}, {"mask": {"row": "other"}, "area": 0.3}])
def test_another_row_is_needed_wherever_its_picture_is_seen(sees):
    """Without it, a row would have no picture to mask, and its teacher would be left out without a word."""
    supervise = SuperviseConfig(all="a")
    teacher = RoutingConfig(teachers={"a": TeacherContext(sees=sees, told=["question"])}, supervise=supervise)
    plain = {"a": TeacherContext(told=["question"])}
    student = RoutingConfig(student=StudentContext(sees=sees), teachers=plain, supervise=supervise)
    assert columns_of_other_row(teacher) == columns_of_other_row(student) == {PICTURE}
    assert columns_of_other_row(RoutingConfig(teachers=plain, supervise=supervise)) == set()
