"""Weights and selections of tokens, by hand."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from vigos_cli.method import token_choice
from vigos_cli.method.token_choice import above_quantile, kl_weight, lowest_share, margin_weight


def test_margin_weight_is_the_positive_part_of_the_difference():
    # log .6 - log .2 = log 3; equal; less likely; certain against hardly
    plus = torch.tensor([0.6, 0.5, 0.1, 1.0]).log()
    minus = torch.tensor([0.2, 0.5, 0.9, 0.001]).log()
    assert margin_weight(plus, minus).tolist() == pytest.approx([1.098612, 0, 0, 6.907755], abs=1e-5)


def test_kl_weight_rises_from_0_to_1():
    kl_N = torch.tensor([0.0, 1e-6, 0.25, 1.0, 3.0, 1e6, -1e-7])
    expected = [0, 1e-6, 0.2, 0.5, 0.75, 1, 0]
    assert kl_weight(kl_N).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("share", "chosen"),
    [
        (0.2, [3]),  # floor(0.2 * 6) = 1
        (0.5, [0, 3, 5]),
        (0.34, [3, 5]),  # floor(2.04)
        (0.01, [3]),  # floor is 0, but one token stays
        (1.0, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_lowest_share(share: float, chosen: list[int]):
    logp_N = torch.tensor([-1.0, -0.5, -0.1, -4.0, -0.2, -2.0])
    assert lowest_share(logp_N, share).nonzero()[:, 0].tolist() == chosen


def test_lowest_share_takes_the_first_of_equal_tokens_and_rounds_products_well():
    assert lowest_share(torch.zeros(5), 0.4).tolist() == [True, True, False, False, False]
    for n in range(1, 301):  # 0.29 * 100 is 28.999999999999996 in binary numbers
        for percent in (7, 20, 29, 55, 58):
            expected = max(1, percent * n // 100)
            assert lowest_share(torch.arange(n).float(), percent / 100).sum() == expected
    assert lowest_share(torch.zeros(0), 0.2).tolist() == []


@pytest.mark.parametrize(
    ("quantile", "chosen"),
    [
        (0.7, [1, 3]),  # of 1..5 the 70 % quantile lies at place 2.8: 3.8
        (0.5, [1, 3]),  # the median 3 itself does not exceed it
        (0.0, [0, 1, 3, 4]),  # all but the smallest
        (1.0, []),
    ],
)
def test_above_quantile(quantile: float, chosen: list[int]):
    values_N = torch.tensor([3.0, 4.0, 1.0, 5.0, 2.0])
    assert above_quantile(values_N, quantile).nonzero()[:, 0].tolist() == chosen


def test_above_quantile_of_equal_infinite_and_no_values():
    assert not above_quantile(torch.full((4,), 0.3), 0.7).any()
    assert above_quantile(torch.tensor([1.0, 2.0, math.inf, math.inf]), 0.5).tolist() == [False] * 4
    assert above_quantile(torch.tensor([1.0, 2.0, 3.0, math.inf]), 0.5).tolist() == [False, False, True, True]
    low = torch.tensor(
        [-math.inf, -math.inf, -math.inf, 1.0]
    )  # the quantile lies between two equal infinities
    assert above_quantile(low, 0.3).tolist() == [False, False, False, True]
    assert above_quantile(torch.zeros(0), 0.7).tolist() == []


@pytest.mark.parametrize(
    ("choose", "wrong"), [(lowest_share, 0.0), (lowest_share, 1.1), (above_quantile, -0.1)]
)
def test_a_share_out_of_range_is_our_own_mistake(choose, wrong: float):
    with pytest.raises(AssertionError):
        choose(torch.zeros(3), wrong)


def test_example_of_the_module():
    result = doctest.testmod(token_choice)
    assert result.failed == 0 and result.attempted > 0
