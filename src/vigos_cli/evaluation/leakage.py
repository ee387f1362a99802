"""Does the description already state the answer?

    {'mean': 0.41, 'low': ..., 'high': ..., 'n': 300, 'chance': 0.38, ...}

A description that was written for the question may smuggle the answer into what should be a caption. Neither
the paper nor its program defines a measure; ours is: the share of descriptions in which the reference answer
stands as a sequence of words. A caption may rightly name a colour that is asked for, so the share means
little by itself: read it beside `chance`, that of another item's reference in the same descriptions, and
beside the same figures of a blind run or of the untrained student.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vigos_cli.evaluation.row_parsing import inlined, letter
from vigos_cli.method.segments import DESCRIPTION, DESCRIPTION_END
from vigos_cli.types import Response, Sample
from vigos_cli.utils.stats import mean_interval

WORD = re.compile(r"\w+(?:[.,']\w+)*")


def text_words(text: str) -> list[str]:
    """The words of a text without case; a decimal point or an apostrophe is part of its word."""
    return WORD.findall(text.casefold())


def states(description: str, answer: str) -> bool:
    """Whether the words of `answer` stand in the description, one after the other; those of none never do."""
    said, gold = text_words(description), text_words(answer)
    return bool(gold) and any(said[i : i + len(gold)] == gold for i in range(len(said) - len(gold) + 1))


def first_description(text: str) -> str | None:
    """What stands in the first description of a response; None where there is none or nothing in it."""
    begin, end = text.find(DESCRIPTION), text.find(DESCRIPTION_END)
    inside = text[begin + len(DESCRIPTION) : end].strip() if 0 <= begin < end else ""
    return inside or None


def caption_gold(sample: Sample) -> str | None:
    """What a caption would have to say: of a letter its option's text; None where that is not known."""
    answer = sample.answer.strip()
    if not re.fullmatch(r"\(?[A-Z]\)?", answer):
        return answer or None
    options = sample.options or inlined(sample.question)
    return next((o for i, o in enumerate(options) if letter(i) == answer.strip("()")), None)


def leakage(samples: Sequence[Sample], responses: Sequence[Response]) -> dict[str, Any] | None:
    """Share of descriptions that state the reference, with n, interval, and the same of another item's.

    Of each description the next item's reference
    that differs is the other. Intervals by item's group. None where nothing was described.
    """
    golds = {sample.id: known for sample in samples if (known := caption_gold(sample))}
    groups = {sample.id: sample.group or sample.id for sample in samples}
    others = _others(golds)
    stated, by_chance, clusters = [], [], []
    for response in responses:
        id, description = response.sample_id, first_description(response.text)
        if description is not None and id in others:
            stated.append(float(states(description, golds[id])))
            by_chance.append(float(states(description, others[id])))
            clusters.append(groups[id])
    share, chance = mean_interval(stated, clusters), mean_interval(by_chance, clusters)
    return share and chance and {**asdict(share), "chance": asdict(chance)}


def _others(golds: Mapping[str, str]) -> dict[str, str]:
    """For each item the reference of the next one that has another, the first coming after the last."""
    ids = list(golds)
    others: dict[str, str] = {}
    coming, other = "", ""  # the reference that comes next, and the first after it that differs from it
    for id in reversed([*ids, *ids]):
        if text_words(golds[id]) != text_words(coming):
            coming, other = golds[id], coming
        if other:
            others[id] = other
    return others
