"""Choose, read and encode the samples of each step, and render their prompts.

A sample that cannot be used is left out of its batch and counted under the rule that it breaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import DistillRun, RoutingConfig, RunConfig
from vigos_cli.data.check import usable_sample
from vigos_cli.data.images import BadRow
from vigos_cli.grading.text_equality import normal_text
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.reference_text import reference_text
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.told import PICTURE, check_row, column_text, columns_of_other_row, pictures_of
from vigos_cli.types import Prompt, Sample
from vigos_cli.utils import process_group, rng

NO_PROMPT = Prompt(STUDENT, (), ())  # of a sample whose prompt is not rendered yet


class Batches:
    """This process's part of the batch of every step.

    With `ahead` a thread prepares the next batch during a step. This helps on a GPU; it slows a CPU run down.
    """

    def __init__(
        self,
        data: Sequence[Sample],
        prompter: Prompter,
        config: DistillRun,
        *,
        ahead: bool = False,
        others: Sequence[Sample] | None = None,
    ):
        self.data, self.prompter, self.config = data, prompter, config
        self.others = data if others is None else others  # from which another row is chosen
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
        return prepare(self.data, places, self.prompter, self.config, counts, self.others), counts


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
    others: Sequence[Sample] | None = None,
) -> list[Prepared]:
    """Read and render rows, each given as (place in the batch, index); count and skip unusable ones.

    `others` are the rows among which another row is chosen; by default `data`.
    """
    prepared = []
    for place, index in places:
        try:
            prepared.append(_prepared(str(place), data, index, prompter, config, counts, others or data))
        except BadRow as rule:
            counts[str(rule)] += 1
    return prepared


def _prepared(
    key: str,
    data: Sequence[Sample],
    index: int,
    prompter: Prompter,
    config: RunConfig,
    counts: Counter[str],
    others: Sequence[Sample],
) -> Prepared:
    """One row. Raises BadRow if it cannot be used, or lacks something that a teacher is told or shown."""
    routing = config.routing
    sample = usable_sample(data, index, counts, text_only=config.data.text_only == "keep")
    images = prompter.encode(sample.images, sample.places)
    reference = reference_text(sample, rules=routing.student.spans)
    item = Prepared(
        key, sample, images, NO_PROMPT, reference, other_row(others, sample, routing, config.seed)
    )
    check_row(item, routing, config.seed)
    shown = images
    if routing.student.sees != "image" and sample.images:
        pictures = pictures_of(routing.student.sees, item, config.seed)
        shown = prompter.encode(pictures, sample.places if len(pictures) == len(sample.images) else ())
    prompt = prompter_of(sample, prompter).render(STUDENT, shown, question=sample.question)
    if len(prompt.ids) > config.model.max_prompt:
        raise BadRow("prompt_too_long")
    return replace(item, prompt=prompt)


def prompter_of(sample: Sample, prompter: Prompter) -> Prompter:
    """The prompter of a training sample: one without pictures is not asked for a description."""
    return prompter if sample.images else prompter.without_pictures


def other_row(data: Sequence[Sample], sample: Sample, routing: RoutingConfig, seed: int) -> Sample | None:
    """Another row for the teachers, always the same one for a sample; None if no teacher needs one.

    Its answer differs if a teacher is told that answer, and its question otherwise. Raises BadRow if none is
    found among 50 rows.
    """
    columns = columns_of_other_row(routing)
    if not columns:
        return None
    answer = "answer" in columns
    purpose = "other_answer" if answer else "other_row"
    for attempt in range(50):
        index = rng.key(seed, purpose, sample.id, attempt) % len(data)
        try:
            other = data[index]
            texts = [column_text(other, column) for column in columns - {PICTURE}]
        except BadRow:  # skip unreadable rows
            continue
        told = reference_text(other)
        differs = (
            told != reference_text(sample)
            if answer
            else normal_text(other.question) != normal_text(sample.question)
        )
        if differs and all(texts):
            return other
    raise BadRow(f"no_{purpose}")


def _question(sample: Sample) -> str:
    return normal_text(sample.question)
