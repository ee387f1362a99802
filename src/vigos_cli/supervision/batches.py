"""Choose, read and encode the samples of each step, and render their prompts.

A sample that cannot be used is left out of its batch and counted under the rule that it breaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from vigos_cli.config.schema import DistillRun, RunConfig
from vigos_cli.data.check import usable_sample
from vigos_cli.data.images import BadRow
from vigos_cli.method.prompts import EncodedImages, Prompter, reference_text
from vigos_cli.types import Prompt, Role, Sample
from vigos_cli.utils import process_group, rng


@dataclass(frozen=True, slots=True)
class Prepared:
    """A usable sample with its encoded images, the student's prompt, and the reference for the teachers.

    `key` is its place in the batch, because ids may repeat in a data set and rows may repeat in a batch.
    """

    key: str
    sample: Sample
    images: EncodedImages
    prompt: Prompt
    reference: str


class Batches:
    """This process's part of the batch of every step.

    With `ahead` a thread prepares the next batch during a step. This helps on a GPU; it slows a CPU run down.
    """

    def __init__(
        self, data: Sequence[Sample], prompter: Prompter, config: DistillRun, *, ahead: bool = False
    ):
        self.data, self.prompter, self.config = data, prompter, config
        self.pool = ThreadPoolExecutor(1, "batches") if ahead else None
        self._next: dict[int, Future[tuple[list[Prepared], Counter[str]]]] = {}

    def at(self, step: int) -> tuple[list[Prepared], Counter[str]]:
        """The samples of a step, and how many were repaired or left out, by rule."""
        if self.pool is None:
            return self._make(step)
        made = self._next.pop(step, None) or self.pool.submit(self._make, step)
        self._next = {step + 1: self.pool.submit(self._make, step + 1)}
        return made.result()

    def close(self) -> None:
        """End the thread, after the batch that it is preparing."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def _make(self, step: int) -> tuple[list[Prepared], Counter[str]]:
        counts: Counter[str] = Counter()
        places = process_group.share(list(enumerate(batch_indices(self.config, len(self.data), step))))
        return prepare(self.data, places, self.prompter, self.config, counts), counts


def batch_indices(config: DistillRun, size: int, step: int) -> list[int]:
    """The rows of the data in the batch of a step; each pass over the data has a new random order."""
    prompts = config.trainer.batch // config.rollout.n
    return _in_order(config, size, range(step * prompts, (step + 1) * prompts))


def rows_of_steps(config: DistillRun, size: int, steps: int) -> list[int]:
    """The rows of the data that the first steps use, from the smallest index on."""
    prompts = config.trainer.batch // config.rollout.n
    return sorted(_in_order(config, size, range(min(size, steps * prompts))))


def _in_order(config: DistillRun, size: int, where: range) -> list[int]:
    """The rows at these places of the run's order, which goes on after each pass over the data."""
    order = {
        epoch: rng.permutation(config.seed, "order", epoch, count=size)
        for epoch in {i // size for i in where}
    }
    return [int(order[i // size][i % size]) for i in where]


def prepare(
    data: Sequence[Sample],
    places: Iterable[tuple[int, int]],
    prompter: Prompter,
    config: RunConfig,
    counts: Counter[str],
) -> list[Prepared]:
    """Read and render rows, each given as (place in the batch, index); count and skip unusable ones."""
    prepared = []
    for place, index in places:
        try:
            text_only = config.data.text_only == "keep"
            sample = usable_sample(data, index, counts, text_only=text_only)
            images = prompter.encode(sample.images, sample.places)
            prompt = prompter_of(sample, prompter).render(Role.STUDENT, images, question=sample.question)
            if len(prompt.ids) > config.model.max_prompt:
                raise BadRow("prompt_too_long")
            prepared.append(Prepared(str(place), sample, images, prompt, _reference(data, sample, config)))
        except BadRow as rule:
            counts[str(rule)] += 1
    return prepared


def prompter_of(sample: Sample, prompter: Prompter) -> Prompter:
    """The prompter of a training sample: one without pictures is not asked for a description."""
    return prompter if sample.images else prompter.without_pictures


def _reference(data: Sequence[Sample], sample: Sample, config: RunConfig) -> str:
    """The reference for the teachers; under the control `other_answer` it is another problem's answer."""
    which = config.routing.reference_text
    if which != "other_answer":
        return reference_text(sample, which)
    for attempt in range(50):
        index = rng.key(config.seed, "other_answer", sample.id, attempt) % len(data)
        try:
            other = reference_text(data[index])
        except BadRow:  # skip unreadable rows
            continue
        if other and other != reference_text(sample):
            return other
    raise BadRow("no_other_answer")
