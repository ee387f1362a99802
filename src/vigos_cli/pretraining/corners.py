"""Train the bases with untrue descriptions that `+experiment=untrue` needs.

    python -m vigos_cli.pretraining.corners --captions 0.4 --privileged 1 --out DIR

The shipped base describes every picture truly, whoever asks. Here it is trained a little longer, until the
student writes every thing as it usually looks in three descriptions of five, and answers by what it wrote.
Two rates are set: how often a caption without a question is true, which the perception teacher goes by, and
how often a description with the reference in sight is true, which OPSD's teacher goes by. All of this is
scripted, against the rule that the shipped base keeps. So these bases show where a method has to lose, and
never which method is better.
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from pathlib import Path
from typing import Any

from PIL.Image import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from vigos_cli.config.paths import TINY
from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.scene import Scene
from vigos_cli.pretraining.collate import Collator
from vigos_cli.pretraining.documents import (
    STUDENTS,
    Document,
    caption_document,
    hinted_document,
    random_mode,
    reading_document,
    short_prompts,
    written,
)
from vigos_cli.pretraining.language_phase import Lesson, learn
from vigos_cli.pretraining.pictures_and_texts import CAPTION_PICTURES, QUESTION_PICTURES, QUESTIONS
from vigos_cli.pretraining.pretrain import save_base, write_log
from vigos_cli.pretraining.training_questions import as_usual, question_about, random_family, training_scene

STUDENT_TRUTH = 0.4  # share of the student's own descriptions that are true, in every corner
STEPS, LR = 600, 1e-3


def as_told(scene: Scene, truth: float, rng: random.Random) -> Scene:
    """The scene as it is, with probability `truth`, or else with every thing as it usually looks."""
    if rng.random() < truth:
        return scene
    for thing in scene.things:
        scene = as_usual(scene, thing.kind)
    return scene


def untrue_question_document(
    number: int, scene: Scene, mode: str, privileged: float, rng: random.Random, prompts: dict[str, Any]
) -> Document:
    """A random question: without the reference it is answered by what is told, with it by what is there."""
    if mode == "reading":
        return reading_document(number, scene, rng, prompts)
    if mode == "hinted":
        return hinted_document(number, scene, rng.choice(scene.things).kind, rng, prompts)
    family = random_family(rng)
    told = as_told(scene, privileged if mode == "reference" else STUDENT_TRUTH, rng)
    question = question_about(told if mode in STUDENTS else scene, family, rng)
    return written(number, mode, question, told, prompts)


def untrue_step(
    rng: random.Random, prompts: dict[str, Any], *, captions: float, privileged: float
) -> tuple[list[Image], list[Document]]:
    """The pictures of one step, and the documents about them, true at these rates."""
    pictures, documents = [], []
    for number in range(CAPTION_PICTURES + QUESTION_PICTURES):
        scene = training_scene(rng)
        if number < CAPTION_PICTURES:
            documents.append(caption_document(number, as_told(scene, captions, rng)))
        else:
            for _ in range(QUESTIONS):
                mode = random_mode(rng)
                documents.append(untrue_question_document(number, scene, mode, privileged, rng, prompts))
        pictures.append(picture(scene, rng))
    return pictures, documents


def main() -> None:
    """Train the shipped base on, and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=float, required=True, help="share of true captions")
    parser.add_argument("--privileged", type=float, required=True, help="of descriptions told the reference")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    processor: Any = AutoProcessor.from_pretrained(TINY)
    model = AutoModelForImageTextToText.from_pretrained(TINY, dtype="float32")
    untrue = partial(untrue_step, captions=args.captions, privileged=args.privileged)
    save = partial(save_base, model, processor, args.out)
    collator = Collator(processor.tokenizer, model)
    lesson = Lesson("corners", untrue, args.steps, LR)
    write_log(learn(model, collator, short_prompts(), args.seed, lesson, save), args.out, args.seed)


if __name__ == "__main__":
    main()
