"""PriorWorld: small pictures of things that have a usual look, and questions about them.

A picture is a 3 x 3 grid with two to four things, each of another kind; every kind has a usual colour and a
usual pattern (bananas are yellow and plain). A sample *agrees* when the asked thing looks as usual, and
*conflicts* when it does not: then the answer must be read off the picture.

    >>> world = PriorWorld(split="train", size=1000, seed=0, conflict=0.5)
    >>> sample = world[7]                       # drawn on demand: seed in, sample out
    >>> sample.question, sample.answer, sample.prior
    ('Hats are usually checked. What pattern has the hat?', 'dotted', Prior(usual='checked', ...))

It is a constructed test bed: it shows what a method does, never how large an effect is on real models.
Pictures are split by a hash of their content, so that no two splits share one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from hashlib import blake2b

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vigos_cli.types import Prior, Sample

CELL, GRID = 28, 3  # one cell is one visual token of a Qwen2-VL (patch 14, merged 2 x 2)
SIZE = CELL * GRID

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
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
BACKGROUNDS = {"grey": (205, 208, 212), "pink": (250, 205, 215), "tan": (222, 196, 150)}
PRIOR_FAMILIES = ("colour", "pattern")
OTHER_FAMILIES = ("count", "left_of", "place", "background")  # a caption does not tell the background
SPLITS = ("train", "validation", "heldout")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: what it is, how it looks, and its cell."""

    kind: str
    colour: str
    pattern: str
    row: int
    column: int

    @property
    def usual(self) -> bool:
        """Whether both its colour and its pattern are the usual ones."""
        return (self.colour, self.pattern) == USUAL[self.kind]


@dataclass(frozen=True, slots=True)
class Scene:
    """The truth about one picture; things in reading order."""

    things: tuple[Thing, ...]
    background: str

    def split(self) -> str:
        """The split this picture belongs to: one tenth held out, one tenth validation, by content."""
        bucket = blake2b(repr(self).encode(), digest_size=4).digest()[0] % 10
        return {0: "heldout", 1: "validation"}.get(bucket, "train")


def seeded(*key: object) -> random.Random:
    """A generator that depends on nothing but `key`."""
    return random.Random(blake2b(repr(key).encode(), digest_size=16).digest())


# ---------------------------------------------------------------- what is said about a scene


def plural(kind: str) -> str:
    """`fish` has no plural of its own form; the rest take an s."""
    return {"fish": "fish"}.get(kind, kind + "s")


def clause(thing: Thing) -> str:
    """One thing's look and place."""
    return f"{thing.kind}: {thing.colour} {thing.pattern} {ROWS[thing.row]} {COLUMNS[thing.column]}."


def caption(scene: Scene) -> str:
    """A clause for every thing: what a description of the picture should say."""
    return " ".join(map(clause, scene.things))


CLAUSE = re.compile(r"(\w+): (\w+) (\w+) (\w+) (\w+)\.")


def read_caption(text: str) -> dict[str, tuple[str, str, str, str]]:
    """The clauses of a description, by kind: (colour, pattern, row, column)."""
    return {kind: look for kind, *look in CLAUSE.findall(text)}  # type: ignore[misc]


def asked_attribute_is_true(description: str, sample: Sample) -> bool:
    """Whether a description states the asked thing's true value (prior families only)."""
    assert sample.scene is not None and sample.prior is not None
    look = read_caption(description).get(str(sample.scene["asked"]))
    return look is not None and look[PRIOR_FAMILIES.index(sample.family)] == sample.answer


def ask(
    scene: Scene, family: str, rng: random.Random, asked: Thing | None = None
) -> tuple[str, str, str, str]:
    """A question of this family about the scene: (question, answer, worked solution, asked kind)."""
    thing = asked or rng.choice(scene.things)
    match family:
        case "colour":
            answer = thing.colour
            return f"What colour is the {thing.kind}?", answer, f"The {thing.kind} is {answer}.", thing.kind
        case "pattern":
            answer = thing.pattern
            return f"What pattern has the {thing.kind}?", answer, f"The {thing.kind} is {answer}.", thing.kind
        case "place":
            answer = ROWS[thing.row]
            return f"Which row is the {thing.kind} in?", answer, f"The {thing.kind} is {answer}.", thing.kind
        case "left_of":
            pairs = [(a, b) for a in scene.things for b in scene.things if a.column != b.column]
            a, b = rng.choice(pairs)
            places = f"The {a.kind} is {COLUMNS[a.column]}, the {b.kind} is {COLUMNS[b.column]}."
            answer = "yes" if a.column < b.column else "no"
            return f"Is the {a.kind} left of the {b.kind}?", answer, places, a.kind
        case "count":
            names = ", ".join(t.kind for t in scene.things)
            return "How many things are there?", str(len(scene.things)), f"I see {names}.", ""
        case "background":
            return (
                "What colour is the background?",
                scene.background,
                f"The background is {scene.background}.",
                "",
            )
    raise ValueError(f"no question family {family!r}")


def vocabulary(family: str) -> tuple[str, ...]:
    """Every answer that a family's questions have; none for a family of other data."""
    return {
        "colour": tuple(COLOURS),
        "pattern": PATTERNS,
        "count": ("2", "3", "4"),
        "left_of": ("yes", "no"),
        "place": ROWS,
        "background": tuple(BACKGROUNDS),
    }.get(family, ())


def fact(kind: str, family: str) -> str:
    """The usual fact, as a sentence to put before the question."""
    return f"{plural(kind).capitalize()} are usually {USUAL[kind][PRIOR_FAMILIES.index(family)]}."


# ---------------------------------------------------------------- drawing scenes


def unusual(kind: str, attribute: str, rng: random.Random, *, trained: bool) -> str:
    """A value this kind does not usually have; `trained` leaves out the pairs withheld from training."""
    values = tuple(COLOURS) if attribute == "colour" else PATTERNS
    usual = USUAL[kind][PRIOR_FAMILIES.index(attribute)]
    shun = {usual, withheld(kind, attribute)} if trained else {usual}
    return rng.choice([v for v in values if v not in shun])


def withheld(kind: str, attribute: str) -> str:
    """The one unusual value of this kind that no training picture of a distillation shows."""
    values = tuple(COLOURS) if attribute == "colour" else PATTERNS
    usual = values.index(USUAL[kind][PRIOR_FAMILIES.index(attribute)])
    return values[(usual + (3 if attribute == "colour" else 1)) % len(values)]


def draw_scene(rng: random.Random, usual_rate: float, *, trained: bool = False) -> Scene:
    """A random scene; each colour and each pattern is the kind's usual one with probability `usual_rate`."""
    kinds = rng.sample(KINDS, rng.randint(2, 4))
    while True:  # two columns at least, so that a left-of question can be asked
        cells = sorted(rng.sample(range(GRID * GRID), len(kinds)))
        if len({cell % GRID for cell in cells}) > 1:
            break
    things = []
    for kind, cell in zip(kinds, cells, strict=True):
        colour, pattern = (
            usual if rng.random() < usual_rate else unusual(kind, attribute, rng, trained=trained)
            for usual, attribute in zip(USUAL[kind], PRIOR_FAMILIES, strict=True)
        )
        things.append(Thing(kind, colour, pattern, *divmod(cell, GRID)))
    return Scene(tuple(things), rng.choice(tuple(BACKGROUNDS)))


def with_value(scene: Scene, kind: str, family: str, value: str) -> Scene:
    """The same scene, but for one attribute of one thing."""
    things = tuple(
        Thing(
            t.kind,
            value if family == "colour" and t.kind == kind else t.colour,
            value if family == "pattern" and t.kind == kind else t.pattern,
            t.row,
            t.column,
        )
        for t in scene.things
    )
    return Scene(things, scene.background)


def make_sample(
    id: str,
    scene: Scene,
    family: str,
    rng: random.Random,
    *,
    asked: str = "",
    stated: bool = False,
    group: str = "",
) -> Sample:
    """A question about a scene, with its reference, worked solution, usual answer and picture."""
    thing = next((t for t in scene.things if t.kind == asked), None)
    question, answer, solution, kind = ask(scene, family, rng, thing)
    prior = None
    if family in PRIOR_FAMILIES:
        usual = USUAL[kind][PRIOR_FAMILIES.index(family)]
        prior = Prior(usual=usual, agrees=answer == usual, fact_stated=stated)
        question = f"{fact(kind, family)} {question}" if stated else question
    truth = {
        "asked": kind,
        "things": [(t.kind, t.colour, t.pattern, ROWS[t.row], COLUMNS[t.column]) for t in scene.things],
        "background": scene.background,
        "withheld": prior is not None and answer == withheld(kind, family),
    }
    return Sample(
        id=id,
        question=question,
        answer=answer,
        images=(picture(scene, rng),),
        solution=solution,
        family=family,
        prior=prior,
        group=group or id,
        scene=truth,
    )


class PriorWorld(Sequence[Sample]):
    """A training split: `conflict` of the pictures contradict the prior, the others agree with it everywhere.

    In a conflicting picture the asked attribute is unusual, and every other one is with probability one half.
    Half of the questions are of a prior family, half of those state the usual fact. The references of
    `wrong_reference` of the samples are wrong; those of a lower share are among those of a higher one.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 4096,
        seed: int = 0,
        conflict: float = 0.5,
        wrong_reference: float = 0.0,
    ):
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}: {', '.join(SPLITS)}")
        self.split, self.size, self.seed, self.conflict = split, size, seed, conflict
        self.wrong_reference = wrong_reference

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = seeded("priorworld", self.split, self.seed, index)
        conflicts = rng.random() < self.conflict
        prior_family = rng.random() < 0.5
        family = rng.choice(PRIOR_FAMILIES if prior_family else OTHER_FAMILIES)
        stated = prior_family and rng.random() < 0.5
        while True:
            scene = draw_scene(rng, 0.5 if conflicts else 1.0, trained=True)
            asked = rng.choice(scene.things).kind
            if conflicts:  # the asked attribute when one is asked, any otherwise
                attribute = family if prior_family else rng.choice(PRIOR_FAMILIES)
                scene = with_value(scene, asked, attribute, unusual(asked, attribute, rng, trained=True))
            if scene.split() == self.split:
                break
        sample = make_sample(
            f"{self.split}-{self.seed}-{index}", scene, family, rng, asked=asked, stated=stated
        )
        # A generator of its own: the pictures and questions are the same at any share.
        mistake = seeded("wrong_reference", self.split, self.seed, index)
        return misinformed(sample, mistake) if mistake.random() < self.wrong_reference else sample


def misinformed(sample: Sample, rng: random.Random) -> Sample:
    """The same sample with a wrong answer of the right kind as reference, its solution only states that."""
    answers = {
        "colour": tuple(COLOURS),
        "pattern": PATTERNS,
        "place": ROWS,
        "left_of": ("yes", "no"),
        "count": ("2", "3", "4"),
        "background": tuple(BACKGROUNDS),
    }[sample.family]
    wrong = rng.choice([answer for answer in answers if answer != sample.answer])
    return replace(sample, answer=wrong, solution=f"The answer is {wrong}.")


def question_rows(split: str, rows: int, seed: int = 0) -> list[Sample]:
    """A test set: `rows` prior questions on three pictures each, then as many questions without a prior.

    The pictures of a row differ in the asked attribute alone: the first agrees with the prior, the other two
    contradict it with two different values (as in ViLP: Prior is the accuracy on the first, Score on the
    others). Every second row states the usual fact.
    """
    samples: list[Sample] = []
    for row in range(rows):
        rng = seeded("rows", split, seed, row)
        family, stated = PRIOR_FAMILIES[row % 2], row // 2 % 2 == 0
        values = tuple(COLOURS) if family == "colour" else PATTERNS
        while True:
            scene = draw_scene(rng, 0.5)
            asked = rng.choice(scene.things).kind
            usual = USUAL[asked][PRIOR_FAMILIES.index(family)]
            others = rng.sample([v for v in values if v != usual], 2)
            scenes = [with_value(scene, asked, family, value) for value in (usual, *others)]
            if all(s.split() == split for s in scenes):
                break
        for k, scene in enumerate(scenes):
            id = f"{split}-{seed}-row{row}-{k + 1}"
            group = f"{split}-{seed}-row{row}"
            samples.append(make_sample(id, scene, family, rng, asked=asked, stated=stated, group=group))
    for row in range(rows):
        rng = seeded("other", split, seed, row)
        while (scene := draw_scene(rng, 0.5)).split() != split:
            pass
        family = OTHER_FAMILIES[row % len(OTHER_FAMILIES)]
        samples.append(make_sample(f"{split}-{seed}-other{row}", scene, family, rng))
    return samples


# ---------------------------------------------------------------- drawing pictures

INK, PALE_INK, OUTLINE = (60, 60, 60), (145, 145, 145), (70, 70, 70)
SCALE = 4  # sprites are drawn this much larger, then reduced


def picture(scene: Scene, rng: random.Random) -> Image.Image:
    """The scene as an 84 x 84 picture; `rng` moves and resizes things a little within their cells."""
    shade = rng.randint(-8, 8)
    image = Image.new("RGB", (SIZE, SIZE), tuple(c + shade for c in BACKGROUNDS[scene.background]))
    for thing in scene.things:
        side = rng.choice((23, 24, 25, 26))
        tile = sprite(thing.kind, thing.colour, thing.pattern, side)
        x = thing.column * CELL + 1 + rng.randint(0, CELL - 2 - side)
        y = thing.row * CELL + 1 + rng.randint(0, CELL - 2 - side)
        image.paste(tile, (x, y), tile)
    return image


@lru_cache(maxsize=2048)
def sprite(kind: str, colour: str, pattern: str, side: int) -> Image.Image:
    """One thing on a transparent square of `side` pixels."""
    full = side * SCALE
    mask, edge = silhouette(kind, full)
    body = Image.new("RGBA", (full, full), (*COLOURS[colour], 255))
    ink = PALE_INK if colour == "black" else INK
    body.paste((*ink, 255), (0, 0), pattern_mask(pattern, full))
    body.paste((*OUTLINE, 255), (0, 0), edge)
    body.putalpha(mask)
    return body.resize((side, side), Image.Resampling.LANCZOS)


@cache
def silhouette(kind: str, full: int) -> tuple[Image.Image, Image.Image]:
    """A thing's shape on a square of `full` pixels, and the shape's edge, which takes longest to find."""
    mask = Image.new("L", (full, full))
    draw = ImageDraw.Draw(mask)
    for shapes, fill in ((SILHOUETTES[kind], 255), (HOLES.get(kind, ()), 0)):
        for shape, points in shapes:
            box = [p * (full - 1) for p in points]
            (draw.ellipse if shape == "ellipse" else draw.polygon)(box, fill=fill)
    return mask, ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(2 * SCALE - 1)))


def pattern_mask(pattern: str, full: int) -> Image.Image:
    """Where the pattern's ink goes, on a square of `full` pixels."""
    mask = Image.new("L", (full, full))
    draw = ImageDraw.Draw(mask)
    step = 6 * SCALE
    if pattern == "striped":
        for y in range(0, full, step):
            draw.rectangle((0, y, full, y + step // 2 - 1), fill=255)
    elif pattern == "dotted":
        radius = 1.35 * SCALE
        for row, y in enumerate(range(step // 2, full, step)):
            for x in range(step // 2 if row % 2 else 0, full + step, step):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    elif pattern == "checked":
        half = step // 2 + SCALE
        for y in range(0, full, half):
            for x in range(0, full, half):
                if (x // half + y // half) % 2:
                    draw.rectangle((x, y, x + half - 1, y + half - 1), fill=255)
    return mask


def _petals() -> list[tuple[str, tuple[float, ...]]]:
    centres = ((0.5, 0.2), (0.79, 0.41), (0.68, 0.76), (0.32, 0.76), (0.21, 0.41), (0.5, 0.5))
    return [("ellipse", (x - 0.2, y - 0.2, x + 0.2, y + 0.2)) for x, y in centres]


# Outlines in unit coordinates: ellipses by their box, polygons by their points.
SILHOUETTES: dict[str, list[tuple[str, tuple[float, ...]]]] = {
    "banana": [("ellipse", (0.0, -0.15, 1.0, 0.9))],
    "carrot": [
        ("polygon", (0.18, 0.28, 0.82, 0.28, 0.5, 1.0)),
        ("ellipse", (0.18, 0.18, 0.82, 0.4)),
        ("polygon", (0.46, 0.25, 0.2, 0.0, 0.38, 0.02)),
        ("polygon", (0.45, 0.25, 0.46, 0.0, 0.56, 0.0, 0.55, 0.25)),
        ("polygon", (0.54, 0.25, 0.8, 0.0, 0.62, 0.02)),
    ],
    "heart": [
        ("ellipse", (0.02, 0.06, 0.54, 0.56)),
        ("ellipse", (0.46, 0.06, 0.98, 0.56)),
        ("polygon", (0.05, 0.42, 0.95, 0.42, 0.5, 0.98)),
    ],
    "tree": [
        ("polygon", (0.5, 0.0, 0.9, 0.42, 0.1, 0.42)),
        ("polygon", (0.5, 0.2, 1.0, 0.76, 0.0, 0.76)),
        ("polygon", (0.4, 0.7, 0.6, 0.7, 0.6, 1.0, 0.4, 1.0)),
    ],
    "fish": [
        ("ellipse", (0.0, 0.2, 0.78, 0.8)),
        ("polygon", (0.62, 0.5, 1.0, 0.15, 1.0, 0.85)),
    ],
    "flower": _petals(),
    "cloud": [
        ("ellipse", (0.0, 0.42, 0.46, 0.86)),
        ("ellipse", (0.2, 0.16, 0.72, 0.76)),
        ("ellipse", (0.54, 0.4, 1.0, 0.86)),
        ("polygon", (0.2, 0.6, 0.8, 0.6, 0.8, 0.86, 0.2, 0.86)),
    ],
    "hat": [
        ("polygon", (0.22, 0.08, 0.78, 0.08, 0.74, 0.75, 0.26, 0.75)),
        ("ellipse", (0.0, 0.66, 1.0, 0.94)),
    ],
}
HOLES: dict[str, list[tuple[str, tuple[float, ...]]]] = {"banana": [("ellipse", (0.12, -0.6, 0.88, 0.5))]}
