"""Train the bases with untrue descriptions that `+experiment=untrue` needs.

    python -m vigos_cli.pretraining.corners --captions 0.4 --privileged 1 --out DIR

The shipped base describes every picture truly, whoever asks. Here it is trained a little longer until, in
three descriptions of five, the student writes every thing as it usually looks, and answers by what it wrote.
How often a caption without a question is true, which the perception teacher goes by, and a description with
the reference in sight, which OPSD's teacher goes by, are the two axes. All of it is scripted, against the
rule that the shipped base keeps, so these bases show where a method has to lose, and never which is better.
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
from vigos_cli.data.priorworld.captions import caption
from vigos_cli.data.priorworld.dataset import make_sample
from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.scene import Scene
from vigos_cli.pretraining.collate import Collator
from vigos_cli.pretraining.documents import (
    CAPTION_PICTURES,
    QUESTION_MODES,
    QUESTION_PICTURES,
    Document,
    as_usual,
    caption_documents,
    draw_question,
    short_prompts,
    train_scene,
    written,
)
from vigos_cli.pretraining.language_phase import learn_to_answer
from vigos_cli.pretraining.pretrain import save_base, write_log

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
    number: int, scene: Scene, mode: str, privileged: float, rng: random.Random, prompts: dict[str, str]
) -> Document:
    """A random question: without the reference it is answered by what is told, with it by what is there."""
    family, stated = draw_question(rng)
    told = as_told(scene, privileged if mode == "reference" else STUDENT_TRUTH, rng)
    answered = told if mode in ("structured", "think") else scene
    sample = make_sample("", answered, family, rng, stated=stated)
    return written(number, mode, sample, caption(told), prompts)


def untrue_step_documents(
    rng: random.Random, prompts: dict[str, str], *, captions: float, privileged: float
) -> tuple[list[Image], list[Document]]:
    """The pictures of one step, and the documents about them, true at these rates."""
    pictures, documents = [], []
    for number in range(CAPTION_PICTURES + QUESTION_PICTURES):
        scene = train_scene(rng)
        if number < CAPTION_PICTURES:
            documents += caption_documents(number, scene, caption(as_told(scene, captions, rng)), rng)
        else:
            for mode in rng.choices(list(QUESTION_MODES), list(QUESTION_MODES.values()), k=4):
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
    log = learn_to_answer(
        model,
        Collator(processor.tokenizer, model),
        short_prompts(),
        args.seed,
        partial(save_base, model, processor, args.out),
        documents_of=partial(untrue_step_documents, captions=args.captions, privileged=args.privileged),
        steps=args.steps,
        lr=LR,
    )
    write_log(log, args.out, args.seed)


if __name__ == "__main__":
    main()
