"""What a teacher can see or be told of a PriorWorld sample: crops, cues and examples.

    >>> PICTURES["crop"](sample)            # the asked thing, enlarged twice
    >>> TEXTS["cue"](sample)                # of 'What colour is the hat?'
    'hat: striped top left.'

Nothing here changes a sample: all of it is computed from the sample's picture, question and scene. Every
family of questions has every column. The *asked place* is where the answer can be seen:

    colour, pattern  the cell of the asked thing
    place            the whole column of cells with the asked thing: its cell alone does not show its row
    left_of          the smallest rectangle of cells that has both things
    count            the smallest rectangle of cells that has all things
    background       an empty cell, drawn by the sample's name

The texts use only words that the shipped model knows. A wrong reference (`data.wrong_reference`) changes
`demonstration` and nothing else here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from PIL import Image

from vigos_cli.data.degradations import Box, crop_box, red_box
from vigos_cli.data.priorworld.captions import caption, clause
from vigos_cli.data.priorworld.looks import ATTRIBUTES
from vigos_cli.data.priorworld.picture import CELL
from vigos_cli.data.priorworld.questions import ask
from vigos_cli.data.priorworld.scene import COLUMNS, GRID, ROWS, Scene, Thing, scene_of_split, seeded
from vigos_cli.types import Sample

# ---- where the answer can be seen


def scene_of(sample: Sample) -> Scene:
    """The scene of a PriorWorld sample."""
    assert sample.scene is not None
    looks: list[tuple[str, str, str, str, str]] = sample.scene["things"]  # type: ignore[assignment]
    things = (Thing(k, c, p, ROWS.index(r), COLUMNS.index(q)) for k, c, p, r, q in looks)
    return Scene(tuple(things), str(sample.scene["background"]))


def named_things(sample: Sample) -> list[Thing]:
    """The things that the question names, in reading order; none for `count` and `background`."""
    words = re.findall(r"\w+", sample.question)
    return [thing for thing in scene_of(sample).things if thing.kind in words]


def asked_place(sample: Sample) -> Box:
    """The rectangle of the picture in which the answer can be seen, in pixels; see the module docstring."""
    cells = [(thing.row, thing.column) for thing in named_things(sample) or scene_of(sample).things]
    if sample.family == "place":
        cells = [(row, column) for _, column in cells for row in range(GRID)]
    if sample.family == "background":
        empty = [(row, column) for row in range(GRID) for column in range(GRID)]
        empty = [cell for cell in empty if cell not in cells]
        cells = [seeded("empty cell", sample.id).choice(empty)]
    rows, columns = zip(*cells, strict=True)
    return (
        CELL * min(columns),
        CELL * min(rows),
        CELL * (max(columns) + 1),
        CELL * (max(rows) + 1),
    )


# ---- pictures


def crop(sample: Sample) -> tuple[Image.Image, ...]:
    """The asked place, enlarged twice: what the teachers of Vision-OPD and OPD-V see."""
    return (crop_box(sample.images[0], asked_place(sample)),)


def boxed(sample: Sample) -> tuple[Image.Image, ...]:
    """The picture with a red frame around the asked place: what the students of Vision-OPD see.

    The frame is one pixel wide. It covers no thing that is named, since things keep a pixel from the edges
    of their cells.
    """
    return (red_box(sample.images[0], asked_place(sample), width=1),)


# ---- texts


def boxed_note(sample: Sample) -> str:
    """A sentence about the red frame of `boxed`.

    Vision-OPD asks to look only inside the box. The shipped model has no words for that request, so the
    sentence states what is in the box.
    """
    match sample.family:
        case "count":
            return "The things are in the red box."
        case "background":
            return "The background is in the red box."
    places = (f"the {thing.kind} is in the red box" for thing in named_things(sample))
    text = ", ".join(places)
    return f"{text[0].upper()}{text[1:]}."


def cue(sample: Sample) -> str:
    """A description of the asked place that neither states the answer nor reasons (ViCuR).

    Things are described by clauses of the caption. Where one word of a clause is the answer (colour, pattern,
    place), the clause of the asked thing without that word: where to look, and what else is seen there. Where
    the answer is not a word of a clause, whole clauses: of both things (left_of), of all things (count,
    background). So the answers to left_of and count still follow from the cue, by comparing or counting, and
    those of the other families do not follow. A cue written by a model for real pictures may say more: in a
    question about a look, the visible evidence is the answer itself.
    """
    things = named_things(sample) or scene_of(sample).things
    clauses = map(clause, things)
    if sample.family in ("colour", "pattern", "place"):
        left_out = (*ATTRIBUTES, "place").index(sample.family)
        clauses = [_without_word(text, left_out) for text in clauses]
    return " ".join(clauses)


def _without_word(clause: str, place: int) -> str:
    """A clause without its colour (0), pattern (1) or row (2)."""
    kind, look = clause.split(": ")
    words = look.split()
    return f"{kind}: {' '.join(words[:place] + words[place + 1 :])}"


def demonstration(sample: Sample) -> str:
    """An expert's whole response to this very question: description, thought and answer (SDFT).

    >>> demonstration(sample)
    'hat: red striped top left. tree: green plain middle right. The hat is red. The answer is red.'

    With a wrong reference the expert is wrong too.
    """
    return worked(scene_of(sample), sample.solution or "", sample.answer)


def family_example(sample: Sample) -> str:
    """Another question of the same family with an expert's response, about a scene that is not shown.

    The scene is drawn from the training split by the sample's name, and is another one than the sample's. It
    says nothing about this sample; its answer can be the same by chance.
    """
    rng = seeded("family example", sample.id)
    own = scene_of(sample)
    while (scene := scene_of_split("train", rng, 0.5, trained=True)) == own:
        pass
    example = ask(scene, sample.family, rng)
    return f"{example.text} {worked(scene, example.solution, example.answer)}"


def worked(scene: Scene, solution: str, answer: str) -> str:
    """A response in words: the caption, the worked solution and the answer."""
    stated = f"The answer is {answer}."  # a wrong reference's solution is this sentence
    return " ".join([caption(scene), *([solution] if solution != stated else []), stated])


PICTURES: dict[str, Callable[[Sample], tuple[Image.Image, ...]]] = {"crop": crop, "boxed": boxed}
TEXTS: dict[str, Callable[[Sample], str]] = {
    "boxed_note": boxed_note,
    "cue": cue,
    "demonstration": demonstration,
    "family_example": family_example,
}
