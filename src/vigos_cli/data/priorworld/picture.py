"""Draw a PriorWorld scene as a picture of 84 x 84 pixels.

A sprite is a shape (`SILHOUETTES`) filled with the thing's colour and covered with its pattern. It is drawn
at four times its size and then reduced.
"""

from __future__ import annotations

import random
from functools import cache, lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vigos_cli.data.priorworld.looks import COLOURS
from vigos_cli.data.priorworld.scene import BACKGROUNDS, GRID, Scene

CELL = 28  # pixels; one cell is one visual token of a Qwen2-VL (patches of 14, merged 2 x 2)
SIZE = CELL * GRID
INK, PALE_INK, OUTLINE = (60, 60, 60), (145, 145, 145), (70, 70, 70)
SCALE = 4  # a sprite is drawn this many times larger, then reduced


def picture(scene: Scene, rng: random.Random) -> Image.Image:
    """The scene as an RGB picture; `rng` moves and resizes things a little within their cells."""
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
    """One thing on a transparent square of `side` x `side` pixels (RGBA)."""
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
    """Two masks of `full` x `full` pixels: the shape of a kind, and its edge. Cached: drawing is slow."""
    mask = Image.new("L", (full, full))
    draw = ImageDraw.Draw(mask)
    for shapes, fill in ((SILHOUETTES[kind], 255), (HOLES.get(kind, ()), 0)):
        for shape, points in shapes:
            box = [p * (full - 1) for p in points]
            (draw.ellipse if shape == "ellipse" else draw.polygon)(box, fill=fill)
    return mask, ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(2 * SCALE - 1)))


def pattern_mask(pattern: str, full: int) -> Image.Image:
    """The mask of the pattern's ink, of `full` x `full` pixels."""
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


# Shapes in coordinates from 0 to 1: an ellipse by its bounding box, a polygon by its points.
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
# Shapes that are cut out of a silhouette.
HOLES: dict[str, list[tuple[str, tuple[float, ...]]]] = {"banana": [("ellipse", (0.12, -0.6, 0.88, 0.5))]}
