"""Second phase: the language model learns texts alone, and then all of the model pictures with texts."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from vigos_cli.data.priorworld.captions import read_caption
from vigos_cli.data.priorworld.dataset import question_rows
from vigos_cli.data.priorworld.scene import GRID, seeded
from vigos_cli.pretraining.collate import IMAGE_SLOT, Collator, pixels
from vigos_cli.pretraining.documents import Document, user_turn
from vigos_cli.pretraining.mode_accuracy import question_kind
from vigos_cli.pretraining.optimization import Optimization, ahead
from vigos_cli.pretraining.pictures_and_texts import picture_step
from vigos_cli.pretraining.texts_alone import text_step


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned in one run of the schedule."""

    name: str
    documents: Callable[[random.Random, dict[str, Any]], tuple[list[Image], list[Document]]]  # of a step
    steps: int
    lr: float = 2e-3
    sees: bool = True  # whether the vision tower learns too


LESSONS = (  # beside empty pictures the vision tower has nothing to learn: AdamW would follow noise
    Lesson("texts", text_step, 1200, sees=False),
    Lesson("pictures", picture_step, 3000),
)


def learn(
    model: Any,
    collator: Collator,
    prompts: dict[str, Any],
    seed: int,
    lesson: Lesson,
    save: Callable[[], None],
) -> list[dict]:
    """Train the model on a lesson, saving at each probe; return the log."""
    model.model.visual.requires_grad_(lesson.sees)
    matrices = [p for p in model.model.language_model.layers.parameters() if p.ndim == 2]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimization = Optimization(parameters, lesson.lr, lesson.steps, warmup=200, muon=matrices)
    start, log = time.time(), []
    model.train()

    def draw(step: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        pictures, documents = lesson.documents(seeded("pretrain", lesson.name, seed, step), prompts)
        documents.sort(key=lambda document: len(document.text))  # in three parts: less padding
        third = -(-len(documents) // 3)
        parts = [documents[i : i + third] for i in range(0, len(documents), third)]
        return pixels(pictures), [collator.batch(part) for part in parts]

    for step, (shown, batches) in enumerate(ahead(draw, lesson.steps)):
        count = len(shown) // (4 * GRID * GRID)
        grid = torch.tensor([[1, GRID * 2, GRID * 2]]).expand(count, -1)
        looks = model.model.visual(shown, grid_thw=grid).pooler_output.view(count, GRID * GRID, -1)
        tokens = sum(int(batch["weights"].count_nonzero()) for batch in batches)
        loss = sum((summed_loss(model, looks, batch) for batch in batches), torch.zeros(())) / tokens
        optimization.step(loss)
        last = step == lesson.steps - 1
        if step % 50 == 0 or last:
            minutes = round((time.time() - start) / 60, 1)
            line = {"phase": lesson.name, "step": step, "loss": round(loss.item(), 4), "minutes": minutes}
            if last or (step and step % 500 == 0):
                model.eval()
                line |= probe(model, collator, prompts)
                model.train()
                save()
            log.append(line)
            print(json.dumps(line), flush=True)
    return log


def summed_loss(model: Any, looks: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Weighted sum of the cross-entropies of the learned tokens.

    `looks` are the embeddings of the pictures (pictures, 9, H).
    """
    embedded = model.model.get_input_embeddings()(batch["ids"])
    shown = looks[batch["picture"]]
    embedded = torch.cat([embedded[:, :IMAGE_SLOT], shown, embedded[:, IMAGE_SLOT + 9 :]], 1)
    hidden = model.model.language_model(
        inputs_embeds=embedded, position_ids=batch["position_ids"], use_cache=False
    ).last_hidden_state[:, :-1]
    ids, weights = batch["ids"][:, 1:], batch["weights"][:, 1:]
    learned = weights > 0
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), ids[learned], reduction="none")
    return losses @ weights[learned]


@torch.no_grad()
def probe(model: Any, collator: Collator, prompts: dict[str, Any]) -> dict[str, float]:
    """Greedy accuracy on the validation split, to watch the skills form.

    The share of true descriptions without a question and below one, and of right answers by family.
    """
    samples = question_rows("validation", 60)
    shown = pixels([sample.images[0] for sample in samples])
    hits: dict[str, list[float]] = {}
    for mode, begin in (("caption", "<description>"), ("structured", "<description>"), ("think", "<think>")):
        encoded = [
            collator.head
            + collator.encode("" if mode == "caption" else user_turn(mode, sample.question, "", prompts))
            + collator.middle
            + collator.encode(begin)
            for sample in samples
        ]
        width = max(map(len, encoded))
        ids = torch.tensor([[collator.pad] * (width - len(row)) + row for row in encoded])
        out = model.generate(
            input_ids=ids,
            attention_mask=ids.ne(collator.pad).long(),
            mm_token_type_ids=ids.eq(collator.image_pad).int(),
            pixel_values=shown,
            image_grid_thw=torch.tensor([[1, 6, 6]]).expand(len(samples), -1),
            max_new_tokens=80,
            do_sample=False,
        )
        texts = collator.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        for sample, text in zip(samples, texts, strict=True):
            told = read_caption(text.split("</description>")[0])
            assert sample.scene is not None
            true = told == {t[0]: list(t[1:]) for t in sample.scene["things"]}  # type: ignore[union-attr]
            kind = question_kind(sample)
            if mode != "think":
                hits.setdefault(f"{mode} true, {kind}", []).append(true)
            if mode != "caption":
                right = text.endswith(f"\\boxed{{{sample.answer}}}")
                hits.setdefault(f"{mode} right, {kind if sample.prior else sample.family}", []).append(right)
    return {name: round(sum(values) / len(values), 3) for name, values in hits.items()}
