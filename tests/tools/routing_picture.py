"""Draw docs/routing.svg from conf/routing: which teacher supervises which part of the student's turn.

`nox -s reference` runs it. The colours follow the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "routing.svg"

WIDTH, LEFT, ROW, GAP = 900, 250, 44, 8
TURN = [("description", 150), ("reasoning", 190), ("answer", 100)]  # parts of the student's turn, with widths
BROKEN = ("invalid", 150)  # a turn with an invalid format, drawn beside it
SEES = {  # what each teacher is shown
    "perception": "picture only",
    "reasoning": "picture, question, reference",
    "reference": "picture, question, reference",
    "privileged": "picture, question, reference",
}
NAMES = {"perception": "Perception", "reasoning": "Reasoning", "reference": "Fallback", "privileged": "OPSD"}
TITLES = {
    "vigos": "ViGOS (routing=vigos): one teacher for the picture, another for the reference",
    "opsd_structured": "OPSD, same prompt (routing=opsd_structured): one teacher for everything",
}
STYLE = """
  text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 } .name { font-size: 14px; font-weight: 600 }
  .small { font-size: 13px } .soft { fill: #59636e } .code { font-family: ui-monospace, monospace }
  .on { fill: #ffffff; font-weight: 600 } .turn, .none { fill: none; stroke: #59636e }
  .none { stroke-opacity: .35 }
  .perception { fill: #0b7a4b } .reasoning { fill: #2f5fd0 }
  .reference { fill: #a04a12 } .privileged { fill: #7b3fb5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .soft { fill: #9198a1 } .on { fill: #ffffff }
    .turn, .none { stroke: #9198a1 }
  }
"""


def routing(name: str) -> dict[str, Any]:
    """The values of one routing file; they override those of the files in its `defaults`."""
    text = (ROOT / "conf" / "routing" / f"{name}.yaml").read_text(encoding="utf-8")
    own: dict[str, Any] = yaml.safe_load(text)
    below: dict[str, Any] = {}
    for base in own.pop("defaults", []):
        if base != "_self_":
            below |= routing(base)
    return below | own


def teachers(table: dict[str, Any], kind: str) -> list[str]:
    """The teachers of one kind of token."""
    cell = table[kind]
    return [name for name in ([cell] if isinstance(cell, str) else cell) if name != "none"]


def drawing(names: Sequence[str] = tuple(TITLES)) -> str:
    """The picture as SVG."""
    lines, top = [], 10
    for name in names:
        block, top = _block(name, top)
        lines += block
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
    label = "<title>Which teacher supervises which part of the student's turn</title>"
    return "\n".join([head, label, f"<style>{STYLE}</style>", *lines, "</svg>", ""])


def _block(name: str, top: int) -> tuple[list[str], int]:
    """One routing: its title, the student's turn, and a row for each teacher."""
    table = routing(name)
    kinds = [kind for kind, _ in (*TURN, BROKEN)]
    rows = list(dict.fromkeys(role for kind in kinds for role in teachers(table, kind)))
    lines = [_text(0, top + 18, TITLES[name], "title")]
    top += 34
    lines += [
        _text(0, top + 18, "Student", "name"),
        _text(0, top + 36, "sees picture and question", "small soft"),
    ]
    for kind, x, width in _columns():
        broken = kind == BROKEN[0]
        tags = {"description": "<description>", "reasoning": "<think>", "answer": "\\boxed{ }"}
        label = "broken format" if broken else kind
        lines.append(f'<rect class="turn" x="{x}" y="{top}" width="{width}" height="{ROW}" rx="5"/>')
        lines.append(_text(x + width / 2, top + 19, label, "small", middle=True))
        style = "small soft" if broken else "small soft code"
        lines.append(_text(x + width / 2, top + 36, tags.get(kind, "all tokens"), style, middle=True))
    for role in rows:
        top += ROW + GAP
        lines.append(_text(0, top + 18, f"{NAMES[role]} teacher", "name"))
        lines.append(_text(0, top + 36, f"sees {SEES[role]}", "small soft"))
        for kind, x, width in _columns():
            taught = role in teachers(table, kind)
            shape = role if taught else "none"
            lines.append(f'<rect class="{shape}" x="{x}" y="{top}" width="{width}" height="{ROW}" rx="5"/>')
            if taught:
                lines.append(_text(x + width / 2, top + 27, "supervises", "small on", middle=True))
    return lines, top + ROW + 26


def _columns() -> Iterable[tuple[str, int, int]]:
    """Name, left edge and width of each part; the invalid turn is drawn separately."""
    x = LEFT
    for kind, width in TURN:
        yield kind, x, width
        x += width + GAP
    yield BROKEN[0], x + 3 * GAP, BROKEN[1]


def _text(x: float, y: float, text: str, style: str, *, middle: bool = False) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text x="{x:g}" y="{y:g}" class="{style}"{anchor}>{text}</text>'


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
