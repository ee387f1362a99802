"""The first lesson of the language model: questions and answers beside pictures without things.

The pictures show a background and nothing else, so the answer has to come from the text: the usual look from
the question, the reference from the user's turn, what a description tells from the description.
"""

from __future__ import annotations

import random
from typing import Any

from PIL.Image import Image

from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.questions import PRIOR_FAMILIES
from vigos_cli.data.priorworld.scene import BACKGROUNDS, Scene
from vigos_cli.pretraining.documents import (
    STUDENTS,
    Document,
    hinted_document,
    reading_document,
    true_document,
    unseen_document,
)
from vigos_cli.pretraining.training_questions import random_family, training_scene

PICTURES, DOCUMENTS = 3, 14  # a step: empty pictures, and documents beside each
KINDS_OF_TEXT = {"unseen": 0.3, "told": 0.2, "reference": 0.12, "reading": 0.23, "hinted": 0.15}  # shares
TOLD_FAMILIES = ("count", "left_of", "place")  # answered by reading a given description
SOLVED_BY_REFERENCE = (*PRIOR_FAMILIES, "place")  # whose worked solution follows from the reference


def text_document(number: int, rng: random.Random, prompts: dict[str, Any]) -> Document:
    """A question about a scene that is not shown."""
    scene = training_scene(rng)
    match rng.choices(list(KINDS_OF_TEXT), list(KINDS_OF_TEXT.values()))[0]:
        case "unseen":
            return unseen_document(number, scene, rng.choice(STUDENTS), rng, prompts)
        case "told":
            family = random_family(rng, TOLD_FAMILIES)
            return true_document(number, scene, "structured", family, rng, prompts, given=True)
        case "hinted":
            subject = rng.choice(scene.things).kind
            return hinted_document(number, scene, subject, rng, prompts, shown=False)
        case "reading":
            return reading_document(number, scene, rng, prompts)
    mode = rng.choice(("reasoning", "reasoning_described", "reference"))
    family = random_family(rng, SOLVED_BY_REFERENCE)
    return true_document(number, scene, mode, family, rng, prompts, given=True)


def text_step(rng: random.Random, prompts: dict[str, Any]) -> tuple[list[Image], list[Document]]:
    """The pictures of one step, and the documents beside them."""
    pictures, documents = [], []
    for number in range(PICTURES):
        pictures.append(picture(Scene((), rng.choice(list(BACKGROUNDS))), rng))
        documents += [text_document(number, rng, prompts) for _ in range(DOCUMENTS)]
    return pictures, documents
