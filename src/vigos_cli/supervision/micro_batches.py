"""Split the rows of a step into micro-batches: by a number of rows, or by a number of tokens with padding.

    micro_batches(rows, size=4)                  # four rows each
    micro_batches(rows, size=4, tokens=8192)     # as many rows as fit into 8,192 tokens; `size` is not read

With `tokens`, no pass over a micro-batch of several rows reads more than this number of tokens, padding
included. A row counts with its longest context: a teacher's may be longer than the student's, and every
context needs memory while it is read. A row that is longer than `tokens` is a micro-batch of its own.

The rows are sorted by length, so that rows of similar length share the padding, and the longest come first,
so that a lack of memory shows in the first micro-batch of a step. The split does not change the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

from vigos_cli.supervision.contexts import Supervised


def micro_batches(rows: Sequence[Supervised], size: int, tokens: int | None = None) -> list[list[Supervised]]:
    """The rows that have a term, in micro-batches, the longest rows first."""
    taught = [row for row in rows if row.terms]
    places = grouped_by_length([row.length for row in taught], size, tokens)
    return [[taught[place] for place in group] for group in places]


def grouped_by_length(lengths: Sequence[int], size: int, tokens: int | None = None) -> list[list[int]]:
    """The places of these lengths in groups, the longest first; equal lengths keep their order."""
    groups: list[list[int]] = []
    room = 0  # rows that the last group can still take
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not room:
            groups.append([])
            room = size if tokens is None else rows_within(tokens, lengths[place])
        groups[-1].append(place)
        room -= 1
    return groups


def rows_within(tokens: int, length: int) -> int:
    """How many rows of this length fit into a number of tokens; at least one."""
    return max(1, tokens // length)
