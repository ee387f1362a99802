"""Draw a sheet of PriorWorld samples, to check the pictures and their texts by eye.

    python tests/tools/priorworld_sheet.py --out sheet.png

Each column shows one question family. Prior families have two columns: with the usual fact stated (F) and
without (P). Under each enlarged picture are its question, answer, worked solution and caption.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from vigos_cli.data.priorworld.dataset import PriorWorld, question_rows
from vigos_cli.data.priorworld.looks import KINDS, USUAL
from vigos_cli.data.priorworld.picture import SIZE, sprite
from vigos_cli.data.priorworld.questions import OTHER_FAMILIES, PRIOR_FAMILIES
from vigos_cli.data.priorworld.scene import BACKGROUNDS, SPLITS
from vigos_cli.types import Sample

SIDE, MARGIN, LINE, LEGEND = SIZE * 3, 14, 19, 120
WIDTH = 312  # width of a column in pixels; the longest clause of a caption fits in one line
INK, SOFT, AGREES, CONFLICTS = "#111111", "#666666", "#1a7f37", "#c0261c"
COLUMNS = [(f, stated) for f in PRIOR_FAMILIES for stated in (True, False)]
COLUMNS += [(f, False) for f in OTHER_FAMILIES]


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which is installed with matplotlib."""
    name = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", name)), size)


BODY, BOLD, TITLE = font(14), font(14, bold=True), font(20, bold=True)


def samples_of(split: str, seed: int) -> Iterator[Sample]:
    """An endless stream of samples: training samples, or benchmark rows for the other splits."""
    if split == "train":
        yield from PriorWorld(split, size=1_000_000, seed=seed)
    for more in count():
        yield from question_rows(split, 8, seed + more)


def choose_samples(split: str, rows: int, seed: int) -> list[list[Sample]]:
    """`rows` samples for each column, from different groups; prior families alternate conflict and agree."""
    chosen: list[list[Sample]] = [[] for _ in COLUMNS]
    for sample in samples_of(split, seed):
        stated = sample.prior is not None and sample.prior.fact_stated
        column = chosen[COLUMNS.index((sample.family, stated))]
        wanted = sample.prior is None or sample.prior.agrees == (len(column) % 2 == 1)
        if len(column) < rows and wanted and sample.group not in {other.group for other in column}:
            column.append(sample)
        if all(len(column) == rows for column in chosen):
            break
    return chosen


def wrapped(text: str, type: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text, broken into lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and type.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def captioned(sample: Sample) -> list[tuple[str, ImageFont.FreeTypeFont, str]]:
    """The lines under a picture, each with its font and colour."""
    assert sample.scene is not None
    verdict, colour = "none: no usual answer", SOFT
    if sample.prior is not None:
        verdict = f"{'agree' if sample.prior.agrees else 'conflict'}: usually {sample.prior.usual}"
        colour = AGREES if sample.prior.agrees else CONFLICTS
    things: list[tuple[str, ...]] = sample.scene["things"]  # type: ignore[assignment]
    blocks = [
        (sample.question, BOLD, INK),
        (f"answer: {sample.answer}", BOLD, INK),
        (verdict, BODY, colour),
        (f"solution: {sample.solution}", BODY, INK),
        ("caption:", BODY, SOFT),
        *((f"{kind}: {' '.join(look)}.", BODY, SOFT) for kind, *look in things),
    ]
    width = WIDTH - 2 * MARGIN
    return [(line, type, ink) for text, type, ink in blocks for line in wrapped(text, type, width)]


def draw_legend(draw: ImageDraw.ImageDraw, sheet: Image.Image, title: str) -> None:
    """Draw the title, and every kind with its usual look."""
    draw.text((MARGIN, MARGIN), title, INK, TITLE)
    for i, kind in enumerate(KINDS):
        x, y = MARGIN + i * WIDTH, 3 * MARGIN + 8
        draw.rectangle((x, y, x + 62, y + 62), BACKGROUNDS["grey"])
        tile = sprite(kind, *USUAL[kind], 26).resize((52, 52), Image.Resampling.NEAREST)
        sheet.paste(tile, (x + 5, y + 5), tile)
        draw.text((x + 74, y + 4), f"{kind}, usually", INK, BOLD)
        for n, word in enumerate(USUAL[kind]):
            draw.text((x + 74, y + 4 + (n + 1) * LINE), word, INK, BODY)


def gallery(split: str = "train", rows: int = 5, seed: int = 0) -> Image.Image:
    """Draw the whole sheet."""
    chosen = choose_samples(split, rows, seed)
    texts = [[captioned(sample) for sample in column] for column in chosen]
    heights = [SIDE + 3 * MARGIN + LINE * max(len(column[row]) for column in texts) for row in range(rows)]
    top = LEGEND + 2 * LINE
    sheet = Image.new("RGB", (WIDTH * len(COLUMNS), top + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    draw_legend(draw, sheet, f"PriorWorld, {split} split, seed {seed}")
    for i, (family, stated) in enumerate(COLUMNS):
        x = i * WIDTH + MARGIN
        letter = {True: ", fact stated (F)", False: ", no fact (P)"}[stated]
        draw.text((x, LEGEND + 12), family + (letter if family in PRIOR_FAMILIES else ""), INK, BOLD)
        for row, sample in enumerate(chosen[i]):
            y = top + sum(heights[:row])
            sheet.paste(sample.images[0].resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
            for n, (line, type, ink) in enumerate(texts[i][row]):
                draw.text((x, y + SIDE + 6 + n * LINE), line, ink, type)
    return sheet


def main() -> None:
    """Write the sheet to the file given on the command line."""
    parser = argparse.ArgumentParser(description="Draw a sheet of PriorWorld samples as a PNG file.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    gallery(options.split, options.rows, options.seed).save(options.out)


if __name__ == "__main__":
    main()
