"""Score sampled tokens again with a wrong answer or another image (PALR, visual dependency).

scorer = CounterfactualScorer(student, prompter, data, config, weights)
counterfactual = scorer.score(rollouts, supervised, scores)   # one tuple per rollout, one score per token

    changed for the student     grey images instead of its own         visual dependency
    changed for the teachers    each of WRONG wrong answers            c^A, see vigos_cli.analysis.palr
    changed for the teachers    the images of the next sample          c^I

All scores are of the same sampled tokens; only the prompt before them changes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vigos_cli.analysis.palr import support
from vigos_cli.analysis.token_scores import TokenScore, student_divergence, teacher_logprobs
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import RolloutRun
from vigos_cli.data.check import usable_sample
from vigos_cli.data.controls import as_many, blank_like, share_a_picture
from vigos_cli.data.images import BadRow
from vigos_cli.data.priorworld import vocabulary
from vigos_cli.grading.question_options import inlined, letter
from vigos_cli.grading.text_equality import normal_text
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.reference_text import reference_text
from vigos_cli.models.student import Student
from vigos_cli.supervision.batches import prompter_of
from vigos_cli.supervision.contexts import Context, Supervised, supervise_all
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.supervision.told import answer_in_use
from vigos_cli.types import Prompt, Rollout, Sample
from vigos_cli.utils import rng

WRONG = 4  # K of q_wrong, or fewer if a question has fewer answers; the paper does not state its K
TRIES = 50  # rows of the data that are tried to find another answer or image
PAIRS = (("yes", "no"), ("true", "false"))


@dataclass(frozen=True, slots=True)
class CounterfactualScore:
    """Visual dependency of a token; c^A and c^I if a teacher supervises it, else None; in nats."""

    visual: float
    answer: float | None = None
    image: float | None = None


class CounterfactualScorer:
    """Scores tokens under changed answers and images; `counts` counts the samples left out of PALR."""

    def __init__(
        self,
        student: Student,
        prompter: Prompter,
        data: Sequence[Sample],
        config: RolloutRun,
        weights: TeacherWeights,
    ):
        self.student, self.prompter, self.data, self.config = student, prompter, data, config
        self.weights = weights
        self._counts: defaultdict[int, Counter[str]] = defaultdict(Counter)  # by row

    def take_counts(self) -> dict[int, Counter[str]]:
        """Why rows have no counterfactuals, by row: those since the last call."""
        taken, self._counts = self._counts, defaultdict(Counter)
        return taken

    def score(
        self,
        rollouts: Sequence[tuple[Prepared, Rollout]],
        supervised: Sequence[Supervised],
        scores: Sequence[Sequence[TokenScore]],
    ) -> list[tuple[CounterfactualScore, ...]]:
        """Score rollouts that `score_tokens` has scored; c^A and c^I only for valid ones (App. A)."""
        grey = {item.key: self._grey_prompt(item) for item, _ in rollouts}
        blanked = [
            _with_student_prompt(row, grey[item.key])
            for (item, _), row in zip(rollouts, supervised, strict=True)
        ]
        found = [
            [CounterfactualScore(kl) for kl in row]
            for row in student_divergence(self.student, supervised, blanked)
        ]
        measured, logprobs = self._teacher_logprobs(rollouts, supervised, scores)
        for i in measured:
            for token, score in enumerate(scores[i]):
                if score.teacher is not None:  # 0 unless a changed prompt is found below
                    found[i][token] = replace(found[i][token], answer=0.0, image=0.0)
        for (i, what, token), others in logprobs.items():
            logprob = scores[i][token].teacher_logprob
            assert logprob is not None
            found[i][token] = replace(found[i][token], **{what: support(logprob, others)})
        return [tuple(row) for row in found]

    def _teacher_logprobs(
        self,
        rollouts: Sequence[tuple[Prepared, Rollout]],
        supervised: Sequence[Supervised],
        scores: Sequence[Sequence[TokenScore]],
    ) -> tuple[list[int], dict[tuple[int, str, int], list[float]]]:
        """Log-probabilities under the teachers with a wrong answer or other images.

        Returns the rollouts that have counterfactuals, and the values by rollout, "answer" or "image", and
        token. Tokens whose teacher reads the same as before are left out.
        """
        measured: list[int] = []
        changed: list[Supervised] = []
        origin: list[tuple[int, str]] = []  # for each entry of `changed`: its rollout and what was changed
        made: dict[str, dict[str, list[Prepared]] | None] = {}
        for i, (item, rollout) in enumerate(rollouts):
            if not supervised[i].segments.valid or not supervised[i].contexts.keys() - {STUDENT}:
                continue
            if item.key not in made:
                made[item.key] = self.counterfactuals(item)
            variants = made[item.key]
            if variants is None:
                continue
            measured.append(i)
            for what, items in variants.items():
                for other in supervise_all([(item, rollout) for item in items], self.prompter, self.config):
                    changed.append(_changed_terms(other, supervised[i]))
                    origin.append((i, what))

        found: dict[tuple[int, str, int], list[float]] = {}
        found_logprobs = teacher_logprobs(self.student, changed, self.weights)
        for (i, what), row in zip(origin, found_logprobs, strict=True):
            for (teacher, token), logprob in row.items():
                if scores[i][token].teacher == teacher:
                    found.setdefault((i, what, token), []).append(logprob)
        return measured, found

    def counterfactuals(self, item: Prepared) -> dict[str, list[Prepared]] | None:
        """The sample with each wrong answer as its reference, and with the next sample's images.

        None if the data has no such answer or image; `take_counts` tells of this.
        """
        told = answer_in_use(item, self.config.routing)
        wrong = wrong_answers(self.data, item.sample, told, self.config.seed)
        other = self._with_other_images(item)
        if not wrong or other is None:
            rule = "palr_no_wrong_answer" if not wrong else "palr_no_other_picture"
            self._counts[int(item.key)][rule] += 1
            return None
        return {"answer": [replace(item, replaced=answer) for answer in wrong], "image": [other]}

    def _with_other_images(self, item: Prepared) -> Prepared | None:
        """The sample with the images of the next sample in the data that shows different ones."""
        for step in range(1, min(len(self.data), TRIES + 1)):
            try:
                other = usable_sample(self.data, (int(item.key) + step) % len(self.data), {})
            except BadRow:  # skip unreadable rows
                continue
            if not share_a_picture(item.sample, other):
                images = as_many(other.images, len(item.sample.images))
                sample = replace(item.sample, images=images)
                return replace(item, sample=sample, images=self.prompter.encode(images, sample.places))
        return None

    def _grey_prompt(self, item: Prepared) -> Prompt:
        images = self.prompter.encode([blank_like(image) for image in item.sample.images], item.sample.places)
        prompter = prompter_of(item.sample, self.prompter)
        return prompter.render(STUDENT, images, question=item.sample.question)


def _with_student_prompt(row: Supervised, prompt: Prompt) -> Supervised:
    """The same rollout after another prompt of the student."""
    begin, ids = len(prompt.ids), row.rollout.ids
    reading = Context(prompt, (*prompt.ids, *ids), tuple(range(begin, begin + len(ids))))
    return replace(row, contexts={STUDENT: reading})


def _changed_terms(row: Supervised, own: Supervised) -> Supervised:
    """Remove the terms of teachers that read the same tokens and images as in `own`."""
    terms = tuple(
        term
        for term in row.terms
        if term.by in row.contexts and not _same(row.contexts[term.by], own.contexts[term.by])
    )
    return replace(row, terms=terms)


def _same(one: Context, other: Context) -> bool:
    """Whether two readings have the same tokens and images."""
    features, others = one.prompt.features, other.prompt.features
    return one.ids == other.ids and all(
        features[name] is others[name] or torch.equal(features[name], others[name]) for name in features
    )


# ---------------------------------------------------------------- wrong answers


def wrong_answers(data: Sequence[Sample], sample: Sample, told: str, seed: int) -> tuple[str, ...]:
    """At most WRONG wrong answers to the question; `told` is the reference that the teachers were given.

    They differ from the true answer and from `told`. They come from the question's own choices, else from its
    question family in PriorWorld, else from other rows (numbers if `told` is a number). In the paper an LLM
    writes them.
    """
    right = {normal_text(told), normal_text(reference_text(sample))}
    if known := possible_answers(sample, told):
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
        except BadRow:  # skip unreadable rows
            continue
        if other and normal_text(other) not in right and is_number(other) == is_number(told):
            found.setdefault(normal_text(other), other)
    return tuple(found.values())


def possible_answers(sample: Sample, told: str) -> Sequence[str]:
    """Every answer that the question allows, written like `told`; empty if these are not known."""
    bare = re.fullmatch(r"\(?([A-Z])\)?", told.strip())
    options = sample.options or inlined(sample.question)
    if bare:
        return [told.strip().replace(bare[1], letter(i)) for i in range(len(options) or WRONG + 1)]
    for pair in PAIRS:
        if normal_text(told) in pair:
            return pair
    return options or vocabulary(sample.family)


def is_number(text: str) -> bool:
    """Whether a text is a number, perhaps followed by a unit."""
    return bool(re.match(r"[-+$]?\d", text.strip()))
