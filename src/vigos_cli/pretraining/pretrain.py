"""Make bases: the shipped tiny model, and others of the same recipe from other seeds.

    python -m vigos_cli.pretraining.pretrain --seed 0 1 2 3 4 --out bases

First the vision tower learns alone, as those of real models do, to tell what is in each cell. Then the
language model learns from texts beside empty pictures, and at last all of the model from pictures and texts.
Each base takes half an hour on one core, and is written with its card to `OUT/seedN`. A base that is complete
is not made again. Muon, one of the optimizers, needs torch 2.9.
"""

from __future__ import annotations

import argparse
import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vigos_cli.ablation.teacher_card import CARD
from vigos_cli.data.priorworld.dataset import question_rows
from vigos_cli.pretraining.build import build_model, build_processor, build_tokenizer
from vigos_cli.pretraining.card import LOG, write_card
from vigos_cli.pretraining.collate import Collator, pixels
from vigos_cli.pretraining.corpus import tokenizer_corpus
from vigos_cli.pretraining.documents import short_prompts
from vigos_cli.pretraining.language_phase import LESSONS, learn
from vigos_cli.pretraining.vision_phase import learn_to_see


def save_base(model: Any, processor: Any, out: Path) -> None:
    """The weights in half the size, with all that is needed to load them."""
    out.mkdir(parents=True, exist_ok=True)
    halved = copy.deepcopy(model).to(torch.bfloat16)
    halved.save_pretrained(out)
    processor.save_pretrained(out)


def write_log(log: list[dict], out: Path, seed: int) -> None:
    """How the pretraining went."""
    log[-1]["seed"] = seed
    (out / LOG).write_text("".join(json.dumps(line) + "\n" for line in log))


def pretrain(seed: int, out: Path) -> None:
    """Train and save one base."""
    prompts = short_prompts()
    tokenizer = build_tokenizer(tokenizer_corpus(prompts))  # the same for every seed
    processor = build_processor(tokenizer)
    check = [sample.images[0] for sample in question_rows("validation", 4)]
    theirs = processor.image_processor(check, return_tensors="pt")  # type: ignore[operator]
    torch.testing.assert_close(pixels(check), theirs["pixel_values"])

    model: Any = build_model(tokenizer, seed)
    collator = Collator(tokenizer, model)
    log = learn_to_see(model, seed)
    for lesson in LESSONS:
        log += learn(model, collator, prompts, seed, lesson, partial(save_base, model, processor, out))
    write_log(log, out, seed)


def main() -> None:
    """Train and save the bases that are not complete yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)  # so that several can be made side by side, with the same result
    for seed in args.seed:
        out = args.out / f"seed{seed}"
        made = (out / LOG).exists()
        if not made:
            pretrain(seed, out)
        if not made or not (out / CARD).exists():
            write_card(out)


if __name__ == "__main__":
    main()
