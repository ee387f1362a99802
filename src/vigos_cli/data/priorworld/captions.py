"""Write the true description of a PriorWorld scene, and read one back.

>>> read_caption("hat: red plain top left. fish: blue striped middle right.")["hat"]
['red', 'plain', 'top', 'left']
"""

from __future__ import annotations

import re

from vigos_cli.data.priorworld.looks import ATTRIBUTES, COLOURS, KINDS, PATTERNS
from vigos_cli.data.priorworld.scene import COLUMNS, ROWS, Scene, Thing
from vigos_cli.types import Sample

CLAUSE = re.compile(r"(\w+): (\w+) (\w+) (\w+) (\w+)\.")


def clause(thing: Thing) -> str:
    """The colour, pattern, row and column of one thing, in words."""
    return f"{thing.kind}: {thing.colour} {thing.pattern} {ROWS[thing.row]} {COLUMNS[thing.column]}."


def caption(scene: Scene) -> str:
    """The description that a model should write: one clause for every thing, none for the background."""
    return " ".join(map(clause, scene.things))


def read_caption(text: str) -> dict[str, list[str]]:
    """The clauses found in a description: kind -> [colour, pattern, row, column]."""
    return {kind: look for kind, *look in CLAUSE.findall(text)}


def is_caption(text: str) -> bool:
    """Whether a description has a clause of this form, as the tiny model writes them; it may be untrue."""
    return any(
        kind in KINDS and look[0] in COLOURS and look[1] in PATTERNS
        for kind, look in read_caption(text).items()
    )


def asked_attribute_is_true(description: str, sample: Sample) -> bool:
    """Whether a description states the true value of the asked colour or pattern."""
    assert sample.scene is not None and sample.prior is not None
    look = read_caption(description).get(str(sample.scene["asked"]))
    return look is not None and look[list(ATTRIBUTES).index(sample.family)] == sample.answer
