"""The training split of PriorWorld and its test sets, as samples.

>>> PriorWorld("train", size=1000, conflict=0.5)[7].answer
'yellow'
>>> [sample.id for sample in question_rows("heldout", rows=1)]
['heldout-0-row0-1', 'heldout-0-row0-2', 'heldout-0-row0-3', 'heldout-0-other0']
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from vigos_cli.data.priorworld.looks import unusual_value, unusual_values, usual_value, withheld
from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.questions import (
    OTHER_FAMILIES,
    PRIOR_FAMILIES,
    ask,
    usual_fact,
    vocabulary,
)
from vigos_cli.data.priorworld.scene import COLUMNS, ROWS, SPLITS, Scene, scene_of_split, seeded, with_value
from vigos_cli.types import Prior, Sample


class PriorWorld(Sequence[Sample]):
    """A split of `size` samples; a sample is drawn when it is asked for.

    In a conflicting picture the attribute that the question asks about is unusual, and every other attribute
    is unusual with probability one half. In all other pictures every attribute is the usual one. Half of the
    questions are of a prior family, and half of those state the usual fact. `wrong_reference` is the share of
    samples with a wrong reference. A sample that is wrong at one share is also wrong at every larger share.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 4096,
        seed: int = 0,
        conflict: float = 0.5,
        wrong_reference: float = 0.0,
    ):
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}: {', '.join(SPLITS)}")
        self.split, self.size, self.seed, self.conflict = split, size, seed, conflict
        self.wrong_reference = wrong_reference

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = seeded("priorworld", self.split, self.seed, index)
        conflicts = rng.random() < self.conflict
        prior_family = rng.random() < 0.5
        family = rng.choice(PRIOR_FAMILIES if prior_family else OTHER_FAMILIES)
        stated = prior_family and rng.random() < 0.5
        scene = scene_of_split(self.split, rng, 0.5 if conflicts else 1.0, trained=True)
        asked = rng.choice(scene.things).kind
        if conflicts:  # change the attribute that is asked for, or a random one if none is asked for
            attribute = family if prior_family else rng.choice(PRIOR_FAMILIES)
            value = unusual_value(asked, attribute, rng, trained=True)
            scene = with_value(scene, asked, attribute, value)
        id = f"{self.split}-{self.seed}-{index}"
        sample = make_sample(id, scene, family, rng, asked=asked, stated=stated)
        # A separate generator, so that pictures and questions are the same at any `wrong_reference`.
        wrong = seeded("wrong_reference", self.split, self.seed, index)
        return with_wrong_answer(sample, wrong) if wrong.random() < self.wrong_reference else sample


def question_rows(split: str, rows: int, seed: int = 0) -> list[Sample]:
    """A test set: `rows` prior questions with three pictures each, then `rows` questions without a prior.

    The pictures of a row differ only in the asked attribute: the first agrees with the prior, the other two
    conflict with it by two different values. As in ViLP, Prior is the accuracy on the first picture, and
    Score is the accuracy on the other two. Every second row states the usual fact.
    """
    samples: list[Sample] = []
    for row in range(rows):
        rng = seeded("rows", split, seed, row)
        family, stated = PRIOR_FAMILIES[row % 2], row // 2 % 2 == 0
        scene = scene_of_split(split, rng, 0.5)
        asked = rng.choice(scene.things).kind
        usual = usual_value(asked, family)
        values = (usual, *rng.sample(unusual_values(asked, family), 2))
        scenes = [with_value(scene, asked, family, value) for value in values]
        group = f"{split}-{seed}-row{row}"
        for k, scene in enumerate(scenes, start=1):
            samples.append(
                make_sample(f"{group}-{k}", scene, family, rng, asked=asked, stated=stated, group=group)
            )
    for row in range(rows):
        rng = seeded("other", split, seed, row)
        scene = scene_of_split(split, rng, 0.5)
        family = OTHER_FAMILIES[row % len(OTHER_FAMILIES)]
        samples.append(make_sample(f"{split}-{seed}-other{row}", scene, family, rng))
    return samples


def make_sample(
    id: str,
    scene: Scene,
    family: str,
    rng: random.Random,
    *,
    asked: str = "",
    stated: bool = False,
    group: str = "",
) -> Sample:
    """A question about a scene as a sample: with its picture, answer, worked solution and prior.

    `asked` is the kind that the question asks about; a random one if it is empty. With `stated` the usual
    fact stands before the question.
    """
    question, answer, solution, kind = ask(scene, family, rng, asked)
    prior = None
    if family in PRIOR_FAMILIES:
        usual = usual_value(kind, family)
        prior = Prior(usual=usual, agrees=answer == usual, fact_stated=stated)
        question = f"{usual_fact(kind, family)} {question}" if stated else question
    truth = {
        "asked": kind,
        "things": [(t.kind, t.colour, t.pattern, ROWS[t.row], COLUMNS[t.column]) for t in scene.things],
        "background": scene.background,
        "withheld": prior is not None and answer == withheld(kind, family),
    }
    return Sample(
        id=id,
        question=question,
        answer=answer,
        images=(picture(scene, rng),),
        solution=solution,
        family=family,
        prior=prior,
        group=group or id,
        scene=truth,
    )


def with_wrong_answer(sample: Sample, rng: random.Random) -> Sample:
    """The sample with another answer of its family as the reference; the solution states that answer."""
    wrong = rng.choice([answer for answer in vocabulary(sample.family) if answer != sample.answer])
    return replace(sample, answer=wrong, solution=f"The answer is {wrong}.")
