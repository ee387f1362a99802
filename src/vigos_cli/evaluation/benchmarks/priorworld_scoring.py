"""PriorWorld's items, verdicts and figures.

The figures show whether answers follow the picture or the usual look.

    score        accuracy where the picture contradicts the usual look (two pictures a question)
    prior        accuracy where it agrees (one picture a question)
    other        accuracy on questions without a usual answer
    description  share of descriptions of contradicting pictures that state the asked attribute correctly;
                 None unless they are in the form of the tiny model's descriptions
    capture      share of contradicting pictures answered with the usual look
    valid        share of responses in the required format
    gap          prior minus score
    pass         share of items with at least one right sampled answer, for each of the first three
    chance       accuracy of a uniform guess among the answers of an item's family
    unparsed     share of responses without an answer

Intervals are bootstrapped over questions; see `vigos_cli.utils.stats`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from vigos_cli.config.schema import BenchTask
from vigos_cli.data.priorworld import asked_attribute_is_true, is_caption, question_rows, vocabulary
from vigos_cli.evaluation.figures import Figure, composite
from vigos_cli.grading.text_equality import same_text
from vigos_cli.types import Response, Sample, Verdict
from vigos_cli.utils.stats import mean_interval

MEASURES = ("score", "prior", "other", "description", "capture", "valid")


def priorworld_items(task: BenchTask, limit: int | None = None) -> list[Sample]:
    """The fixed items of a split."""
    return list(_drawn(task.split or "heldout", task.rows, task.seed)[:limit])


@lru_cache(maxsize=2)
def _drawn(split: str, rows: int, seed: int) -> tuple[Sample, ...]:
    """Drawing them takes two seconds, and all cells of a sweep ask the same items."""
    return tuple(question_rows(split, rows, seed))


def guess_chance(sample: Sample) -> float | None:
    """How often a uniform guess among the answers of an item's family is right."""
    words = vocabulary(sample.family)
    return 1 / len(words) if words else None


def priorworld_verdict(sample: Sample, response: Response) -> Verdict:
    """The verdict on one response; unparsed if it has no answer."""
    if not response.answer:
        return Verdict("unparsed", None, "text", "no answer found")
    right = same_text(response.answer, sample.answer)
    return Verdict("right" if right else "wrong", response.answer, "text", f"the answer is {sample.answer}")


def descriptions_are_captions(responses: Sequence[Response]) -> bool:
    """Whether descriptions can be judged: at least one is in the form that `is_caption` knows.

    A description in free words, as a real model writes it, is not read. A missing description is not true, so
    a model that writes none at all is judged.
    """
    written = [response.description for response in responses if response.description.strip()]
    return not written or any(map(is_caption, written))


def observed_measures(sample: Sample, response: Response, *, captions: bool) -> dict[str, float]:
    """The values, from 0 to 1, that one response contributes to the measures.

    `captions`: `descriptions_are_captions` of all responses of the run.
    """
    right = same_text(response.answer, sample.answer)
    observed: dict[str, float] = {"valid": response.valid}
    if sample.prior is None:
        observed["other"] = right
    elif sample.prior.agrees:
        observed["prior"] = right
    else:
        observed["score"] = right
        observed["capture"] = same_text(response.answer, sample.prior.usual)
        if response.described and captions:
            observed["description"] = asked_attribute_is_true(response.description, sample)
    return {name: float(value) for name, value in observed.items()}


def priorworld_figures(samples: Sequence[Sample], responses: Sequence[Response]) -> dict[str, Any]:
    """The figures of the greedy responses (draw 0), and those of the sampled ones under `sampled`."""
    figures = measure_figures(samples, [response for response in responses if response.draw == 0])
    drawn = [response for response in responses if response.draw > 0]
    return figures | ({"sampled": measure_figures(samples, drawn)} if drawn else {})


def measure_figures(samples: Sequence[Sample], responses: Sequence[Response]) -> dict[str, Any]:
    """Every measure with n and interval, from one or more responses to each sample."""
    by_id = {sample.id: sample for sample in samples}
    captions = descriptions_are_captions(responses)
    values: dict[str, list[float]] = {name: [] for name in MEASURES}
    clusters: dict[str, list[str]] = {name: [] for name in MEASURES}
    items: dict[str, dict[str, list[float]]] = {"score": {}, "prior": {}, "other": {}}
    families: dict[str, list[float]] = {}
    facts: dict[str, tuple[list[float], list[str]]] = {}  # with the usual look named in the question, or not
    for response in responses:
        sample = by_id[response.sample_id]
        observed = observed_measures(sample, response, captions=captions)
        for name, value in observed.items():
            values[name].append(value)
            clusters[name].append(sample.group)
        for name in observed.keys() & items.keys():
            items[name].setdefault(sample.id, []).append(observed[name])
            family = f"{sample.family}, {name}" if sample.prior else sample.family
            families.setdefault(family, []).append(observed[name])
            if sample.prior:
                kind = f"{name}, fact {'stated' if sample.prior.fact_stated else 'not stated'}"
                kept = facts.setdefault(kind, ([], []))
                kept[0].append(observed[name])
                kept[1].append(sample.group)
    estimates = {name: mean_interval(values[name], clusters[name]) for name in MEASURES}
    groups = {sample.id: sample.group for sample in samples}
    passes = {
        f"{name}@{max(map(len, found.values()))}": estimate and asdict(estimate)
        for name, found in items.items()
        if found
        and max(map(len, found.values())) > 1
        and (estimate := mean_interval([max(x) for x in found.values()], [groups[id] for id in found]))
    }
    guesses = [p for sample in samples if (p := guess_chance(sample)) is not None]
    return {
        **{name: e and e.mean for name, e in estimates.items()},
        "n": {name: e.n if e else 0 for name, e in estimates.items()},
        "interval": {name: e and [e.low, e.high] for name, e in estimates.items()},
        "gap": _gap(values, clusters),
        "unparsed": sum(not response.answer for response in responses) / max(1, len(responses)),
        "chance": sum(guesses) / len(guesses) if guesses else None,
        **({"pass": passes} if passes else {}),
        "families": {name: sum(v) / len(v) for name, v in sorted(families.items())},
        "facts": {kind: asdict(e) for kind, kept in sorted(facts.items()) if (e := mean_interval(*kept))},
    }


def _gap(values: Mapping[str, Sequence[float]], clusters: Mapping[str, Sequence[str]]) -> Figure | None:
    """Prior minus score, over the same questions."""
    parts: dict[str, np.ndarray] = {}
    for place, name in ((0, "prior"), (2, "score")):
        for value, cluster in zip(values[name], clusters[name], strict=True):
            parts.setdefault(cluster, np.zeros(4))[place : place + 2] += value, 1
    return composite(
        list(parts.values()),
        lambda sums: sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3],
        share=False,
    )
