"""The true content of a PriorWorld picture: which things are where, and how they look.

    >>> draw_scene(seeded("example"), usual_rate=0.5).things[0]
    Thing(kind='tree', colour='green', pattern='striped', row=0, column=1)

A hash of its kinds, cells and background decides which split a scene belongs to. Its colours and patterns do
not: a scene stays in its split when a look is changed, and no picture is in two splits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from hashlib import blake2b

from vigos_cli.data.priorworld.looks import ATTRIBUTES, KINDS, USUAL, unusual_value

GRID = 3  # number of rows of cells, and number of columns
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
BACKGROUNDS = {"grey": (205, 208, 212), "pink": (250, 205, 215), "tan": (222, 196, 150)}
SPLITS = ("train", "validation", "heldout")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: its kind, its colour and pattern, and the row and column of its cell."""

    kind: str
    colour: str
    pattern: str
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class Scene:
    """The things of one picture, row by row from the top left, and the background colour."""

    things: tuple[Thing, ...]
    background: str

    def split(self) -> str:
        """The split, by a hash of all but the looks: a tenth is held out, and a tenth is for validation."""
        content = [(t.kind, t.row, t.column) for t in self.things], self.background
        bucket = int.from_bytes(blake2b(repr(content).encode(), digest_size=4).digest()) % 10
        return {0: "heldout", 1: "validation"}.get(bucket, "train")


def seeded(*key: object) -> random.Random:
    """A random generator whose draws depend only on `key`."""
    return random.Random(blake2b(repr(key).encode(), digest_size=16).digest())


def draw_scene(rng: random.Random, usual_rate: float, *, trained: bool = False) -> Scene:
    """A random scene; each colour and each pattern is the kind's usual one with probability `usual_rate`.

    If `trained`, no thing has a value that is withheld from training (`looks.withheld`).
    """
    kinds = rng.sample(KINDS, rng.randint(2, 4))
    while True:  # at least two columns, so that a left-of question can be asked
        cells = sorted(rng.sample(range(GRID * GRID), len(kinds)))
        if len({cell % GRID for cell in cells}) > 1:
            break
    things = []
    for kind, cell in zip(kinds, cells, strict=True):
        colour, pattern = (
            usual if rng.random() < usual_rate else unusual_value(kind, attribute, rng, trained=trained)
            for usual, attribute in zip(USUAL[kind], ATTRIBUTES, strict=True)
        )
        things.append(Thing(kind, colour, pattern, *divmod(cell, GRID)))
    return Scene(tuple(things), rng.choice(tuple(BACKGROUNDS)))


def scene_of_split(split: str, rng: random.Random, usual_rate: float, *, trained: bool = False) -> Scene:
    """A random scene of one split; see `draw_scene`."""
    while (scene := draw_scene(rng, usual_rate, trained=trained)).split() != split:
        pass
    return scene


def with_value(scene: Scene, kind: str, attribute: str, value: str) -> Scene:
    """The scene with `value` as the colour or pattern (`attribute`) of the thing of this kind."""
    return replace(
        scene,
        things=tuple(
            replace(thing, **{attribute: value}) if thing.kind == kind else thing for thing in scene.things
        ),
    )
