"""The families of questions about a PriorWorld scene, with their true answers.

    >>> ask(scene, "colour", rng, asked="hat")
    Question(text='What colour is the hat?', answer='red', solution='The hat is red.', asked='hat')

A *prior family* (colour, pattern) has a usual answer for each kind of thing. The other families have none.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from vigos_cli.data.priorworld.looks import ATTRIBUTES, usual_value
from vigos_cli.data.priorworld.scene import BACKGROUNDS, COLUMNS, ROWS, Scene

PRIOR_FAMILIES = tuple(ATTRIBUTES)
OTHER_FAMILIES = ("count", "left_of", "place", "background")  # a caption does not state the background
ANSWERS = ATTRIBUTES | {
    "count": ("2", "3", "4"),
    "left_of": ("yes", "no"),
    "place": ROWS,
    "background": tuple(BACKGROUNDS),
}


class Question(NamedTuple):
    """A question, its true answer, a worked solution, and the kind that it is about ("" if it has none)."""

    text: str
    answer: str
    solution: str
    asked: str


def vocabulary(family: str) -> tuple[str, ...]:
    """All possible answers to the questions of a family; empty for a family of another data set."""
    return ANSWERS.get(family, ())


def ask(scene: Scene, family: str, rng: random.Random, asked: str = "") -> Question:
    """A question of this family about the thing of kind `asked`, or about a random thing of the scene."""
    thing = next((t for t in scene.things if t.kind == asked), None) or rng.choice(scene.things)
    kind = thing.kind
    match family:
        case "colour":
            answer = thing.colour
            return Question(f"What colour is the {kind}?", answer, f"The {kind} is {answer}.", kind)
        case "pattern":
            answer = thing.pattern
            return Question(f"What pattern has the {kind}?", answer, f"The {kind} is {answer}.", kind)
        case "place":
            answer = ROWS[thing.row]
            return Question(f"Which row is the {kind} in?", answer, f"The {kind} is {answer}.", kind)
        case "left_of":
            a, b = rng.choice([(a, b) for a in scene.things for b in scene.things if a.column != b.column])
            places = f"The {a.kind} is {COLUMNS[a.column]}, the {b.kind} is {COLUMNS[b.column]}."
            answer = "yes" if a.column < b.column else "no"
            return Question(f"Is the {a.kind} left of the {b.kind}?", answer, places, a.kind)
        case "count":
            names = ", ".join(t.kind for t in scene.things)
            return Question("How many things are there?", str(len(scene.things)), f"I see {names}.", "")
        case "background":
            answer = scene.background
            return Question("What colour is the background?", answer, f"The background is {answer}.", "")
    raise ValueError(f"no question family {family!r}")


def usual_fact(kind: str, attribute: str) -> str:
    """The usual colour or pattern of a kind as a sentence, which is put before the question."""
    plural = kind if kind == "fish" else kind + "s"
    return f"{plural.capitalize()} are usually {usual_value(kind, attribute)}."
