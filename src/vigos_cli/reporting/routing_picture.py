"""Draw routings as one SVG picture: what each teacher sees and is told, and which part it supervises.

    svg = routing_picture({"ViGOS": config.routing})
    uri = picture_uri(svg)            # for the `src` of an image in a page

The colours follow the reader's light or dark theme. All texts are escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from vigos_cli.config.routing_checks import used_teachers
from vigos_cli.config.routing_group import RoutingConfig, TeacherContext
from vigos_cli.config.supervision_terms import Rule, supervision_rules
from vigos_cli.utils.control_characters import visible

WIDTH, LEFT, ROW, GAP = 1060, 400, 44, 8
PARTS = {  # of the student's turn: width, label, and what opens it
    "description": (130, "description", "<description>"),
    "reasoning": (150, "reasoning", "<think>"),
    "answer": (90, "answer", "\\boxed{ }"),
    "end": (80, "end", "and tags"),
    "invalid": (120, "broken format", "all tokens"),
}
LETTER, NOTE = 8.5, 60  # the width of a bold letter, and the letters of a note
COLOURS = ("#0b7a4b", "#2f5fd0", "#a04a12", "#7b3fb5", "#9a1f5e", "#4f6b00")
STYLE = """
  text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 } .name { font-size: 14px; font-weight: 600 }
  .small { font-size: 13px } .soft { fill: #59636e } .code { font-family: ui-monospace, monospace }
  .on { fill: #ffffff; font-weight: 600 } .turn, .none { fill: none; stroke: #59636e }
  .none { stroke-opacity: .35 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .soft { fill: #9198a1 } .on { fill: #ffffff }
    .turn, .none { stroke: #9198a1 }
  }
"""


def routing_picture(routings: Mapping[str, RoutingConfig]) -> str:
    """The SVG of routings, one below the other, each under its title."""
    lines, top = [], 10
    for title, routing in routings.items():
        block, top = _block(title, routing, top)
        lines += block
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
    label = "<title>Which teacher supervises which part of the student's turn</title>"
    return "\n".join([head, label, f"<style>{STYLE}</style>", *lines, "</svg>", ""])


def picture_uri(svg: str) -> str:
    """The picture as a data URI."""
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode()


def _block(title: str, routing: RoutingConfig, top: int) -> tuple[list[str], int]:
    """One routing: its title, the student's turn, and a row for everything that supervises or is read."""
    lines = [_text(0, top + 18, title, "title")]
    top += 34
    student = routing.student
    told = {"caption": "writes a caption, is not trained", "reference": "imitates the reference"}
    lines += _label(
        top, "Student", told.get(student.writes, f"sees {_seen(student.sees)}, told the question")
    )
    for x, width, label, opening in _columns(routing):
        lines.append(_box(x, top, width, "turn"))
        lines.append(_text(x + width / 2, top + 19, label, "small", middle=True))
        lines.append(_text(x + width / 2, top + 36, opening, "small soft code", middle=True))
    rules = supervision_rules(routing)
    for place, (name, note) in enumerate(_rows(routing).items()):
        top += ROW + GAP
        lines += _label(top, name, note)
        for (x, width, *_), part in zip(_columns(routing), _parts(routing), strict=True):
            own = [rule for rule in rules if rule.by == name and _covers(rule, part)]
            colour = COLOURS[place % len(COLOURS)] if own else ""
            lines.append(_box(x, top, width, "none" if not own else "", colour))
            if own:
                lines.append(_text(x + width / 2, top + 27, _how(own[0], width), "small on", middle=True))
    return lines, top + ROW + 26


def _rows(routing: RoutingConfig) -> dict[str, str]:
    """What supervises or is read, each with a note: targets, teachers, what has no teacher."""
    rules, rows = supervision_rules(routing), {}
    for rule in rules:
        if rule.by in routing.targets:
            target = routing.targets[rule.by]
            rows[rule.by] = f"{target.base} + {target.scale:g} ({target.plus} - {target.minus})"
    rows |= {name: _described(routing.teachers[name]) for name in used_teachers(routing)}
    without = {"tokens": "the tokens themselves, no teacher", "constant": "a fixed advantage, no teacher"}
    return rows | {rule.by: without[rule.by] for rule in rules if rule.by in without}


def _described(teacher: TeacherContext) -> str:
    told = ", ".join(_entry(entry) for entry in teacher.told) or "nothing"
    weights = "" if teacher.weights is None else f"; {_entry(teacher.weights)}"
    return f"sees {_seen(teacher.sees)}; told {told}{weights}"


def _seen(sees: Any) -> str:
    words = {"image": "the picture", "none": "no picture", "noise": "noise", "black": "a black picture"}
    if isinstance(sees, str):
        return words.get(sees, sees)
    if "one_of" in sees:
        return "a degraded picture"
    if "row" in sees:
        return "another row's picture"
    return f"{_seen(sees['mask'])}, masked" if "mask" in sees else f"the column {sees['column']}"


def _entry(entry: Any) -> str:
    """One thing that a teacher is told, or its weights, in a few words."""
    if isinstance(entry, str):
        return entry
    if "row" in entry:
        return f"another row's {entry['column']}"
    if "sibling" in entry:
        return f"a {entry['sibling']} sibling"
    if "every" in entry:
        return f"a copy every {entry['every']} steps"
    return str(entry["column"]) if "column" in entry else " ".join(f"{k} {v}" for k, v in entry.items())


def _how(rule: Rule, width: int) -> str:
    """The divergence and the weight that the routing states; only a mark if there is no space."""
    names = {"forward_kl": "forward KL", "reverse_kl": "reverse KL", "jsd": "JSD", "skew_kl": "skew KL"}
    stated = [names.get(rule.divergence or "", rule.divergence)]
    stated.append(None if rule.weight in (None, 1) else f"× {rule.weight:g}")
    text = " ".join(filter(None, stated)) or "supervises"
    short = "✓" if rule.weight in (None, 1) else f"× {rule.weight:g}"
    return text if len(text) * LETTER < width else short


def _covers(rule: Rule, part: str) -> bool:
    return rule.part in ("all", part) or (part == "end" and rule.part == "delimiters")


def _parts(routing: RoutingConfig) -> list[str]:
    return [part for part in PARTS if part != "description" or routing.student.format == "structured"]


def _columns(routing: RoutingConfig) -> Iterator[tuple[int, int, str, str]]:
    """Left edge, width, label and opening of each part; the invalid turn is drawn apart from the others."""
    x = LEFT
    for part in _parts(routing):
        width, label, opening = PARTS[part]
        x += 3 * GAP if part == "invalid" else 0
        yield x, width, label, opening
        x += width + GAP


def _label(top: int, name: str, note: str) -> list[str]:
    short = note if len(note) <= NOTE else f"{note[: NOTE - 1]}…"
    return [_text(0, top + 18, name, "name"), _text(0, top + 36, short, "small soft")]


def _box(x: float, top: int, width: int, style: str, colour: str = "") -> str:
    look = f'fill="{colour}"' if colour else f'class="{style}"'
    return f'<rect {look} x="{x}" y="{top}" width="{width}" height="{ROW}" rx="5"/>'


def _text(x: float, y: float, text: str, style: str, *, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text x="{x:g}" y="{y:g}" class="{style}"{anchor}>{escape(visible(text))}</text>'
