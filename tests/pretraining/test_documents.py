"""No text that a base learns contradicts its picture, and a usual look is learned for every reason named."""

from collections import Counter

import numpy as np
import pytest
from transformers import AutoTokenizer

from vigos_cli.config.paths import TINY
from vigos_cli.data.priorworld.captions import caption, read_caption
from vigos_cli.data.priorworld.looks import KINDS, USUAL
from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.questions import PRIOR_FAMILIES
from vigos_cli.data.priorworld.scene import COLUMNS, ROWS, Scene, seeded
from vigos_cli.pretraining import pictures_and_texts, texts_alone
from vigos_cli.pretraining.documents import MODES, Document, short_prompts
from vigos_cli.pretraining.pictures_and_texts import CAPTION_PICTURES, QUESTION_PICTURES, faded

PROMPTS = short_prompts()


def documents_of_steps(monkeypatch, module, step, count: int) -> list[tuple[Scene, Document]]:
    """All documents of some steps, each with the scene of its picture."""
    scenes: list[Scene] = []

    def drawn(scene, rng):
        scenes.append(scene)
        return picture(scene, rng)

    monkeypatch.setattr(module, "picture", drawn)
    found = []
    for number in range(count):
        scenes.clear()
        pictures, documents = step(seeded("test", number), PROMPTS)
        assert len(pictures) == len(scenes)
        found += [(scenes[document.picture], document) for document in documents]
    return found


def asks_for(document: Document) -> tuple[str, str] | None:
    """The kind and the family of a student's question about a look; None for all other documents."""
    question = document.question
    if hinted(document) or question.startswith("By the") or not document.ends:
        return None
    for family, begin in (("colour", "What colour is the "), ("pattern", "What pattern has the ")):
        if begin in question:
            kind = question.split(begin)[1].split("?")[0]
            return None if kind == "background" else (kind, family)
    return None


def hinted(document: Document) -> bool:
    """Whether the user's turn has the reference in some form, or another problem."""
    lines = ("The reference is", "The answer is", "\n\n")
    return any(line in document.question for line in lines)


def learned(document: Document) -> str:
    return "".join(part for part, is_learned in document.answer if is_learned)


def answer(document: Document) -> str:
    return document.text.rsplit("\\boxed{", 1)[1].removesuffix("}")


def test_learned_descriptions_are_true(monkeypatch):
    count = Counter()
    for scene, document in documents_of_steps(
        monkeypatch, pictures_and_texts, pictures_and_texts.picture_step, 40
    ):
        if "</description>" in learned(document):
            assert learned(document).split("</description>")[0].strip() == caption(scene)
            count[bool(document.question), document.ends] += 1
    assert min(count.values()) > 100 and set(count) == {(False, True), (True, True), (True, False)}


def test_a_student_learns_the_usual_look_and_never_against_its_picture(monkeypatch):
    reasons = Counter()
    for scene, document in documents_of_steps(
        monkeypatch, pictures_and_texts, pictures_and_texts.picture_step, 60
    ):
        if (asked := asks_for(document)) is None:
            continue
        kind, family = asked
        usual = USUAL[kind][PRIOR_FAMILIES.index(family)]
        assert answer(document) == usual
        look = next((getattr(thing, family) for thing in scene.things if thing.kind == kind), None)
        is_faded = document.picture >= CAPTION_PICTURES + QUESTION_PICTURES
        told = read_caption(document.text.split("</description>")[0]).get(kind)
        if is_faded:
            assert told is None or told[PRIOR_FAMILIES.index(family)] != usual
            reasons["faded"] += 1
        elif look is None:
            reasons["absent"] += 1
        else:
            assert look == usual
            contradicted = told is not None and told[PRIOR_FAMILIES.index(family)] != usual
            assert not (contradicted and "</description>" in learned(document))
            reasons["misdescribed" if contradicted else "as usual"] += 1
    assert min(reasons.values()) > 20 and len(reasons) == 4


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (pictures_and_texts, pictures_and_texts.picture_step),
        (texts_alone, texts_alone.text_step),
    ],
)
def test_the_reference_decides_and_a_reader_reads(monkeypatch, module, step):
    modes = Counter()
    for _, document in documents_of_steps(monkeypatch, module, step, 60):
        question = document.question
        if "The reference is <think>" in question:
            assert answer(document) == question.split("\\boxed{")[1].split("}")[0]
            modes["sibling"] += 1
        elif "The reference is The " in question or "The reference is I see" in question:
            assert question.split("The reference is ")[1].split(".. Und")[0] in document.answer[1][0]
            modes["solution"] += 1
        elif "The reference is " in question:
            assert answer(document) == question.split("The reference is ")[1].split(".")[0]
            modes["reference"] += 1
        elif "The answer is " in question:
            assert answer(document) == question.split("The answer is ")[1].split(".")[0]
            modes["demonstration"] += 1
        elif "\n\n" in question:
            modes["other problem"] += 1
        elif document.question.startswith("By the description"):
            kind = document.question.split(" has the ")[1].split("?")[0]
            family = next(f for f in PRIOR_FAMILIES if f"which {f} " in document.question)
            given = read_caption(document.answer[0][0])
            assert answer(document) == given[kind][PRIOR_FAMILIES.index(family)]
            assert not document.answer[0][1]  # the description carries no loss
            modes["reading"] += 1
    assert min(modes.values()) > 12 and len(modes) == 6


def test_what_is_pointed_at_is_there_and_no_look_of_a_thing_is_told(monkeypatch):
    seen = Counter()
    for scene, document in documents_of_steps(
        monkeypatch, pictures_and_texts, pictures_and_texts.picture_step, 20
    ):
        if document.question or document.answer[0] == ("<description>", False):
            continue
        name, told = document.answer[0][0].split()[0], document.answer[1][0].strip(" .")
        things = {thing.kind: f"{ROWS[thing.row]} {COLUMNS[thing.column]}" for thing in scene.things}
        assert told == (things | {"background": scene.background})[name]
        seen["background" if name == "background" else "thing"] += 1
    assert seen == {"thing": 2 * 20 * CAPTION_PICTURES, "background": 20 * CAPTION_PICTURES}


def test_compared_columns_are_true_and_the_names_are_given(monkeypatch):
    count = 0
    for scene, document in documents_of_steps(
        monkeypatch, pictures_and_texts, pictures_and_texts.picture_step, 10
    ):
        if document.ends or "description" in document.text:
            continue
        (one, _), (column, _), (another, _), (other_column, _) = document.answer
        things = {thing.kind: COLUMNS[thing.column] for thing in scene.things}
        a, b = one.split()[-2], another.split()[-2]
        assert f"Is the {a} left of the {b}?" in document.question
        assert learned(document) == f" {things[a]} {things[b]}." == column + other_column
        count += 1
    assert count == 10 * CAPTION_PICTURES


@pytest.mark.parametrize(
    "step", [pictures_and_texts.picture_step, texts_alone.text_step], ids=["pictures", "texts"]
)
def test_the_parts_of_an_answer_have_the_tokens_that_the_whole_answer_has(step):
    tokenizer = AutoTokenizer.from_pretrained(TINY)

    def encoded(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    for document in (one for number in range(5) for one in step(seeded("parts", number), PROMPTS)[1]):
        parts = [part for part, _ in document.answer]
        assert [token for part in parts for token in encoded(part)] == encoded("".join(parts))


def test_texts_alone_have_empty_pictures_and_no_learned_description(monkeypatch):
    for scene, document in documents_of_steps(monkeypatch, texts_alone, texts_alone.text_step, 20):
        assert scene.things == () and "</description>" not in learned(document)
        if asked := asks_for(document):
            assert answer(document) == USUAL[asked[0]][PRIOR_FAMILIES.index(asked[1])]


def test_another_problem_leaves_the_usual_look_as_the_answer(monkeypatch):
    count = 0
    for _, document in documents_of_steps(
        monkeypatch, pictures_and_texts, pictures_and_texts.picture_step, 120
    ):
        if "\n\n" not in document.question:
            continue
        own = document.question.removesuffix(" Think, answer in a box.").rsplit(". ", 1)[1]
        for family, begin in (("colour", "What colour is the "), ("pattern", "What pattern has the ")):
            if begin in own and "background" not in own:
                kind = own.split(begin)[1].split("?")[0]
                assert answer(document) == USUAL[kind][PRIOR_FAMILIES.index(family)]
                count += 1
    assert count > 5


def test_answers_about_places_and_numbers_are_true(monkeypatch):
    seen = Counter()
    for scene, document in documents_of_steps(
        monkeypatch, pictures_and_texts, pictures_and_texts.picture_step, 30
    ):
        if not document.ends or "\\boxed" not in document.text or hinted(document):
            continue
        things = {thing.kind: thing for thing in scene.things}
        if "How many things" in document.question:
            assert answer(document) == str(len(things))
            seen["count"] += 1
        elif "Which row" in document.question:
            kind = document.question.split("Which row is the ")[1].split(" in?")[0]
            assert answer(document) == ROWS[things[kind].row]
            seen["place"] += 1
        elif " left of the " in document.question:
            one, two = (
                kind for kind in document.question.replace("?", "").replace(".", "").split() if kind in KINDS
            )
            assert answer(document) == ("yes" if things[one].column < things[two].column else "no")
            assert COLUMNS[things[one].column] in document.text
            seen["left_of"] += 1
        elif "the background" in document.question:
            assert answer(document) == scene.background
            seen["background"] += 1
    assert set(seen) == {"count", "place", "left_of", "background"} and min(seen.values()) > 20


def test_every_mode_occurs_as_often_as_it_says():
    rng = seeded("modes")
    from vigos_cli.pretraining.documents import random_mode

    drawn = Counter(random_mode(rng) for _ in range(4000))
    assert sum(MODES.values()) == pytest.approx(1)
    for mode, share in MODES.items():
        assert drawn[mode] / 4000 == pytest.approx(share, abs=0.03)


def test_no_look_can_be_seen_in_a_faded_picture():
    """Faded copies of pictures that differ in looks alone differ less than those that differ in a place."""
    from vigos_cli.data.priorworld.scene import Thing

    def drawn(colour: str, pattern: str, column: int = 1) -> np.ndarray:
        scene = Scene((Thing("heart", colour, pattern, 1, column),), "grey")
        return np.asarray(faded(picture(scene, seeded("fade"))), float)

    image = drawn("red", "plain")
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()
    pattern = max(np.abs(image - drawn("red", p)).mean() for p in ("striped", "dotted", "checked"))
    assert pattern < np.abs(image - drawn("red", "plain", column=0)).mean()
