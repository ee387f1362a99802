"""Intervals have the right limits and cover the true value with the right frequency."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from vigos_cli.utils import stats
from vigos_cli.utils.stats import IntervalEstimate, crossed_interval, mean_interval, wilson


def bounds(estimate: IntervalEstimate | None) -> tuple[float, float]:
    assert estimate is not None
    return estimate.low, estimate.high


def reference(k: int, n: int) -> tuple[float, float]:
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return interval.low, interval.high


@pytest.mark.parametrize("n", [1, 2, 3, 10, 60, 1000])
def test_wilson_equals_scipys_interval(n):
    for k in {0, 1, n // 3, n // 2, n - 1, n}:
        assert wilson(k / n, n) == pytest.approx(reference(k, n), abs=1e-12)


def test_single_answers_have_wilsons_interval():
    values = [1.0, 0.0, 1.0, 1.0, 0.0]
    estimate = mean_interval(values, "abcde")
    assert estimate and (estimate.mean, estimate.n) == (0.6, 5)
    assert bounds(estimate) == pytest.approx(reference(3, 5))
    assert bounds(mean_interval([True, False], [1, 2])) == pytest.approx(reference(1, 2))


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("clusters", [1, 2, 30])
def test_if_all_values_agree_the_interval_is_wilsons_of_the_clusters(value, clusters):
    names = [name for name in range(clusters) for _ in range(2)]
    estimate = mean_interval([value] * len(names), names)
    assert estimate and (estimate.mean, estimate.n) == (value, 2 * clusters)
    assert bounds(estimate) == pytest.approx(reference(int(value) * clusters, clusters))
    cells = [{name: [value, value] for name in range(clusters)} for _ in range(4)]
    estimate = crossed_interval(cells)
    assert estimate and (estimate.mean, estimate.n) == (value, 8 * clusters)
    assert bounds(estimate) == pytest.approx(reference(int(value) * clusters, clusters))


def test_clusters_with_equal_means_still_have_an_interval():
    assert bounds(mean_interval([1, 0, 0, 1], "aabb")) == pytest.approx(reference(1, 2))
    assert bounds(crossed_interval([{"a": [1, 0], "b": [0, 1]}])) == pytest.approx(reference(1, 2))


def test_one_cluster_gives_a_wide_interval():
    low, high = bounds(mean_interval([1, 0, 1, 0, 1], ["same"] * 5))
    assert low < 0.2 and high > 0.85
    low, high = bounds(crossed_interval([{"same": [1, 1]}, {"same": [0, 0]}]))
    assert low < 0.2 and high > 0.8


def test_without_values_there_is_no_interval():
    assert mean_interval([], []) is None
    assert crossed_interval([]) is None
    assert crossed_interval([{}, {"a": []}]) is None


def test_cells_can_lack_some_clusters():
    full = {name: [1.0] for name in "abcd"}
    short = {"a": [1.0]}
    for cells in ([full, full, short], [full, short], [short, short, full, {}]):
        estimate = crossed_interval(cells)
        assert estimate and estimate.mean == 1 and estimate.n == sum(map(len, cells))
        assert bounds(estimate) == pytest.approx(reference(4, 4))
    ragged = [{"a": [1.0], "b": [0.0]}, {"a": [0.0]}, {"b": [1.0]}]
    low, high = bounds(crossed_interval(ragged))
    assert 0 <= low < 0.5 < high <= 1


values = st.lists(st.lists(st.sampled_from((0.0, 1.0)), min_size=1, max_size=4), min_size=1, max_size=8)


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 200)


@given(values)
@settings(max_examples=40, deadline=None)
def test_an_interval_lies_in_0_to_1_and_contains_its_mean(clusters):
    flat = [value for cluster in clusters for value in cluster]
    names = [i for i, cluster in enumerate(clusters) for _ in cluster]
    estimate = mean_interval(flat, names)
    assert estimate is not None
    assert estimate.mean == pytest.approx(np.mean(flat)) and estimate.n == len(flat)
    assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
    assert mean_interval(flat, names) == estimate  # resampling is reproducible
    shift = mean_interval([1 - v for v in flat], names)
    assert shift and shift.low == pytest.approx(1 - estimate.high, abs=0.08)


def test_an_interval_of_runs_contains_its_mean_and_is_reproducible(few_resamples):
    rng = np.random.default_rng(0)
    for seeds in (1, 2, 3, 5):
        cells = [{c: list(rng.integers(0, 2, 2)) for c in range(6)} for _ in range(seeds)]
        estimate = crossed_interval(cells)
        assert estimate and 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
        assert crossed_interval(cells) == estimate
        assert estimate.n == seeds * 12


def test_values_of_a_cluster_are_resampled_together():
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 2, 40).repeat(5).astype(float)
    apart = mean_interval(list(answers), range(200))
    together = mean_interval(list(answers), [i // 5 for i in range(200)])
    assert apart and together
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert 5**0.5 * 0.85 < ratio < 5**0.5 * 1.15


# ---------------------------------------------------------------- coverage of the true value


def covered(estimates: list[IntervalEstimate | None], truth: float) -> float:
    inside = Counter(bool(e and e.low <= truth <= e.high) for e in estimates)
    return inside[True] / len(estimates)


def test_the_bootstrap_over_clusters_covers_the_truth(few_resamples):
    rng = np.random.default_rng(1)
    estimates = []
    for _ in range(300):  # both pictures of a question have the same difficulty
        difficulty = rng.beta(1.2, 0.8, 40)
        answers = (rng.random((40, 2)) < difficulty[:, None]).astype(float)
        estimates.append(mean_interval(list(answers.ravel()), [i // 2 for i in range(80)]))
    assert 0.90 < covered(estimates, 0.6) <= 0.99


def runs(rng: np.random.Generator, seeds: int, clusters: int, between: float) -> list[dict]:
    """Runs with different skill and questions with different difficulty; the mean is one half."""
    skill = rng.normal(0, between, (seeds, 1, 1))
    difficulty = rng.normal(0, 0.15, (1, clusters, 1))
    answers = rng.random((seeds, clusters, 2)) < np.clip(0.5 + skill + difficulty, 0, 1)
    return [{c: list(row.astype(float)) for c, row in enumerate(run)} for run in answers]


def test_the_bootstrap_over_seeds_and_clusters_covers_the_truth(few_resamples):
    rng = np.random.default_rng(2)
    estimates = [crossed_interval(runs(rng, 6, 20, 0.1)) for _ in range(150)]
    assert 0.86 < covered(estimates, 0.5) <= 1
    items_only = [crossed_interval(runs(rng, 2, 20, 0.1)) for _ in range(150)]
    assert covered(items_only, 0.5) < 0.9  # two seeds are too few for their spread


def test_an_interval_over_seeds_is_wider_than_one_over_items():
    rng = np.random.default_rng(3)
    one = runs(rng, 1, 30, 0.0)[0]
    apart = [{c: [0.0] * 2 for c in one}, {c: [1.0] * 2 for c in one}, one]
    alike = [one, one, one]
    wide, narrow = crossed_interval(apart), crossed_interval(alike)
    assert wide and narrow and wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_bases_are_resampled_above_their_runs():
    """Three bases that differ, each with three equal runs: nine runs of one base would look far surer."""
    shares = (0.2, 0.5, 0.8)
    cells = [{c: [share] for c in range(40)} for share in shares for _ in range(3)]
    low, high = bounds(crossed_interval(cells, bases=[b for b in "abc" for _ in range(3)]))
    assert (low, high) == pytest.approx((0.2, 0.8))  # 1 of 27 resamples of three bases has one base only
    one = crossed_interval(cells)
    assert one and one.high - one.low < 0.4


def test_fewer_than_three_bases_are_not_resampled_but_their_runs_are():
    cells = [{c: [share] for c in range(40)} for share in (0.0, 0.1, 0.2, 0.8, 0.9, 1.0)]
    found = crossed_interval(cells, bases="aaabbb")
    assert found and found.mean == pytest.approx(0.5)
    assert found.low == pytest.approx(0.4, abs=0.04) and found.high == pytest.approx(0.6, abs=0.04)
    same = crossed_interval(cells[:3], bases="aaa")
    assert same == crossed_interval(cells[:3])


def test_a_base_with_other_numbers_of_runs_counts_by_its_runs():
    cells = [{"q": [1.0]}, {"q": [1.0]}, {"q": [0.0]}]
    found = crossed_interval(cells, bases="aab")
    assert found and found.mean == pytest.approx(2 / 3)
