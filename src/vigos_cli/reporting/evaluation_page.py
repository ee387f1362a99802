"""Write the HTML page of an evaluation: figures, a chart for each grouping, and the answers to each item.

    size = write_evaluation_page(out / "report.html", page)

`vigos eval` writes it as `report.html`. Texts are as untrusted as on the page of rollouts, and the same
measures keep them harmless: see vigos_cli.reporting.rollouts_page. The names of groups are escaped by Jinja.
All responses and questions together have at most TEXTS characters of JSON; if they are longer, the middle of
each long one is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.reporting.html import page_environment
from vigos_cli.reporting.measures import DRAW_FIGURES, LABELS, format_figure, format_measure
from vigos_cli.reporting.rollouts_page import TEXT_LIMIT, Text, clip
from vigos_cli.types import Kind
from vigos_cli.utils.control_characters import visible
from vigos_cli.utils.files import drafted

if TYPE_CHECKING:
    from jinja2 import Template

TEXTS = 8_000_000  # characters of JSON for the responses and questions of a page
FIELD_LIMIT = 500  # characters of any other text
BARS = 40  # groups in one chart


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """One answer to an item. `pieces`: its text, cut into parts with the kind of each; None: no response."""

    verdict: str
    extracted: str
    reason: str
    pieces: Sequence[tuple[str, Kind]] | None
    tokens: int | None
    cut_off: bool
    score: float | None  # a judge's


@dataclass(frozen=True, slots=True)
class ShownItem:
    """One item. `groups`: its groups in each grouping. `pictures`: indexes; None if they are not embedded."""

    id: str
    question: str
    reference: str
    groups: Sequence[Sequence[str]]
    pictures: Sequence[int] | None
    answers: Sequence[ShownAnswer]


@dataclass(frozen=True, slots=True)
class Bar:
    """A group in a chart: for each kind of answers its accuracy or None, and the accuracy of a guess."""

    name: str
    figures: Sequence[Mapping[str, Any] | None]
    chance: float | None


@dataclass(frozen=True, slots=True)
class EvaluationPage:
    """The content of the page. `scores`: the figures of each kind of answers, as in scores.json."""

    title: str
    facts: Mapping[str, str]
    scores: Mapping[str, Mapping[str, Any]]
    charts: Mapping[str, Sequence[Bar]]  # by grouping; an item's `groups` are in the same order
    items: Sequence[ShownItem]
    pictures: Sequence[str]  # data URIs


def write_evaluation_page(path: Path, page: EvaluationPage) -> int:
    """Write the page, completely or not at all, and return its size in bytes."""
    content = evaluation_html(page).encode("utf-8")
    with drafted(path) as draft:
        draft.write_bytes(content)
    return len(content)


def evaluation_html(page: EvaluationPage) -> str:
    """The page as text."""
    kinds = [kind.value for kind in Kind]
    names = [[bar.name for bar in bars] for bars in page.charts.values()]
    places = [{name: i for i, name in enumerate(own)} for own in names]
    limit = text_limit(
        [item.question for item in page.items]
        + ["".join(text for text, _ in a.pieces or ()) for item in page.items for a in item.answers]
    )
    island = {
        "title": clip(page.title, FIELD_LIMIT),
        "facts": [[name, clip(value, FIELD_LIMIT)] for name, value in page.facts.items()],
        "kinds": kinds,
        "first": next(iter(page.scores)),  # the kind of the first answer to each item
        "groupings": [
            {"name": name, "groups": [clip(group, FIELD_LIMIT) for group in own]}
            for name, own in zip(page.charts, names, strict=True)
        ],
        "items": [
            {
                "id": clip(item.id, FIELD_LIMIT),
                "question": clip(item.question, limit),
                "reference": clip(item.reference, FIELD_LIMIT),
                "groups": [
                    [place[name] for name in own] for place, own in zip(places, item.groups, strict=True)
                ],
                "images": item.pictures,
                "answers": [
                    [
                        answer.verdict,
                        clip(answer.extracted, FIELD_LIMIT),
                        clip(answer.reason, FIELD_LIMIT),
                        answer.tokens,
                        int(answer.cut_off),
                        answer.score,
                        None
                        if answer.pieces is None
                        else [[text, kinds.index(kind)] for text, kind in clip_pieces(answer.pieces, limit)],
                    ]
                    for answer in item.answers
                ],
            }
            for item in page.items
        ],
        "images": page.pictures,
    }
    charts = {
        name: sorted(
            sorted(bars, key=lambda bar: -max((f["n"] for f in bar.figures if f), default=0))[:BARS],
            key=lambda bar: bar.name,
        )
        for name, bars in page.charts.items()
        if any(any(bar.figures) for bar in bars)
    }
    return _template().render(
        island=island,
        rows=figure_rows(page.scores),
        answers=list(page.scores),
        charts=charts,
        left_out={name: len(page.charts[name]) - len(bars) for name, bars in charts.items()},
        several=any(len(item.answers) > 1 for item in page.items),
    )


def figure_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """The rows of the table of figures: a name, and a text for each kind of answers ("-": not known)."""
    parts = list(scores.values())
    rows = []
    if world := all("interval" in part for part in parts):  # PriorWorld
        rows = [(name, [format_measure(part, name) for part in parts]) for name in LABELS]
    keys = dict.fromkeys(key for part in parts for key, found in part.items() if _is_figure(found))
    ordered = dict.fromkeys([*(key for key in ("accuracy", "score") if key in keys), *DRAW_FIGURES, *keys])
    for key in ordered:
        cells = [_cell(part.get(key)) for part in parts]
        if not (world and key in LABELS) and cells != ["-"] * len(cells):
            rows.append((DRAW_FIGURES.get(key, key), cells))
    for key in ("score", "agreement"):
        judged = [_cell(part.get("judge", {}).get(key)) for part in parts]
        if judged != ["-"] * len(judged):
            rows.append((f"judge's {key}" if key == "score" else "judge agrees with the rules", judged))
    for key in ("unparsed", "chance"):
        values = [part.get(key) for part in parts]
        if any(value is not None for value in values):
            rows.append((key, ["-" if value is None else f"{value:.3f}" for value in values]))
    for k in dict.fromkeys(k for part in parts for k in part.get("pass", {})):
        rows.append(
            (f"pass {k}" if "@" in k else f"pass@{k}", [_cell(part.get("pass", {}).get(k)) for part in parts])
        )
    return rows


def _is_figure(found: Any) -> bool:
    return isinstance(found, Mapping) and {"mean", "low", "n"} <= found.keys()


def _cell(found: Mapping[str, Any] | None) -> str:
    return " ".join(format_figure(found if found and "mean" in found else None)).strip()


def text_limit(texts: Sequence[str]) -> int:
    """The largest limit for each text, at most TEXT_LIMIT characters, with which all fit into TEXTS.

    A character that JSON writes as six counts as six.
    """
    sizes = sorted(min(len(json.dumps(text)), 6 * TEXT_LIMIT) for text in texts)
    left = TEXTS
    for place, size in enumerate(sizes):
        share = left // (len(sizes) - place)
        if size > share:
            return max(100, min(TEXT_LIMIT, share))
        left -= size
    return TEXT_LIMIT


def clip_pieces(pieces: Sequence[tuple[str, Kind]], limit: int) -> list[tuple[Text, Kind]]:
    """The pieces of a text; if it is longer than `limit`, its middle is left out as in `clip`."""
    total, half = sum(len(text) for text, _ in pieces), limit // 2
    if total <= limit:
        return list(pieces)
    shown: list[tuple[Text, Kind]] = []
    start = 0
    for text, kind in pieces:
        head = text[: max(0, half - start)]
        tail = text[max(len(head), total - half - start) :]
        first_cut = start <= half < start + len(text)
        if first_cut:
            shown.append(([head, total - 2 * half, tail], kind))
        elif head or tail:
            shown.append((head or tail, kind))
        start += len(text)
    return shown


@cache
def _template() -> Template:
    environment = page_environment()
    environment.filters["visible"] = visible
    return environment.get_template("evaluation.html.j2")
