"""The second lesson of the language model: descriptions of pictures, and questions about them."""

from __future__ import annotations

import random
from typing import Any

from PIL import ImageFilter
from PIL.Image import Image

from vigos_cli.data.priorworld.picture import picture
from vigos_cli.pretraining.documents import (
    STUDENTS,
    Document,
    caption_document,
    comparing_document,
    pointing_documents,
    prompted_caption,
    question_document,
    random_mode,
    unseen_document,
)
from vigos_cli.pretraining.training_questions import as_usual, training_scene

CAPTION_PICTURES = 8  # a step: pictures with descriptions, alone and below a question, and with places
QUESTION_PICTURES, QUESTIONS = 6, 4  # a step: pictures with questions, and the number of questions about each
FADED_PICTURES = 2  # a step: grey, blurred pictures, with as many questions about looks
BLUR = 3  # pixels, the standard deviation of the blur; a cell has 28 pixels


def faded(image: Image) -> Image:
    """A picture in which colours and patterns cannot be told; a colour leaves a shade of grey."""
    return image.convert("L").filter(ImageFilter.GaussianBlur(BLUR)).convert("RGB")


def picture_step(rng: random.Random, prompts: dict[str, Any]) -> tuple[list[Image], list[Document]]:
    """The pictures of one step, and the documents about them."""
    pictures: list[Image] = []
    documents: list[Document] = []
    for _ in range(CAPTION_PICTURES):
        scene = training_scene(rng)
        documents.append(caption_document(len(pictures), scene))
        documents += pointing_documents(len(pictures), scene, rng)
        documents.append(comparing_document(len(pictures), scene, rng, prompts))
        documents.append(prompted_caption(len(pictures), scene, rng, prompts))
        pictures.append(picture(scene, rng))
    for _ in range(QUESTION_PICTURES):
        scene = training_scene(rng)
        subject = rng.choice(scene.things).kind
        scene = as_usual(scene, subject)
        for _ in range(QUESTIONS):
            mode = random_mode(rng)
            documents.append(question_document(len(pictures), scene, subject, mode, rng, prompts))
        pictures.append(picture(scene, rng))
    for _ in range(FADED_PICTURES):
        scene = training_scene(rng)
        for _ in range(QUESTIONS):
            mode = rng.choice(STUDENTS)
            documents.append(unseen_document(len(pictures), scene, mode, rng, prompts))
        pictures.append(faded(picture(scene, rng)))
    return pictures, documents
