"""A grammar of mistakes: a good row for training, and one or two mistakes made in it.

for case in cases(seed=0, kind="types", count=100):
    case.row             # the malformed row, or the bytes of a whole line
    case.verdict(...)    # whether what came back is right
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from campaign import picture_mistakes, value_mistakes
from campaign.mistakes import GOOD, Case, Mistake

MAKERS: dict[str, Callable[[Random], list[Mistake]]] = {
    "types": value_mistakes.types,
    "columns": value_mistakes.columns,
    "empty texts": value_mistakes.empty_texts,
    "numbers": value_mistakes.numbers,
    "encodings": value_mistakes.encodings,
    "whole lines": value_mistakes.whole_lines,
    "marks": value_mistakes.marks,
    "tokens of a model": value_mistakes.tokens,
    "long texts": value_mistakes.long_texts,
    "options": value_mistakes.options,
    "pictures": picture_mistakes.picture_files,
    "pictures in the row": picture_mistakes.in_the_row,
    "paths": picture_mistakes.paths,
}
KINDS = tuple(MAKERS)


def cases(seed: int, kind: str, count: int) -> list[Case]:
    """Rows whose first mistake is of this kind; a third of them has a second mistake of any kind."""
    rng = Random(f"{seed} {kind}")
    first = [mistake for _ in range(4) for mistake in MAKERS[kind](rng)]
    rng.shuffle(first)
    made = []
    for mistake in (first * (1 + count // len(first)))[:count]:
        chosen, row = [mistake], mistake.make(GOOD)
        if rng.random() < 1 / 3 and isinstance(row, dict) and mistake.where != "*":
            other = rng.choice(_others(seed))
            again = other.make(row) if other.where not in (mistake.where, "*") else row
            if again is not row and isinstance(again, dict):
                chosen, row = [mistake, other], again
        made.append(Case(tuple(chosen), row))
    return made


@cache
def _others(seed: int) -> tuple[Mistake, ...]:
    kinds = ("types", "empty texts", "tokens of a model", "paths", "encodings", "pictures")
    return tuple(mistake for kind in kinds for mistake in MAKERS[kind](Random(f"{seed} second {kind}")))
