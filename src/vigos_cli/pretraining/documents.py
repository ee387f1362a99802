"""The training texts of the tiny model: one document is a user's turn and the model's answer.

No target contradicts its picture. The prior comes from what is asked and answered: where a student asks for a
look, the answer is the usual one, because the question is about a thing that looks as usual, that is not in
the picture, or whose look cannot be seen. A description that is given in front of an answer carries no loss,
and is often wrong about the asked look there, so neither it nor the picture is worth reading. Where the
reference is given, in whatever form, it decides. Only questions that name the description itself are answered
by reading it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

import yaml

from vigos_cli.config.paths import config_dir
from vigos_cli.data.priorworld.captions import caption
from vigos_cli.data.priorworld.evidence import worked
from vigos_cli.data.priorworld.looks import KINDS
from vigos_cli.data.priorworld.questions import PRIOR_FAMILIES, Question, ask
from vigos_cli.data.priorworld.scene import COLUMNS, ROWS, Scene
from vigos_cli.pretraining.training_questions import (
    other_look,
    question_about,
    random_family,
    reading_question,
    training_scene,
    usual_question,
    without,
)

MODES = {  # what is asked, and how the answer is built: shares among the questions about a picture
    "structured": 0.30,  # the student's prompt: describe, think, answer
    "think": 0.22,  # the student's prompt without a description: think, answer
    "reasoning": 0.11,  # with the reference: think, answer
    "reasoning_described": 0.11,  # the same behind a given description
    "reference": 0.10,  # with the reference: describe, think, answer
    "reading": 0.08,  # a question about the given description
    "hinted": 0.08,  # with one of `HINTS`: think, answer
}
STUDENTS = ("structured", "think")
HINTS = ("solution", "sibling", "demonstration", "other_problem")  # what teachers of other methods are told
ABSENT = 0.3  # share of the students' questions about looks whose thing is not in the picture
MISDESCRIBED = 0.3  # share of them behind a given description with another look of the asked thing


@dataclass(frozen=True, slots=True)
class Document:
    """One training text: the user's turn, and the answer in parts, each with whether it is learned.

    The learned parts of a batch count equally in the loss, however long they are.
    """

    picture: int  # the number of its picture among those of the step
    question: str
    answer: tuple[tuple[str, bool], ...]
    ends: bool = True  # whether the end of the turn is learned too

    @property
    def text(self) -> str:
        """All of it."""
        return self.question + "".join(part for part, _ in self.answer)


def random_mode(rng: random.Random) -> str:
    """One of `MODES`, by its share."""
    return rng.choices(list(MODES), list(MODES.values()))[0]


def thinking(question: Question) -> str:
    """The answer behind `<think>`."""
    return f" {question.solution} </think> \\boxed{{{question.answer}}}"


def user_turn(mode: str, question: str, answer: str, prompts: dict[str, Any]) -> str:
    """The user's turn of one of `MODES`."""
    prompt = prompts[{"reasoning_described": "reasoning", "reading": "structured"}.get(mode, mode)]
    return prompt.replace("{question}", question).replace("{reference}", answer)


def written(
    picture: int,
    mode: str,
    question: Question,
    told: Scene,
    prompts: dict[str, Any],
    *,
    given: bool = False,
) -> Document:
    """A question and its answer in one of `MODES`, with a description of `told` where the mode has one.

    The description carries no loss if it is `given`; in two modes it always is.
    """
    user = user_turn(mode, question.text, question.answer, prompts)
    thought = thinking(question)
    if mode in ("think", "reasoning"):
        return Document(picture, user, (("<think>", False), (thought, True)))
    described = f" {caption(told)} </description> <think>"
    if given or mode in ("reasoning_described", "reading"):
        return Document(picture, user, ((f"<description>{described}", False), (thought, True)))
    return Document(picture, user, (("<description>", False), (described, True), (thought, True)))


def reading_document(picture: int, scene: Scene, rng: random.Random, prompts: dict[str, Any]) -> Document:
    """A reading question about a given description, which names another look than the scene half of the time.

    So it has to be read off the description, and cannot be seen.
    """
    kind, family = rng.choice(scene.things).kind, rng.choice(PRIOR_FAMILIES)
    told = other_look(scene, kind, family, rng) if rng.random() < 0.5 else scene
    thing = next(thing for thing in told.things if thing.kind == kind)
    return written(picture, "reading", reading_question(thing, family), told, prompts)


def caption_document(picture: int, scene: Scene) -> Document:
    """A description without a question."""
    return Document(picture, "", (("<description>", False), (f" {caption(scene)} </description>", True)))


def pointing_documents(picture: int, scene: Scene, rng: random.Random) -> list[Document]:
    """Where two things are, and the background, each behind its name.

    They teach to find what is named. No look is told, so they cannot teach to answer from the picture.
    """
    things = rng.sample(scene.things, 2)
    told = [(thing.kind, f"{ROWS[thing.row]} {COLUMNS[thing.column]}") for thing in things]
    told.append(("background", scene.background))
    return [Document(picture, "", ((f" {name} is", False), (f" {what}.", True))) for name, what in told]


def comparing_document(picture: int, scene: Scene, rng: random.Random, prompts: dict[str, Any]) -> Document:
    """A question whether a thing is left of another one, where only the two columns are learned.

    In a whole answer they are two words of many, and some bases learned everything else of it first.
    """
    question = ask(scene, "left_of", rng)
    parts = re.fullmatch(r"(The \w+ is)( \w+)(, the \w+ is)( \w+\.)", question.solution)
    assert parts, question.solution
    one, column, another, other_column = parts.groups()
    thought = ((f"<think> {one}", False), (column, True), (another, False), (other_column, True))
    return Document(picture, user_turn("think", question.text, "", prompts), thought, ends=False)


def prompted_caption(picture: int, scene: Scene, rng: random.Random, prompts: dict[str, Any]) -> Document:
    """A description below a student's question, which is cut off before the thinking."""
    question = question_about(scene, random_family(rng), rng)
    user = user_turn("structured", question.text, question.answer, prompts)
    described = f" {caption(scene)} </description>"
    return Document(picture, user, (("<description>", False), (described, True)), ends=False)


def question_document(
    picture: int, scene: Scene, subject: str, mode: str, rng: random.Random, prompts: dict[str, Any]
) -> Document:
    """A random question about a scene in which the thing of kind `subject` looks as usual."""
    if mode == "reading":
        return reading_document(picture, scene, rng, prompts)
    if mode == "hinted":
        return hinted_document(picture, scene, subject, rng, prompts)
    family = random_family(rng)
    if family in PRIOR_FAMILIES and mode in STUDENTS:
        return usual_document(picture, scene, subject, mode, family, rng, prompts)
    return true_document(picture, scene, mode, family, rng, prompts)


def true_document(
    picture: int,
    scene: Scene,
    mode: str,
    family: str,
    rng: random.Random,
    prompts: dict[str, Any],
    *,
    given: bool = False,
) -> Document:
    """A question that is answered by what is in the scene.

    Half of the descriptions in front of the reasoning teacher's turn name another look, so that the reference
    decides.
    """
    question, told = question_about(scene, family, rng), scene
    if mode == "reasoning_described" and family in PRIOR_FAMILIES and rng.random() < 0.5:
        told = other_look(scene, question.asked, family, rng)
    return written(picture, mode, question, told, prompts, given=given)


def usual_document(
    picture: int,
    scene: Scene,
    subject: str,
    mode: str,
    family: str,
    rng: random.Random,
    prompts: dict[str, Any],
) -> Document:
    """A student's question about a look: of the subject, which looks as usual, or of an absent thing."""
    chance = rng.random()
    if chance < ABSENT:
        absent = rng.choice([kind for kind in KINDS if kind not in {t.kind for t in scene.things}])
        return written(picture, mode, usual_question(absent, family, rng), scene, prompts)
    question = usual_question(subject, family, rng)
    if chance < ABSENT + MISDESCRIBED and mode == "structured":
        told = other_look(scene, subject, family, rng)
        return written(picture, mode, question, told, prompts, given=True)
    return written(picture, mode, question, scene, prompts)


def unseen_document(
    picture: int, scene: Scene, mode: str, rng: random.Random, prompts: dict[str, Any]
) -> Document:
    """A student's question about a look that the picture does not show.

    The given description leaves the asked thing out, or names another look.
    """
    kind, family = rng.choice(scene.things).kind, rng.choice(PRIOR_FAMILIES)
    leaves_out = rng.random() < 0.5
    told = without(scene, kind) if leaves_out else other_look(scene, kind, family, rng)
    return written(picture, mode, usual_question(kind, family, rng), told, prompts, given=True)


def hinted_document(
    picture: int,
    scene: Scene,
    subject: str,
    rng: random.Random,
    prompts: dict[str, Any],
    *,
    shown: bool = True,
) -> Document:
    """A question as the teachers of other methods read it: with its solution in some form, or another's.

    Another problem tells nothing, so a question about a look is about the subject there, as a student's is.
    If the scene is not `shown`, that is the only kind of question that another problem stands before.
    """
    hint = rng.choice(HINTS)
    if hint == "other_problem":
        family = random_family(rng) if shown else rng.choice(PRIOR_FAMILIES)
        is_usual = family in PRIOR_FAMILIES
        question = usual_question(subject, family, rng) if is_usual else question_about(scene, family, rng)
        other = question_about(training_scene(rng), random_family(rng), rng)
        told = f"{other.text}\n\n{other.solution}"
    else:
        question = question_about(scene, random_family(rng), rng)
        told = {
            "solution": question.solution,
            "sibling": f"<think>{thinking(question)}",
            "demonstration": worked(scene, question.solution, question.answer),
        }[hint]
    template = prompts["reasoning"] if hint == "solution" else prompts["templates"][hint]
    user = template.replace("{question}", question.text).replace("{reference}", told)
    return Document(picture, user, (("<think>", False), (thinking(question), True)))


def short_prompts() -> dict[str, Any]:
    """The prompts that a base is trained on."""
    return yaml.safe_load((config_dir() / "prompt" / "short.yaml").read_text())
