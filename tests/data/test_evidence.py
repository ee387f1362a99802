"""The columns of PriorWorld show the place of the answer, tell what they say, and change no sample."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from vigos_cli.config.paths import TINY
from vigos_cli.data.columns import picture_column, text_column
from vigos_cli.data.priorworld import PriorWorld, evidence, question_rows, vocabulary
from vigos_cli.data.priorworld.captions import caption, read_caption
from vigos_cli.data.priorworld.looks import COLOURS
from vigos_cli.data.priorworld.scene import BACKGROUNDS
from vigos_cli.types import Sample

FAMILIES = ("colour", "pattern", "place", "left_of", "count", "background")
TEXTS = ("boxed_note", "cue", "demonstration", "family_example")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


@cache
def samples() -> list[Sample]:
    found = [*PriorWorld("train", 120, 3, 0.5), *question_rows("heldout", 8)]
    assert {sample.family for sample in found} == set(FAMILIES)
    return found


def of(family: str) -> list[Sample]:
    return [sample for sample in samples() if sample.family == family]


def looks(sample: Sample) -> dict[str, tuple[str, str, str, str]]:
    assert sample.scene is not None
    things: list[tuple[str, str, str, str, str]] = sample.scene["things"]  # type: ignore[assignment]
    return {kind: (colour, pattern, row, column) for kind, colour, pattern, row, column in things}


def cell(row: str, column: str) -> tuple[int, int, int, int]:
    x, y = 28 * COLUMNS.index(column), 28 * ROWS.index(row)
    return x, y, x + 28, y + 28


def shown(sample: Sample) -> Image.Image:
    (picture,) = picture_column(sample, "crop")
    return picture


# ---------------------------------------------------------------- pictures


def near(image: Image.Image, colour: tuple[int, int, int], within: int = 24) -> float:
    """The share of pixels that have this colour."""
    difference = np.abs(np.asarray(image, int) - np.array(colour)).max(-1)
    return float((difference <= within).mean())


@pytest.mark.parametrize("family", ["colour", "pattern"])
def test_the_crop_of_a_question_about_a_look_is_the_thing_enlarged_twice(family):
    for sample in of(family):
        assert sample.scene is not None
        colour, _, row, column = looks(sample)[str(sample.scene["asked"])]
        crop = shown(sample)
        assert crop.size == (56, 56)
        own = sample.images[0].crop(cell(row, column))
        halved = np.asarray(crop.resize((28, 28), Image.Resampling.BOX), float)
        assert np.abs(np.asarray(own, float) - halved).mean() < 6  # the same cell, but for the enlarging
        assert near(crop, COLOURS[colour]) > 0.5 * near(own, COLOURS[colour]) > 0.01


def test_the_crop_of_a_question_about_a_row_shows_all_rows():
    for sample in of("place"):
        assert sample.scene is not None
        crop = shown(sample)
        assert crop.size == (56, 168)
        colour, _, _, column = looks(sample)[str(sample.scene["asked"])]
        for row in ROWS:
            third = crop.crop((0, ROWS.index(row) * 56, 56, ROWS.index(row) * 56 + 56))
            own = sample.images[0].crop(cell(row, column))
            halved = np.asarray(third.resize((28, 28), Image.Resampling.BOX), float)
            assert np.abs(np.asarray(own, float) - halved).mean() < 6
            if row == sample.answer:
                assert near(third, COLOURS[colour]) > 0.5 * near(own, COLOURS[colour]) > 0.01


def test_the_crop_of_two_or_all_things_shows_each_of_them():
    for sample in [*of("left_of"), *of("count")]:
        box, scene = evidence.asked_place(sample), looks(sample)
        words = re.findall(r"\w+", sample.question)
        named = [scene[word] for word in words if word in scene] or list(scene.values())
        assert len(named) == (2 if sample.family == "left_of" else len(scene))
        cells = [cell(row, column) for *_, row, column in named]
        lows, highs = zip(*((c[:2], c[2:]) for c in cells), strict=True)
        assert box == (
            min(x for x, _ in lows),
            min(y for _, y in lows),
            max(x for x, _ in highs),
            max(y for _, y in highs),
        )
        assert shown(sample).size == (2 * (box[2] - box[0]), 2 * (box[3] - box[1]))


def test_the_crop_of_the_background_has_nothing_else():
    for sample in of("background"):
        assert shown(sample).size == (56, 56)
        assert np.ptp(np.asarray(shown(sample)), axis=(0, 1)).max() == 0
        assert near(shown(sample), BACKGROUNDS[sample.answer], within=8) == 1


def test_the_box_is_red_around_the_place_and_covers_nothing_of_what_is_asked():
    for sample in samples():
        left, top, right, bottom = evidence.asked_place(sample)
        (boxed,) = picture_column(sample, "boxed")
        changed = (np.asarray(boxed) != np.asarray(sample.images[0])).any(-1)
        frame = np.zeros((84, 84), bool)
        frame[top:bottom, left:right] = True
        frame[top + 1 : bottom - 1, left + 1 : right - 1] = False
        assert np.array_equal(changed, frame)
        assert (np.asarray(boxed)[frame] == (255, 0, 0)).all()
        if sample.family in ("colour", "pattern", "background", "count"):
            # What the frame covers is background: things keep a pixel from the edges of their cells.
            assert np.ptp(np.asarray(sample.images[0])[frame], axis=0).max() == 0


# ---------------------------------------------------------------- texts


def test_the_cue_describes_the_place_and_does_not_state_the_answer():
    expected = {"colour": 1, "pattern": 1, "place": 1, "left_of": 0, "count": 0, "background": 0}
    for sample in samples():
        text, scene = text_column(sample, "cue"), looks(sample)
        assert sample.answer not in re.findall(r"\w+", text), (sample.question, text)
        left_out = expected[sample.family]
        clauses = re.findall(r"(\w+): ([\w ]+)\.", text)
        for kind, words in clauses:
            own = list(scene[kind])
            assert len(words.split()) == 4 - left_out
            assert words.split() == [word for word in own if not left_out or word != sample.answer]
        named = [word for word in re.findall(r"\w+", sample.question) if word in scene]
        assert {kind for kind, _ in clauses} == set(named or scene)
        assert " ".join(f"{kind}: {words}." for kind, words in clauses) == text  # and says no more


def test_only_the_answers_to_left_of_and_count_follow_from_the_cue():
    """Two samples that differ in the answer alone have the same cue, in every other family."""
    groups: dict[str, set[str]] = {}
    for sample in question_rows("heldout", 12):
        if sample.prior:
            groups.setdefault(sample.group, set()).add(text_column(sample, "cue"))
    assert len(groups) == 12 and all(len(cues) == 1 for cues in groups.values())


def test_a_demonstration_is_the_whole_response_to_this_question():
    for sample in samples():
        text = text_column(sample, "demonstration")
        assert (
            text == f"{caption(evidence.scene_of(sample))} {sample.solution} The answer is {sample.answer}."
        )
        assert set(read_caption(text)) == set(looks(sample))


def test_an_expert_with_a_wrong_reference_is_wrong_once():
    wrong = list(PriorWorld("train", 30, 0, 0.5, wrong_reference=1.0))
    right = list(PriorWorld("train", 30, 0, 0.5))
    for sample, true in zip(wrong, right, strict=True):
        text = text_column(sample, "demonstration")
        assert text.endswith(f". The answer is {sample.answer}.") and text.count("The answer is") == 1
        assert sample.answer != true.answer and str(true.solution) not in text
        for name in ("cue", "boxed_note", "family_example"):
            assert text_column(sample, name) == text_column(true, name)
        assert shown(sample).tobytes() == shown(true).tobytes()


def test_a_family_example_is_a_true_response_about_another_scene():
    starts = {
        "colour": "What colour is the ",
        "pattern": "What pattern has the ",
        "place": "Which row is the ",
        "left_of": "Is the ",
        "count": "How many things are there?",
        "background": "What colour is the background?",
    }
    same_answer = 0
    for sample in samples():
        text = text_column(sample, "family_example")
        question, rest = text.split("? ", 1)
        assert f"{question}?".startswith(starts[sample.family])
        answer = re.fullmatch(r".* The answer is (\w+)\.", rest)
        assert answer and answer[1] in vocabulary(sample.family)
        scene = read_caption(rest)
        assert scene != {kind: list(look) for kind, look in looks(sample).items()}
        words = [word for word in re.findall(r"\w+", question) if word in scene]
        match sample.family:  # the answer is that of the example's own scene
            case "colour" | "pattern" | "place":
                assert answer[1] == scene[words[0]][("colour", "pattern", "place").index(sample.family)]
            case "count":
                assert answer[1] == str(len(scene))
            case "left_of":
                a, b = (COLUMNS.index(scene[word][3]) for word in words)
                assert answer[1] == ("yes" if a < b else "no")
        same_answer += answer[1] == sample.answer
    assert 0 < same_answer < len(samples()) / 2


def test_the_note_says_what_is_in_the_box():
    for sample in samples():
        text = text_column(sample, "boxed_note")
        named = [word for word in re.findall(r"\w+", sample.question) if word in looks(sample)]
        subjects = re.findall(r"[Tt]he (\w+) (?:is|are) in the red box", text)
        assert set(subjects) == set(named or [{"count": "things"}.get(sample.family, "background")])
        assert text[0] == "T" and text.endswith("box.")


def test_the_texts_are_words_that_the_shipped_model_knows():
    """Behind a space, as in a prompt, each word is one token; questions start without one there."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    known = set(tokenizer.get_vocab())
    for sample in samples():
        for name in TEXTS:
            for word in re.findall(r"\w+|[.,:?]", text_column(sample, name)):
                assert f"Ġ{word}" in known or word in known, (name, word)


# ---------------------------------------------------------------- no sample changes


def test_columns_depend_on_the_sample_only_and_leave_it_as_it_is():
    one, two = PriorWorld("train", 20, 3, 0.5), PriorWorld("train", 9, 3, 0.5)
    for index in range(9):
        before = one[index].images[0].tobytes()
        sample, again = one[index], two[index]
        for name in TEXTS:
            assert text_column(sample, name) == text_column(again, name)
        for name in ("crop", "boxed"):
            assert picture_column(sample, name)[0].tobytes() == picture_column(again, name)[0].tobytes()
        assert sample.images[0].tobytes() == before and dict(sample.fields) == {}
    cells = {evidence.asked_place(sample) for sample in of("background")}
    assert len(cells) > 3  # the empty cell is drawn
