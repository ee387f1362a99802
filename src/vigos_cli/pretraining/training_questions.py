"""What the training texts of the tiny model are about: scenes, and questions about them."""

from __future__ import annotations

import random
from dataclasses import replace

from vigos_cli.data.priorworld.captions import clause
from vigos_cli.data.priorworld.looks import USUAL, unusual_values
from vigos_cli.data.priorworld.questions import PRIOR_FAMILIES, Question, ask, usual_fact
from vigos_cli.data.priorworld.scene import Scene, Thing, scene_of_split, with_value

FAMILIES = {
    "colour": 0.13,
    "pattern": 0.13,
    "count": 0.08,
    "left_of": 0.34,
    "place": 0.20,
    "background": 0.12,
}
USUAL_RATE = 0.5  # probability that a colour, or a pattern, looks as usual


# ---- scenes


def training_scene(rng: random.Random) -> Scene:
    """A scene of the training split."""
    return scene_of_split("train", rng, USUAL_RATE)


def as_usual(scene: Scene, kind: str) -> Scene:
    """The scene, with this thing as it usually looks."""
    for family, value in zip(PRIOR_FAMILIES, USUAL[kind], strict=True):
        scene = with_value(scene, kind, family, value)
    return scene


def without(scene: Scene, kind: str) -> Scene:
    """The scene without this thing."""
    return replace(scene, things=tuple(thing for thing in scene.things if thing.kind != kind))


def other_look(scene: Scene, kind: str, family: str, rng: random.Random) -> Scene:
    """The scene, with an unusual colour or pattern of this thing, whatever it had."""
    now = getattr(next(thing for thing in scene.things if thing.kind == kind), family)
    others = [value for value in unusual_values(kind, family) if value != now]
    return with_value(scene, kind, family, rng.choice(others))


# ---- questions


def random_family(rng: random.Random, among: tuple[str, ...] = tuple(FAMILIES)) -> str:
    """One of these families, by its share."""
    return rng.choices(among, [FAMILIES[family] for family in among])[0]


def stated(question: Question, family: str, rng: random.Random) -> Question:
    """The question, half of the time behind the usual fact about its thing, if it has one."""
    if family not in PRIOR_FAMILIES or rng.random() < 0.5:
        return question
    return question._replace(text=f"{usual_fact(question.asked, family)} {question.text}")


def question_about(scene: Scene, family: str, rng: random.Random) -> Question:
    """A random question of this family about the scene, perhaps behind a usual fact."""
    return stated(ask(scene, family, rng), family, rng)


def usual_question(kind: str, family: str, rng: random.Random) -> Question:
    """A student's question about a look of this kind, with the usual look as the answer."""
    alone = Scene((Thing(kind, *USUAL[kind], 0, 0),), "")
    return stated(ask(alone, family, rng, kind), family, rng)


def reading_question(thing: Thing, family: str) -> Question:
    """A question about a look in a description; the clause of the thing is quoted before the answer."""
    text = f"By the description, which {family} has the {thing.kind}?"
    return Question(text, getattr(thing, family), clause(thing), thing.kind)
