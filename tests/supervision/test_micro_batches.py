"""A micro-batch holds as many rows as fit into its tokens, the longest rows first; no row is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_rollouts import BROKEN, RIGHT, written

from vigos_cli.supervision.micro_batches import grouped_by_length, micro_batches

LENGTHS = st.lists(st.integers(1, 300), max_size=40)


def padded(lengths: list[int], group: list[int]) -> int:
    """The tokens of a group whose rows are all padded to its longest."""
    return len(group) * max(lengths[place] for place in group)


@given(LENGTHS, st.integers(1, 1000), st.integers(1, 8))
def test_groups_are_as_large_as_the_tokens_allow(lengths: list[int], tokens: int, size: int):
    groups = grouped_by_length(lengths, size, tokens)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    order = [lengths[place] for group in groups for place in group]
    assert order == sorted(order, reverse=True)
    for group in groups:
        assert len(group) == 1 or padded(lengths, group) <= tokens
    for group, following in pairwise(groups):
        assert padded(lengths, [*group, following[0]]) > tokens, "another row would have fitted"


@given(LENGTHS, st.integers(1, 8))
def test_without_tokens_groups_have_so_many_rows(lengths: list[int], size: int):
    groups = grouped_by_length(lengths, size)
    assert [place for group in groups for place in group] == sorted(
        range(len(lengths)), key=lambda place: -lengths[place]
    )
    assert all(len(group) == size for group in groups[:-1])
    assert not groups or 0 < len(groups[-1]) <= size


def test_a_row_counts_with_its_longest_context(tiny):
    """A teacher that is told the reference reads more than the student, and both must fit."""
    row = written(tiny, "opsd", [RIGHT, BROKEN])[0].row
    own, longest = len(row.contexts["student"].ids), row.length
    assert own < longest == len(row.contexts["privileged"].ids)
    assert [len(group) for group in micro_batches([row, row], 1, 2 * own)] == [1, 1]
    assert [len(group) for group in micro_batches([row, row], 1, 2 * longest)] == [2]


@pytest.mark.slow
def test_a_row_without_a_term_is_in_no_micro_batch(tiny):
    rows = [one.row for one in written(tiny, "sdpo", [RIGHT, RIGHT.replace("yellow", "orange"), BROKEN])]
    taught = [row for row in rows if row.terms]
    assert 0 < len(taught) < len(rows)
    assert [row for group in micro_batches(rows, 1, 10_000) for row in group] == sorted(
        taught, key=lambda row: -row.length
    )
