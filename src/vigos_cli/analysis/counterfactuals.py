"""Is it looking? Score sampled tokens again with something changed: the reference, or the picture.

looker = Looker(student, prompter, data, config)
looks = looker.look(rollouts, supervised, scores)      # a tuple a rollout, one Look a token

    the student     shown grey pictures instead of its own      visual dependency
    the teachers    told each of WRONG wrong answers            c^A, see vigos_cli.analysis.palr
    the teachers    shown the next sample's pictures            c^I

Every figure is of the same sampled tokens: only what stands before them changes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vigos_cli.analysis.palr import support
from vigos_cli.analysis.token_scores import TokenScore, student_divergence, teacher_logprobs
from vigos_cli.config.schema import RolloutRun
from vigos_cli.data.check import usable_sample
from vigos_cli.data.controls import as_many, blank_like, share_a_picture
from vigos_cli.data.images import BadRow
from vigos_cli.data.priorworld import vocabulary
from vigos_cli.evaluation.row_parsing import inlined, letter
from vigos_cli.grading.text_equality import normal_text
from vigos_cli.method.prompts import Prompter, reference_text
from vigos_cli.models.student import Student
from vigos_cli.supervision.batches import Prepared
from vigos_cli.supervision.supervise import supervise_all
from vigos_cli.supervision.teachers import Reading, Supervised
from vigos_cli.types import Prompt, Role, Rollout, Sample
from vigos_cli.utils import rng

WRONG = 4  # K of METHOD's q_wrong, fewer where a question has fewer answers; the paper does not state its own
TRIES = 50  # rows of the data that are looked at for another answer or picture
PAIRS = (("yes", "no"), ("true", "false"))


@dataclass(frozen=True, slots=True)
class Look:
    """A token's visual dependency, and its c^A and c^I where a teacher supervises it; all in nats."""

    visual: float
    answer: float | None = None
    image: float | None = None


class Looker:
    """What a run's tokens owe to picture and reference. `counts` says what was left out of PALR."""

    def __init__(self, student: Student, prompter: Prompter, data: Sequence[Sample], config: RolloutRun):
        self.student, self.prompter, self.data, self.config = student, prompter, data, config
        self.counts: Counter[str] = Counter()

    def look(
        self,
        rollouts: Sequence[tuple[Prepared, Rollout]],
        supervised: Sequence[Supervised],
        scores: Sequence[Sequence[TokenScore]],
    ) -> list[tuple[Look, ...]]:
        """Look at rollouts that `score_tokens` has scored; c^A and c^I are of valid ones only (App. A)."""
        grey = {item.key: self._grey(item) for item, _ in rollouts}
        blanked = [self._read_by_student(row, grey[item.key]) for (item, row) in _pairs(rollouts, supervised)]
        looks = [[Look(kl) for kl in row] for row in student_divergence(self.student, supervised, blanked)]

        changed: list[Supervised] = []
        origin: list[tuple[int, str]] = []  # of each: which rollout, and what was changed
        made: dict[str, dict[str, list[Prepared]] | None] = {}
        for i, (item, rollout) in enumerate(rollouts):
            if not supervised[i].segments.valid or not supervised[i].readings.keys() - {Role.STUDENT}:
                continue
            if item.key not in made:
                made[item.key] = self.counterfactuals(item)
            variants = made[item.key]
            if variants is None:
                continue
            for token, score in enumerate(scores[i]):
                if score.teacher is not None:
                    looks[i][token] = replace(looks[i][token], answer=0.0, image=0.0)
            for what, items in variants.items():
                for other in supervise_all([(item, rollout) for item in items], self.prompter, self.config):
                    changed.append(_what_changed(other, supervised[i]))
                    origin.append((i, what))

        found: dict[tuple[int, str, int], list[float]] = {}
        for (i, what), row in zip(origin, teacher_logprobs(self.student, changed), strict=True):
            for (role, token), logprob in row.items():
                if scores[i][token].teacher == role:
                    found.setdefault((i, what, token), []).append(logprob)
        for (i, what, token), others in found.items():
            logprob = scores[i][token].teacher_logprob
            assert logprob is not None
            looks[i][token] = replace(looks[i][token], **{what: support(logprob, others)})
        return [tuple(row) for row in looks]

    def counterfactuals(self, item: Prepared) -> dict[str, list[Prepared]] | None:
        """The sample with each wrong answer for its reference, and with the next sample's pictures.

        None, and counted, where the data has no such answer or picture.
        """
        wrong = wrong_answers(self.data, item.sample, item.reference, self.config.seed)
        pictured = self._next(item)
        if not wrong or pictured is None:
            self.counts["palr_no_wrong_answer" if not wrong else "palr_no_other_picture"] += 1
            return None
        return {"answer": [replace(item, reference=answer) for answer in wrong], "image": [pictured]}

    def _next(self, item: Prepared) -> Prepared | None:
        """The sample with the pictures of the next one in the data that shows others."""
        for step in range(1, min(len(self.data), TRIES + 1)):
            try:
                other = usable_sample(self.data, (int(item.key) + step) % len(self.data), {})
            except BadRow:  # that row's affair
                continue
            if not share_a_picture(item.sample, other):
                images = as_many(other.images, len(item.sample.images))
                sample = replace(item.sample, images=images)
                return replace(item, sample=sample, images=self.prompter.encode(images))
        return None

    def _grey(self, item: Prepared) -> Prompt:
        images = self.prompter.encode([blank_like(image) for image in item.sample.images])
        return self.prompter.render(Role.STUDENT, images, question=item.sample.question)

    def _read_by_student(self, row: Supervised, prompt: Prompt) -> Supervised:
        """The same rollout, the student's prompt replaced."""
        begin, ids = len(prompt.ids), row.rollout.ids
        reading = Reading(prompt, (*prompt.ids, *ids), tuple(range(begin, begin + len(ids))))
        return replace(row, readings={Role.STUDENT: reading})


def _pairs(
    rollouts: Sequence[tuple[Prepared, Rollout]], supervised: Sequence[Supervised]
) -> list[tuple[Prepared, Supervised]]:
    return [(item, row) for (item, _), row in zip(rollouts, supervised, strict=True)]


def _what_changed(row: Supervised, own: Supervised) -> Supervised:
    """The row without the terms of teachers that read the same as before: a change cannot reach them."""
    terms = tuple(
        term
        for term in row.terms
        if term.role is not Role.TARGET and not _same(row.readings[term.role], own.readings[term.role])
    )
    return replace(row, terms=terms)


def _same(one: Reading, other: Reading) -> bool:
    """Whether two readings hold the same tokens and pictures."""
    features, others = one.prompt.features, other.prompt.features
    return one.ids == other.ids and all(
        features[name] is others[name] or torch.equal(features[name], others[name]) for name in features
    )


# ---------------------------------------------------------------- wrong answers


def wrong_answers(data: Sequence[Sample], sample: Sample, told: str, seed: int) -> tuple[str, ...]:
    """At most WRONG answers that the question could have had, but for the true one and the one told.

    From the question's own choices, else the answers of its family in PriorWorld, else those of other rows
    of the same sort (numbers for a number). The paper had an LLM write them.
    """
    right = {normal_text(told), normal_text(reference_text(sample))}
    if known := choices(sample, told):
        pool = [answer for answer in known if normal_text(answer) not in right]
        order = rng.permutation(seed, "wrong_answer", sample.id, count=len(pool))
        return tuple(pool[i] for i in order[:WRONG])
    found: dict[str, str] = {}
    for attempt in range(TRIES):
        if len(found) == WRONG:
            break
        index = rng.key(seed, "wrong_answer", sample.id, attempt) % len(data)
        try:
            other = reference_text(data[index])
        except BadRow:  # that row's affair
            continue
        if other and normal_text(other) not in right and is_number(other) == is_number(told):
            found.setdefault(normal_text(other), other)
    return tuple(found.values())


def choices(sample: Sample, told: str) -> Sequence[str]:
    """Every answer that a question may have, where it says so itself; in the form of the one told."""
    bare = re.fullmatch(r"\(?([A-Z])\)?", told.strip())
    options = sample.options or inlined(sample.question)
    if bare:
        return [told.strip().replace(bare[1], letter(i)) for i in range(len(options) or WRONG + 1)]
    for pair in PAIRS:
        if normal_text(told) in pair:
            return pair
    return options or vocabulary(sample.family)


def is_number(text: str) -> bool:
    """Whether a text is a number, its unit aside."""
    return bool(re.match(r"[-+$]?\d", text.strip()))
