"""Make the shipped tiny model, from its untrained parts to its saved weights.

    python -m vigos_cli.pretraining.pretrain --out DIR --seed 0

First the vision tower learns alone, as real ones do, to tell what is in each cell; then the whole model
learns to caption, to say of a thing by its name what it looks like and where it is, and to answer.
"""

from __future__ import annotations

import argparse
import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vigos_cli.config.paths import TINY
from vigos_cli.data.priorworld.dataset import question_rows
from vigos_cli.data.priorworld.scene import seeded
from vigos_cli.pretraining.build import build_model, build_processor, build_tokenizer
from vigos_cli.pretraining.collate import Collator, pixels
from vigos_cli.pretraining.documents import short_prompts, tokenizer_corpus
from vigos_cli.pretraining.language_phase import learn_to_answer
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
    (out / "pretraining.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))


def main() -> None:
    """Train and save one base."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TINY)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prompts = short_prompts()

    tokenizer = build_tokenizer(tokenizer_corpus(seeded("corpus"), prompts))  # the same for every seed
    processor = build_processor(tokenizer)
    check = [sample.images[0] for sample in question_rows("validation", 4)]
    theirs = processor.image_processor(check, return_tensors="pt")  # type: ignore[operator]
    torch.testing.assert_close(pixels(check), theirs["pixel_values"])

    model: Any = build_model(tokenizer, args.seed)
    log = learn_to_see(model, args.seed)
    save = partial(save_base, model, processor, args.out)
    log += learn_to_answer(model, Collator(tokenizer, model), prompts, args.seed, save)
    write_log(log, args.out, args.seed)


if __name__ == "__main__":
    main()
