"""Second phase: the whole model learns to caption pictures and to answer questions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vigos_cli.data.priorworld.captions import read_caption
from vigos_cli.data.priorworld.dataset import question_rows
from vigos_cli.data.priorworld.scene import GRID, seeded
from vigos_cli.pretraining.collate import IMAGE_SLOT, Collator, pixels
from vigos_cli.pretraining.documents import Documents, step_documents
from vigos_cli.pretraining.optimization import ahead, optimizer_and_schedule

STEPS, LR = 4001, 2e-3  # all of the model


def learn_to_answer(
    model: Any,
    collator: Collator,
    prompts: dict[str, str],
    seed: int,
    save: Callable[[], None],
    *,
    documents_of: Documents = step_documents,
    steps: int = STEPS,
    lr: float = LR,
) -> list[dict]:
    """Train all of the model on documents, saving at each probe; return the log."""
    optimizer, schedule = optimizer_and_schedule(list(model.parameters()), lr, steps, warmup=200)
    start, log = time.time(), []
    model.train()

    def draw(step: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        pictures, documents = documents_of(seeded("pretrain", seed, step), prompts)
        documents.sort(key=lambda document: len(document.text))  # in three parts: less padding
        third = -(-len(documents) // 3)
        parts = [documents[i : i + third] for i in range(0, len(documents), third)]
        return pixels(pictures), [collator.batch(part) for part in parts]

    for step, (shown, batches) in enumerate(ahead(draw, steps)):
        count = len(shown) // (4 * GRID * GRID)
        grid = torch.tensor([[1, GRID * 2, GRID * 2]]).expand(count, -1)
        looks = model.model.visual(shown, grid_thw=grid).pooler_output.view(count, GRID * GRID, -1)
        tokens = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        loss = sum((summed_loss(model, looks, batch) for batch in batches), torch.zeros(())) / tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        last = step == steps - 1
        if step % 50 == 0 or last:
            minutes = round((time.time() - start) / 60, 1)
            line = {"phase": "answer", "step": step, "loss": round(loss.item(), 4), "minutes": minutes}
            if last or (step and step % 250 == 0):
                model.eval()
                line |= probe(model, collator, prompts)
                model.train()
                save()
            log.append(line)
            print(json.dumps(line), flush=True)
    return log


def summed_loss(model: Any, looks: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy summed over the learned tokens; `looks` are the pictures' embeddings (pictures, 9, H)."""
    labels = batch["labels"]
    embedded = model.model.get_input_embeddings()(batch["ids"])
    shown = looks[batch["picture"]]
    embedded = torch.cat([embedded[:, :IMAGE_SLOT], shown, embedded[:, IMAGE_SLOT + 9 :]], 1)
    hidden = model.model.language_model(
        inputs_embeds=embedded, position_ids=batch["position_ids"], use_cache=False
    ).last_hidden_state[:, :-1]
    learned = labels[:, 1:] != -100
    return torch.nn.functional.cross_entropy(
        model.lm_head(hidden[learned]), labels[:, 1:][learned], reduction="sum"
    )


@torch.no_grad()
def probe(model: Any, collator: Collator, prompts: dict[str, str]) -> dict[str, float]:
    """Greedy accuracy on the validation split, to watch the skills form: captions, and answers by family."""
    samples = question_rows("validation", 80)
    hits: dict[str, list[float]] = {}
    for mode in ("caption", "structured"):
        prompt = prompts["structured"] if mode == "structured" else ""
        encoded = [
            collator.head
            + collator.encode(prompt.replace("{question}", sample.question))
            + collator.middle
            + collator.encode("<description>")
            for sample in samples
        ]
        width = max(map(len, encoded))
        ids = torch.tensor([[collator.pad] * (width - len(row)) + row for row in encoded])
        out = model.generate(
            input_ids=ids,
            attention_mask=ids.ne(collator.pad).long(),
            mm_token_type_ids=ids.eq(collator.image_pad).int(),
            pixel_values=pixels([sample.images[0] for sample in samples]),
            image_grid_thw=torch.tensor([[1, 6, 6]]).expand(len(samples), -1),
            max_new_tokens=80,
            do_sample=False,
        )
        texts = collator.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        for sample, text in zip(samples, texts, strict=True):
            told = read_caption(text.split("</description>")[0])
            assert sample.scene is not None
            true = told == {t[0]: list(t[1:]) for t in sample.scene["things"]}  # type: ignore[union-attr]
            kind = sample.family if sample.prior is None else ("agree" if sample.prior.agrees else "conflict")
            hits.setdefault(f"{mode} exact {kind if sample.prior else 'other'}", []).append(true)
            if mode == "structured":
                hits.setdefault(f"answer {kind}", []).append(text.endswith(f"\\boxed{{{sample.answer}}}"))
    return {name: round(sum(values) / len(values), 3) for name, values in hits.items()}
