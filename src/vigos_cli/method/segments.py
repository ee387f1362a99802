r"""Find the part of the answer that each sampled token belongs to, and check the format.

    <description> d </description> <think> r </think> \boxed{a}   end of turn
    ·············|~|····························|~~~|··············|~|·|-----------    spans=paper
    ~~~~~~~~~~~~~~~|·····················|~~~~~~~~~~~~~~~~~~~~~~~~~~~~~|-----------    spans=code

Spans (sec. 3.2) are found in the text, and the character offsets at which the tokens were decoded map them to
tokens. A token completely inside a part has its kind; a token across an edge is DELIMITERS. A token without
width (a special token, the first bytes of a character) has the position of the next character.

The rules of `spans=paper` are the paper's, with additions where the paper says nothing:
    once      each tag occurs exactly once in the turn, pre-fill included: repeated or nested tags are invalid
    order     the tags come in the order above, and a box opens after `</think>`
    content   d, r and a are not blank
    box       of the boxes after `</think>` whose braces balance, the one that opens last is the answer; `\{`
              and `\}` do not count as braces. A wrong answer is valid.
    between   other text before the answer's box (between parts, an earlier box) is DELIMITERS and no error
    end       what follows the box is END; a turn cut by the length limit after its box is valid

Rules of `spans=code`, those of the authors' program: the first occurrence of each tag after the previous tag
counts.
    description  everything before `</description>`; it may be blank. It is empty, and the turn is invalid, if
                 no whole token of it holds text after the pre-fill: the blank in ` </` does not count
    reasoning    everything from `<think>` to the closing brace of the box; r may be empty. The token with
                 that brace is REASONING even if it holds more (`}.`). The content of the box may be empty and
                 is ANSWER; a token across its edge (`}}`) is REASONING: both kinds have the same teacher
    box          the first one after `</think>`; a backslash before a brace makes no difference
    end          what follows the token with the closing brace

Two things differ from the authors' program on purpose. It looks for the tokens of a tag, and prefers their
exact sequence to an earlier tag that is fused with its neighbours. And it tokenises the text again, so its
spans shift if the student sampled other tokens. Here the first tag in the text counts, at the offsets of the
sampled tokens, because a shifted span gives tokens to the wrong teacher.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from operator import itemgetter

from vigos_cli.types import Kind, Rollout, Segments

DESCRIPTION, DESCRIPTION_END, THINK, THINK_END = "<description>", "</description>", "<think>", "</think>"
FORMATS = {"structured": (DESCRIPTION, DESCRIPTION_END, THINK, THINK_END), "think": (THINK, THINK_END)}
NAMES = {  # of the tags, in the reason why a rollout is invalid
    DESCRIPTION: "description",
    DESCRIPTION_END: "description_end",
    THINK: "think",
    THINK_END: "think_end",
}
TAG = re.compile("|".join(NAMES))
PLAIN_OR_SIGN = re.compile(r"[^<>{}\\]+|[<>{}\\]")  # every region begins and ends at such a sign
BOX = r"\boxed{"
BRACE = re.compile(r"\\boxed\{|\\[{}]|[{}]")
PLAIN_BRACE = re.compile(r"[{}]")

Regions = list[tuple[int, Kind]]  # where each part of the text starts; it ends where the next one starts


class Invalid(Exception):
    """The format is broken; the message is the reason, a short name that does not change."""


def boxes(text: str, start: int = 0) -> list[tuple[int, int]]:
    r"""Start and end of the content of each balanced `\boxed{...}` after `start`, in order of the starts."""
    found: list[tuple[int, int]] = []
    opened: list[tuple[int, bool]] = []  # where the content starts, and whether it is a box
    for match in BRACE.finditer(text, start):
        token = match[0]
        if token in ("{", BOX):
            opened.append((match.end(), token == BOX))
        elif token == "}" and opened:
            content, is_box = opened.pop()
            if is_box:
                found.append((content, match.start()))
    return sorted(found)


def first_box(text: str, start: int = 0) -> tuple[int, int] | None:
    r"""Start and end of the content of the first box after `start`, for `spans=code`; None if it stays open.

    Every brace counts: `\boxed{a\}` is closed, and `\boxed{\boxed{a}` is not.
    """
    box = text.find(BOX, start)
    content, depth = box + len(BOX), 1
    for brace in PLAIN_BRACE.finditer(text, content) if box >= 0 else ():
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return content, brace.start()
    return None


def last_box(text: str) -> str | None:
    """The content of the balanced box that opens last; None without one."""
    found = boxes(text)
    return text[slice(*found[-1])] if found else None


def unbox(text: str) -> str:
    """The text with every balanced box replaced by its content."""
    cuts = {i for a, b in boxes(text) for i in (*range(a - len(BOX), a), b)}
    return "".join(char for i, char in enumerate(text) if i not in cuts)


def after_think(text: str) -> int | None:
    """The position after the first `<think>` that follows the description, if any; None without `<think>`."""
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
    """Parse one turn; `text` and `ends` are those of a Rollout, with the pre-fill first.

    In an invalid turn every sampled token is INVALID, and the reason is one of: empty; no_<part>;
    repeated_<part>; out_of_order; empty_<part>; unbalanced_box; not_finished (parts are missing because the
    turn met the length limit). A <part> is description, description_end, think, think_end,
    reasoning, box or answer.
    """
    edges = (0, *ends)[n_prefill:]
    try:
        if len(edges) < 2:
            raise Invalid("empty")
        tags = FORMATS[student]
        regions = _paper(text, tags) if spans == "paper" else _code(text, ends, tags)
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
    """Parse a rollout with `parse`."""
    prefill = len(rollout.prompt.prefill)
    return parse(rollout.text, rollout.ends, prefill, rollout.finished, student=student, spans=spans)


def runs(text: str, *, student: str, spans: str = "paper") -> list[tuple[str, Kind]]:
    """Split a turn into pieces of one kind, for display; one piece if the format is broken.

    It knows no tokens. So a turn that `spans=code` refuses because of them is shown with its parts.
    """
    parts = PLAIN_OR_SIGN.findall(text)
    kinds = parse(text, list(accumulate(map(len, parts))), 0, True, student=student, spans=spans).kinds
    pieces = groupby(zip(parts, kinds, strict=True), key=itemgetter(1))
    return [("".join(part for part, _ in piece), kind) for kind, piece in pieces]


def _paper(text: str, tags: tuple[str, ...]) -> Regions:
    """Regions of `spans=paper`: content only; every delimiter exactly once and in order."""
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
    box = (boxes(text, think_end.end()) or [None])[-1]
    parts = [
        (think.end(), think_end.start(), Kind.REASONING),
        (*_box(text, think_end.end(), box), Kind.ANSWER),
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


def _code(text: str, ends: Sequence[int], tags: tuple[str, ...]) -> Regions:
    """Regions of `spans=code`, the authors' program; the opening `<description>` is not required."""
    regions: Regions = [(0, Kind.DELIMITERS)]
    at = 0
    for tag in tags:
        start = text.find(tag, at)
        if tag == DESCRIPTION:
            continue
        if start < 0:
            raise Invalid(f"no_{NAMES[tag]}")
        if tag == DESCRIPTION_END:
            given = len(DESCRIPTION) if text.startswith(DESCRIPTION) else 0
            if not any(given <= last < start for _, last in _characters((0, *ends))):
                raise Invalid("empty_description")
            regions = [(0, Kind.DESCRIPTION), (start, Kind.DELIMITERS)]
        at = start + len(tag)
        if tag == THINK:
            regions.append((at, Kind.REASONING))
    start, end = _box(text, at, first_box(text, at))
    return [*regions, (start, Kind.ANSWER), (end, Kind.REASONING), (end + 1, Kind.END)]


def _box(text: str, start: int, found: tuple[int, int] | None) -> tuple[int, int]:
    """The box that was found after `start`; Invalid without one."""
    if found is None:
        raise Invalid("unbalanced_box" if BOX in text[start:] else "no_box")
    return found


def _characters(edges: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last character of each token; without width, that of the next character twice."""
    return ((begin, max(begin, end - 1)) for begin, end in pairwise(edges))


def _kinds(edges: Sequence[int], regions: Regions) -> tuple[Kind, ...]:
    """The kind of each token, from the offsets of its edges."""
    starts = [start for start, _ in regions]
    kinds = []
    for begin, end in _characters(edges):
        first, last = bisect_right(starts, begin) - 1, bisect_right(starts, end) - 1
        inside = {regions[i][1] for i in range(first, last + 1)}
        if len(inside) == 1:
            kinds.append(regions[first][1])
        elif inside <= {Kind.REASONING, Kind.ANSWER, Kind.END}:  # they are adjacent in `spans=code` only
            kinds.append(Kind.REASONING)
        else:
            kinds.append(Kind.DELIMITERS)
    return tuple(kinds)


def _content(text: str, regions: Regions, kind: Kind) -> str:
    """The text of the first region of a kind; empty without one."""
    at = next((i for i, (_, k) in enumerate(regions) if k is kind), None)
    return "" if at is None else text[regions[at][0] : regions[at + 1][0]]


def description_tokens(rollout: Rollout) -> tuple[int, ...]:
    """The sampled tokens up to and including `</description>`; without the tag, all but the end of turn."""
    end = rollout.text.find(DESCRIPTION_END)
    if end < 0:
        return rollout.ids[:-1] if rollout.finished else rollout.ids
    ends = rollout.ends[len(rollout.prompt.prefill) :]
    count = next(i for i, length in enumerate(ends) if length >= end + len(DESCRIPTION_END)) + 1
    return rollout.ids[:count]
