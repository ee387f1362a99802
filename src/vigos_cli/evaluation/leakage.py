"""How often a description already states the answer (leakage).

    {'mean': 0.41, 'low': ..., 'high': ..., 'n': 300, 'chance': 0.38, ...}

A description that is written for the question may contain the answer, although it should be a caption.
Neither the paper nor its program defines a measure. Ours is the share of descriptions that contain the
reference answer as a sequence of words. A caption may rightly name a colour that is asked for, so the share
means little by itself: compare it with `chance`, the share for another item's reference in the same
descriptions, and with the same figures of a blind run or of the untrained student.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vigos_cli.grading.question_options import inlined, letter
from vigos_cli.method.segments import DESCRIPTION, DESCRIPTION_END
from vigos_cli.types import Response, Sample
from vigos_cli.utils.stats import mean_interval

WORD = re.compile(r"\w+(?:[.,']\w+)*")


def text_words(text: str) -> list[str]:
    """The words of a text without case; a decimal point or an apostrophe is part of its word."""
    return WORD.findall(text.casefold())


def states(description: str, answer: str) -> bool:
    """Whether the description contains the words of `answer` in sequence; an empty answer is never stated."""
    said, gold = text_words(description), text_words(answer)
    return bool(gold) and any(said[i : i + len(gold)] == gold for i in range(len(said) - len(gold) + 1))


def first_description(text: str) -> str | None:
    """The text of the first description in a response; None if it is missing or empty."""
    begin, end = text.find(DESCRIPTION), text.find(DESCRIPTION_END)
    inside = text[begin + len(DESCRIPTION) : end].strip() if 0 <= begin < end else ""
    return inside or None


def caption_gold(sample: Sample) -> str | None:
    """The answer as a caption would state it: for a letter the option's text, or None if it is unknown."""
    answer = sample.answer.strip()
    if not re.fullmatch(r"\(?[A-Z]\)?", answer):
        return answer or None
    options = sample.options or inlined(sample.question)
    return next((o for i, o in enumerate(options) if letter(i) == answer.strip("()")), None)


def leakage(samples: Sequence[Sample], responses: Sequence[Response]) -> dict[str, Any] | None:
    """The share of descriptions that state the reference, with n, interval, and `chance`.

    `chance` is the share of the same descriptions that state another item's reference: that of the next
    item with another reference. The bootstrap resamples groups of items. None if there are no descriptions.
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
    """For each item, the next reference that differs from its own; the first item follows the last one."""
    ids = list(golds)
    others: dict[str, str] = {}
    coming, other = "", ""  # the next reference, and the first reference after it that differs from it
    for id in reversed([*ids, *ids]):
        if text_words(golds[id]) != text_words(coming):
            coming, other = golds[id], coming
        if other:
            others[id] = other
    return others
