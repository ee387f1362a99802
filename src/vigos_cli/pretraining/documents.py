"""The training texts of the tiny model: captions and answers about random PriorWorld scenes.

No target contradicts its picture. The prior comes from frequency alone, as it does in instruction data, whose
answers are skewed given the question while the pictures are not: what a student's question asks about looks
as usual, everything else in any picture looks as usual half of the time. Where the reference is given, what
is asked about looks as usual half of the time too, so that the reference has to be read. Only pictures of the
training split are used.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import yaml
from PIL.Image import Image

from vigos_cli.config.paths import config_dir
from vigos_cli.data.priorworld.captions import caption, clause
from vigos_cli.data.priorworld.dataset import make_sample
from vigos_cli.data.priorworld.looks import USUAL
from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.questions import PRIOR_FAMILIES
from vigos_cli.data.priorworld.scene import Scene, draw_scene, seeded, with_value
from vigos_cli.types import Sample

CAPTION_PICTURES = 10  # a step: pictures with a caption, and what NAMED of their things look like by name
NAMED = 2
QUESTION_PICTURES = 8  # a step: pictures with four question documents each, of these modes
QUESTION_MODES = {  # shares
    "structured": 0.40,  # the student's prompt
    "think": 0.16,  # think and answer
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
    asked = subject(scene) if family in PRIOR_FAMILIES and mode in ("structured", "think") else ""
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


def tokenizer_corpus(rng: random.Random, prompts: dict[str, str]) -> list[str]:
    """What the tokenizer is trained on: documents, and the chat template's own words."""
    documents = [document.text for _ in range(60) for document in step_documents(rng, prompts)[1]]
    return documents + ["user\n", "assistant\n"] * 100


def short_prompts() -> dict[str, str]:
    """The prompts that a base is trained on."""
    return yaml.safe_load((config_dir() / "prompt" / "short.yaml").read_text())
