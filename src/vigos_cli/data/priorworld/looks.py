"""The kinds of things in PriorWorld, and the colour and pattern that each usually has.

>>> usual_value("banana", "colour"), withheld("banana", "colour")
('yellow', 'purple')
"""

from __future__ import annotations

import random

COLOURS = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (250, 215, 40),
    "green": (56, 150, 60),
    "blue": (40, 90, 220),
    "purple": (140, 60, 180),
    "white": (252, 252, 252),
    "black": (28, 28, 28),
}
PATTERNS = ("plain", "striped", "dotted", "checked")
ATTRIBUTES = {"colour": tuple(COLOURS), "pattern": PATTERNS}  # attribute: its possible values
USUAL = {  # kind: (usual colour, usual pattern)
    "banana": ("yellow", "plain"),
    "carrot": ("orange", "striped"),
    "heart": ("red", "dotted"),
    "tree": ("green", "checked"),
    "fish": ("blue", "striped"),
    "flower": ("purple", "dotted"),
    "cloud": ("white", "plain"),
    "hat": ("black", "checked"),
}
KINDS = tuple(USUAL)


def usual_value(kind: str, attribute: str) -> str:
    """The colour or the pattern that this kind usually has."""
    return USUAL[kind][list(ATTRIBUTES).index(attribute)]


def unusual_value(kind: str, attribute: str, rng: random.Random, *, trained: bool) -> str:
    """A random value that is not the usual one of this kind, and with `trained` not the withheld one."""
    return rng.choice(unusual_values(kind, attribute, trained=trained))


def unusual_values(kind: str, attribute: str, *, trained: bool = False) -> tuple[str, ...]:
    """All values that are not the usual one of this kind, and with `trained` not the withheld one."""
    excluded = {usual_value(kind, attribute)} | ({withheld(kind, attribute)} if trained else set())
    return tuple(value for value in ATTRIBUTES[attribute] if value not in excluded)


def withheld(kind: str, attribute: str) -> str:
    """The unusual value of this kind that no training picture shows."""
    values = ATTRIBUTES[attribute]
    usual = values.index(usual_value(kind, attribute))
    return values[(usual + (3 if attribute == "colour" else 1)) % len(values)]
