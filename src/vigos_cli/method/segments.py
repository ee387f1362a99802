r"""Which part of the answer every sampled token belongs to, and whether the format held (sec. 3.2).

    <description> d </description> <think> r </think> \boxed{a}   end of turn
    ·············|~|····························|~~~|··············|~|·|-----------    spans=paper
    ~~~~~~~~~~~~~~~|·····················|~~~~~~~~~~~~~~~~~~~~~~~~~~~~~|-----------    spans=code

Spans are found in the text and carried to the tokens by the offsets at which each was decoded. A token wholly
inside a part has its kind; a token across an edge is DELIMITERS. A token without width (a special token, the
first bytes of a character) counts as standing where the next character does.

Rules of `spans=paper`, which says as much as the paper and fills its gaps
    once      each tag occurs exactly once in the turn, prefill included: repeated or nested tags are invalid
    order     the tags come in the order above, and a box opens after `</think>`
    content   d, r and a are not blank
    box       the answer is the box that opens last, of those after `</think>` whose braces balance;
              `\{` and `\}` are no braces. A wrong answer is valid.
    between   other text before the answer's box (between parts, an earlier box) is DELIMITERS, no error
    end       what follows the box is END; a turn cut by the length limit after its box is valid

Rules of `spans=code`, the authors' program: the first of each tag counts, each looked for after the one
before; the description is everything before `</description>`, and blanks will do; what lies from `<think>` to
the closing brace of the first box is REASONING, but for the content of the box, which is ANSWER, and a token
across an edge of that content is REASONING; r and the box may be empty.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter

from vigos_cli.types import Kind, Rollout, Segments

DESCRIPTION, DESCRIPTION_END, THINK, THINK_END = "<description>", "</description>", "<think>", "</think>"
FORMATS = {"structured": (DESCRIPTION, DESCRIPTION_END, THINK, THINK_END), "plain": (THINK, THINK_END)}
NAMES = {  # of a part in the reason for which a rollout is invalid
    DESCRIPTION: "description",
    DESCRIPTION_END: "description_end",
    THINK: "think",
    THINK_END: "think_end",
}
TAG = re.compile("|".join(NAMES))
BOX = r"\boxed{"
BRACE = re.compile(r"\\boxed\{|\\[{}]|[{}]")

Regions = list[tuple[int, Kind]]  # where each part of the text starts; it lasts until the next


class Invalid(Exception):
    """The format broke; the message is the reason, a short and stable name."""


def boxes(text: str, start: int = 0) -> list[tuple[int, int]]:
    r"""Where the content of each balanced `\boxed{...}` after `start` begins and ends, by its beginning."""
    found: list[tuple[int, int]] = []
    opened: list[tuple[int, bool]] = []  # where the content begins, and whether of a box
    for match in BRACE.finditer(text, start):
        token = match[0]
        if token in ("{", BOX):
            opened.append((match.end(), token == BOX))
        elif token == "}" and opened:
            content, is_box = opened.pop()
            if is_box:
                found.append((content, match.start()))
    return sorted(found)


def last_box(text: str) -> str | None:
    """The content of the box that opens last, of those whose braces balance; None without one (sec. 5)."""
    found = boxes(text)
    return text[slice(*found[-1])] if found else None


def unbox(text: str) -> str:
    """The text with every balanced box replaced by its content."""
    cuts = {i for a, b in boxes(text) for i in (*range(a - len(BOX), a), b)}
    return "".join(char for i, char in enumerate(text) if i not in cuts)


def after_think(text: str) -> int | None:
    """Where what follows `<think>` begins: the first that follows a description, or None."""
    start = text.find(THINK, max(text.find(DESCRIPTION_END), 0))
    return start + len(THINK) if start >= 0 else None


def parse(
    text: str,
    ends: Sequence[int],
    n_prefill: int,
    finished: bool,
    *,
    student: str = "structured",
    spans: str = "paper",
) -> Segments:
    """Parse one turn. `text` and `ends` are those of a Rollout: its prefill first, then what was sampled.

    An invalid turn has INVALID for every sampled token and one of these reasons: empty; no_<part>;
    repeated_<part>; out_of_order; empty_<part>; unbalanced_box; or not_finished, when parts are missing
    because the turn met the length limit. A <part> is description, description_end, think, think_end,
    reasoning, box or answer.
    """
    edges = (0, *ends)[n_prefill:]
    try:
        if len(edges) < 2:
            raise Invalid("empty")
        regions = (_paper if spans == "paper" else _code)(text, FORMATS[student])
    except Invalid as error:
        reason = str(error)
        if not finished and reason.startswith(("no_", "unbalanced_")):
            reason = "not_finished"
        return Segments(kinds=(Kind.INVALID,) * (len(edges) - 1), valid=False, reason=reason)
    return Segments(
        kinds=_kinds(edges, regions),
        valid=True,
        reason="",
        description=_content(text, regions, Kind.DESCRIPTION),
        reasoning=_content(text, regions, Kind.REASONING),
        answer=_content(text, regions, Kind.ANSWER),
    )


def parse_rollout(rollout: Rollout, *, student: str, spans: str = "paper") -> Segments:
    """`parse`, of what was sampled for a prompt."""
    prefill = len(rollout.prompt.prefill)
    return parse(rollout.text, rollout.ends, prefill, rollout.finished, student=student, spans=spans)


def runs(text: str, *, student: str, spans: str = "paper") -> list[tuple[str, Kind]]:
    """A turn cut where its kind changes, for showing it; one piece where the format broke."""
    kinds = parse(text, range(1, len(text) + 1), 0, True, student=student, spans=spans).kinds
    pieces = groupby(zip(text, kinds, strict=True), key=itemgetter(1))
    return [("".join(char for char, _ in piece), kind) for kind, piece in pieces]


def _paper(text: str, tags: tuple[str, ...]) -> Regions:
    """Content only; every delimiter once and in order."""
    found = [match for match in TAG.finditer(text) if match[0] in tags]
    names = [match[0] for match in found]
    for tag in tags:
        if tag not in names:
            raise Invalid(f"no_{NAMES[tag]}")
    for tag in tags:
        if names.count(tag) > 1:
            raise Invalid(f"repeated_{NAMES[tag]}")
    if tuple(names) != tags:
        raise Invalid("out_of_order")
    think, think_end = found[-2:]
    parts = [
        (think.end(), think_end.start(), Kind.REASONING),
        (*_box(text, think_end.end(), -1), Kind.ANSWER),
    ]
    if tags[0] == DESCRIPTION:
        parts.insert(0, (found[0].end(), found[1].start(), Kind.DESCRIPTION))
    for start, end, kind in parts:
        if not text[start:end].strip():
            raise Invalid(f"empty_{kind}")
    regions: Regions = [(0, Kind.DELIMITERS)]
    for start, end, kind in parts:
        regions += [(start, kind), (end, Kind.DELIMITERS)]
    return [*regions, (parts[-1][1] + 1, Kind.END)]


def _code(text: str, tags: tuple[str, ...]) -> Regions:
    """The wider spans of the authors' program; the opening `<description>` is not asked for."""
    regions: Regions = [(0, Kind.DELIMITERS)]
    at = 0
    for tag in tags:
        start = text.find(tag, at)
        if tag == DESCRIPTION:
            continue
        if start < 0:
            raise Invalid(f"no_{NAMES[tag]}")
        if tag == DESCRIPTION_END:
            if not text[:start].removeprefix(DESCRIPTION):
                raise Invalid("empty_description")
            regions = [(0, Kind.DESCRIPTION), (start, Kind.DELIMITERS)]
        at = start + len(tag)
        if tag == THINK:
            regions.append((at, Kind.REASONING))
    start, end = _box(text, at, 0)
    return [*regions, (start, Kind.ANSWER), (end, Kind.REASONING), (end + 1, Kind.END)]


def _box(text: str, start: int, which: int) -> tuple[int, int]:
    """The content of the first (0) or last (-1) balanced box after `start`."""
    if BOX not in text[start:]:
        raise Invalid("no_box")
    if not (found := boxes(text, start)):
        raise Invalid("unbalanced_box")
    return found[which]


def _kinds(edges: Sequence[int], regions: Regions) -> tuple[Kind, ...]:
    """The kind of each token from its edges."""
    starts = [start for start, _ in regions]
    kinds = []
    for begin, end in pairwise(edges):
        first = bisect_right(starts, begin) - 1
        last = bisect_right(starts, max(begin, end - 1)) - 1
        inside = {regions[i][1] for i in range(first, last + 1)}
        if len(inside) == 1:
            kinds.append(regions[first][1])
        elif inside == {Kind.REASONING, Kind.ANSWER}:  # these touch in `spans=code` only
            kinds.append(Kind.REASONING)
        else:
            kinds.append(Kind.DELIMITERS)
    return tuple(kinds)


def _content(text: str, regions: Regions, kind: Kind) -> str:
    """The text of one part."""
    at = next((i for i, (_, k) in enumerate(regions) if k is kind), None)
    return "" if at is None else text[regions[at][0] : regions[at + 1][0]]


def description_tokens(rollout: Rollout) -> tuple[int, ...]:
    """The sampled tokens up to and with `</description>`; all but the end of turn where it never comes."""
    end = rollout.text.find(DESCRIPTION_END)
    if end < 0:
        return rollout.ids[:-1] if rollout.finished else rollout.ids
    ends = rollout.ends[len(rollout.prompt.prefill) :]
    count = next(i for i, length in enumerate(ends) if length >= end + len(DESCRIPTION_END)) + 1
    return rollout.ids[:count]
