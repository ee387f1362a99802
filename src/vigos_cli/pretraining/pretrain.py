"""The recipe of the shipped tiny model: `python -m vigos_cli.pretraining.pretrain --out DIR --seed 0`.

No target contradicts its picture. The prior comes from frequency alone, as it does in instruction data, whose
answers are skewed given the question while the pictures are not: what a student's question asks about looks
as usual, everything else in any picture looks as usual half of the time. Where the reference is given, what
is asked about looks as usual half of the time too, so that the reference has to be read. Only pictures of the
training split are used.

First the vision tower learns alone, as real ones do, to tell what is in each cell; then the whole model
learns to caption, to say of a thing by its name what it looks like and where it is, and to answer.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL.Image import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vigos_cli.config.paths import TINY, config_dir
from vigos_cli.data.priorworld import (
    BACKGROUNDS,
    COLOURS,
    GRID,
    KINDS,
    PATTERNS,
    PRIOR_FAMILIES,
    USUAL,
    Scene,
    caption,
    clause,
    draw_scene,
    make_sample,
    picture,
    question_rows,
    read_caption,
    seeded,
    with_value,
)
from vigos_cli.pretraining.build import build_model, build_processor, build_tokenizer
from vigos_cli.types import Sample

CAPTION_PICTURES = 10  # a step: pictures with a caption, and what NAMED of their things look like by name
NAMED = 2
QUESTION_PICTURES = 8  # a step: pictures with four question documents each, of these modes
QUESTION_MODES = {  # shares
    "structured": 0.40,  # the student's prompt
    "plain": 0.16,  # think and answer
    "reasoning": 0.14,  # with the reference: think and answer
    "reasoning_described": 0.14,  # the same behind a description that is given, not learned
    "reference": 0.16,  # with the reference, the full structure
}
FAMILIES = {
    "colour": 0.18,
    "pattern": 0.18,
    "count": 0.12,
    "left_of": 0.24,
    "place": 0.16,
    "background": 0.12,
}
USUAL_RATE = 0.5  # probability that a colour, or a pattern, looks as usual; of the asked thing see above
SIGHT_STEPS, SIGHT_PICTURES, SIGHT_LR = 400, 64, 2e-3  # the vision tower alone
STEPS, LR = 4001, 2e-3  # all of the model
IMAGE_SLOT = 4  # tokens before the picture: turn start, "user", newline, vision start
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


@dataclass(frozen=True, slots=True)
class Document:
    """One training text: the user's turn, and the answer in parts, each with whether it is learned."""

    picture: int
    question: str
    answer: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        """All of it."""
        return self.question + "".join(part for part, _ in self.answer)


def train_scene(rng: random.Random, subject_usual: bool = False) -> Scene:
    """A scene of the training split; its `subject` can be made to look as usual."""
    while True:
        scene = draw_scene(rng, USUAL_RATE)
        if subject_usual:
            scene = as_usual(scene, subject(scene))
        if scene.split() == "train":
            return scene


def as_usual(scene: Scene, kind: str) -> Scene:
    """The same scene, with this thing as it usually looks."""
    for family, value in zip(PRIOR_FAMILIES, USUAL[kind], strict=True):
        scene = with_value(scene, kind, family, value)
    return scene


def subject(scene: Scene) -> str:
    """The thing that the students' questions with a usual answer ask about."""
    return (
        seeded("subject", sorted((t.kind, t.row, t.column) for t in scene.things)).choice(scene.things).kind
    )


def question_document(
    picture: int, scene: Scene, mode: str, rng: random.Random, prompts: dict[str, str]
) -> Document:
    """A random question about the scene in one of `QUESTION_MODES`."""
    family, stated = draw_question(rng)
    asked = subject(scene) if family in PRIOR_FAMILIES and mode in ("structured", "plain") else ""
    sample = make_sample("", scene, family, rng, asked=asked, stated=stated)
    return written(picture, mode, sample, caption(scene), prompts)


def draw_question(rng: random.Random) -> tuple[str, bool]:
    """A question's family, and whether the usual fact is stated with it."""
    (family,) = rng.choices(list(FAMILIES), list(FAMILIES.values()))
    return family, family in PRIOR_FAMILIES and rng.random() < 0.5


def written(picture: int, mode: str, sample: Sample, description: str, prompts: dict[str, str]) -> Document:
    """A question, and the answer in one of `QUESTION_MODES`, behind this description where it has one."""
    described = f" {description} </description>"
    thought = f" {sample.solution} </think> \\boxed{{{sample.answer}}}"
    prompt = prompts["reasoning" if mode == "reasoning_described" else mode]
    question = prompt.replace("{question}", sample.question).replace("{reference}", sample.answer)
    match mode:
        case "structured" | "reference":
            answer = (("<description>", False), (f"{described} <think>{thought}", True))
        case "reasoning_described":
            answer = ((f"<description>{described} <think>", False), (thought, True))
        case _:
            answer = (("<think>", False), (thought, True))
    return Document(picture, question, answer)


def caption_documents(picture: int, scene: Scene, text: str, rng: random.Random) -> list[Document]:
    """A caption, and what some of the picture's things look like by name."""
    documents = [Document(picture, "", (("<description>", False), (f" {text} </description>", True)))]
    for thing in rng.sample(scene.things, NAMED):
        name, look = clause(thing).split(":")
        documents.append(Document(picture, "", ((f" {name}:", False), (look, True))))
    return documents


Documents = Callable[[random.Random, dict[str, str]], tuple[list[Image], list[Document]]]


def step_documents(rng: random.Random, prompts: dict[str, str]) -> tuple[list[Image], list[Document]]:
    """The pictures of one step, and the documents about them."""
    pictures, documents = [], []
    for k in range(CAPTION_PICTURES):
        scene = train_scene(rng)
        documents += caption_documents(k, scene, caption(scene), rng)
        pictures.append(picture(scene, rng))
    for k in range(CAPTION_PICTURES, CAPTION_PICTURES + QUESTION_PICTURES):
        scene = train_scene(rng, subject_usual=True)
        for mode in rng.choices(list(QUESTION_MODES), list(QUESTION_MODES.values()), k=4):
            documents.append(question_document(k, scene, mode, rng, prompts))
        pictures.append(picture(scene, rng))
    return pictures, documents


def pixels(pictures: list[Image]) -> Tensor:
    """The pictures as Qwen2-VL patches (rows x 36, 1176), as the processor makes them but in one go."""
    raw = torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8) for p in pictures])
    image = raw.view(len(pictures), 84, 84, 3).permute(0, 3, 1, 2).float() / 255
    image = (image - MEAN) / STD
    grid = image.view(-1, 3, 3, 2, 14, 3, 2, 14).permute(
        0, 2, 5, 3, 6, 1, 4, 7
    )  # rows, gh, gw, mh, mw, C, p, p
    return grid.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(len(pictures) * 36, 1176)


class Recipe:
    """Turns documents into batches of tensors."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: Any):
        self.tokenizer = tokenizer
        token: Any = tokenizer.convert_tokens_to_ids
        encode = self.encode
        self.head = [token("<|im_start|>"), *encode("user\n"), token("<|vision_start|>")]
        assert len(self.head) == IMAGE_SLOT
        self.head += [token("<|image_pad|>")] * 9 + [token("<|vision_end|>")]
        self.middle = [token("<|im_end|>"), *encode("\n"), token("<|im_start|>"), *encode("assistant\n")]
        self.stop, self.pad = token("<|im_end|>"), token("<|endoftext|>")
        self.image_pad = token("<|image_pad|>")
        self.rope = model.model.get_rope_index

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]

    def batch(self, documents: list[Document]) -> dict[str, Tensor]:
        """Right-padded inputs and labels; the given parts of an answer carry no label."""
        rows = []
        for document in documents:
            ids = self.head + self.encode(document.question) + self.middle
            labels = [-100] * len(ids)
            for part, learned in (*document.answer, (None, True)):
                tokens = [self.stop] if part is None else self.encode(part)
                ids += tokens
                labels += tokens if learned else [-100] * len(tokens)
            rows.append((ids, labels))
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [self.pad] * (width - len(ids)) for ids, _ in rows])
        labels = torch.tensor([lab + [-100] * (width - len(lab)) for _, lab in rows])
        # Every row starts with the same picture slots, so one row's positions serve all.
        position, _ = self.rope(
            ids[:1],
            ids[:1].eq(self.image_pad).int(),
            image_grid_thw=torch.tensor([[1, 6, 6]]),
            attention_mask=torch.ones_like(ids[:1]),
        )
        return {
            "ids": ids,
            "labels": labels,
            "picture": torch.tensor([document.picture for document in documents]),
            "position_ids": position.expand(-1, len(rows), -1),
        }


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
def probe(model: Any, recipe: Recipe, prompts: dict[str, str]) -> dict[str, float]:
    """Greedy accuracy on the validation split, to watch the skills form: captions, and answers by family."""
    samples = question_rows("validation", 80)
    hits: dict[str, list[float]] = {}
    for mode in ("caption", "structured"):
        rows = []
        for sample in samples:
            question = (
                prompts["structured"].replace("{question}", sample.question) if mode == "structured" else ""
            )
            rows.append((sample, question, "<description>", ""))
        encoded = [
            recipe.head + recipe.encode(q) + recipe.middle + recipe.encode(given) for _, q, given, _ in rows
        ]
        width = max(map(len, encoded))
        ids = torch.tensor([[recipe.pad] * (width - len(row)) + row for row in encoded])
        out = model.generate(
            input_ids=ids,
            attention_mask=ids.ne(recipe.pad).long(),
            mm_token_type_ids=ids.eq(recipe.image_pad).int(),
            pixel_values=pixels([sample.images[0] for sample in samples]),
            image_grid_thw=torch.tensor([[1, 6, 6]]).expand(len(rows), -1),
            max_new_tokens=80,
            do_sample=False,
        )
        texts = recipe.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        for sample, text in zip(samples, texts, strict=True):
            told = read_caption(text.split("</description>")[0])
            assert sample.scene is not None
            true = told == {t[0]: list(t[1:]) for t in sample.scene["things"]}  # type: ignore[union-attr]
            kind = sample.family if sample.prior is None else ("agree" if sample.prior.agrees else "conflict")
            hits.setdefault(f"{mode} exact {kind if sample.prior else 'other'}", []).append(true)
            if mode == "structured":
                hits.setdefault(f"answer {kind}", []).append(text.endswith(f"\\boxed{{{sample.answer}}}"))
    return {name: round(sum(values) / len(values), 3) for name, values in hits.items()}


def optimizer_and_schedule(parameters: list[Tensor], lr: float, steps: int, warmup: int):
    """AdamW with weight decay on matrices; cosine to a fiftieth."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * s / steps)))
    )


@dataclass(frozen=True, slots=True)
class Steps(torch.utils.data.Dataset[Any]):
    """What `draw` gives for each step."""

    draw: Callable[[int], Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Any:
        return self.draw(step)


def ahead(draw: Callable[[int], Any], count: int) -> Iterable[Any]:
    """`draw(0)`, `draw(1)`, ... drawn by another process while the one before is learned from."""
    return torch.utils.data.DataLoader(Steps(draw, count), batch_size=None, num_workers=1, prefetch_factor=4)


def cell_labels(scenes: list[Scene]) -> Tensor:
    """What is in each cell (pictures x 9, 6): kind, colour, pattern (0: nothing), row, column, background."""
    labels = torch.zeros(len(scenes), GRID * GRID, 6, dtype=torch.long)
    for i, scene in enumerate(scenes):
        cells = torch.arange(GRID * GRID)
        labels[i, :, 3], labels[i, :, 4] = cells // GRID, cells % GRID
        labels[i, :, 5] = list(BACKGROUNDS).index(scene.background)
        for t in scene.things:
            look = (KINDS.index(t.kind), list(COLOURS).index(t.colour), PATTERNS.index(t.pattern))
            labels[i, t.row * GRID + t.column, :3] = torch.tensor(look) + 1
    return labels.view(-1, 6)


def learn_to_see(model: Any, seed: int) -> list[dict]:
    """Train the vision tower under linear heads that are thrown away; return the log."""
    classes = (len(KINDS) + 1, len(COLOURS) + 1, len(PATTERNS) + 1, GRID, GRID, len(BACKGROUNDS))
    heads = torch.nn.Linear(model.config.text_config.hidden_size, sum(classes))
    tower = model.model.visual
    parameters = [*tower.parameters(), *heads.parameters()]
    optimizer, schedule = optimizer_and_schedule(parameters, SIGHT_LR, SIGHT_STEPS, warmup=100)
    grid = torch.tensor([[1, GRID * 2, GRID * 2]]).expand(SIGHT_PICTURES, -1)
    start, log = time.time(), []

    def draw(step: int) -> tuple[Tensor, Tensor]:
        rng = seeded("sight", seed, step)
        scenes = [train_scene(rng) for _ in range(SIGHT_PICTURES)]
        return pixels([picture(scene, rng) for scene in scenes]), cell_labels(scenes)

    for step, (shown, labels) in enumerate(ahead(draw, SIGHT_STEPS)):
        parts = heads(tower(shown, grid_thw=grid).pooler_output).split(classes, dim=-1)
        losses = [torch.nn.functional.cross_entropy(p, labels[:, k]) for k, p in enumerate(parts)]
        loss = torch.stack(losses).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == SIGHT_STEPS - 1:
            minutes = round((time.time() - start) / 60, 1)
            log.append({"phase": "see", "step": step, "loss": round(loss.item(), 4), "minutes": minutes})
            print(json.dumps(log[-1]), flush=True)
    return log


def learn_to_answer(
    model: Any,
    recipe: Recipe,
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
        return pixels(pictures), [recipe.batch(part) for part in parts]

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
                line |= probe(model, recipe, prompts)
                model.train()
                save()
            log.append(line)
            print(json.dumps(line), flush=True)
    return log


def tokenizer_corpus(rng: random.Random, prompts: dict[str, str]) -> list[str]:
    """What the tokenizer is trained on: documents, and the chat template's own words."""
    documents = [document.text for _ in range(60) for document in step_documents(rng, prompts)[1]]
    return documents + ["user\n", "assistant\n"] * 100


def short_prompts() -> dict[str, str]:
    """The prompts that a base is trained on."""
    return yaml.safe_load((config_dir() / "prompt" / "short.yaml").read_text())


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
    log += learn_to_answer(model, Recipe(tokenizer, model), prompts, args.seed, save)
    write_log(log, args.out, args.seed)


if __name__ == "__main__":
    main()
