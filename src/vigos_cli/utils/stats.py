"""Means, differences and other statistics with their 95 % intervals.

>>> mean_interval([1, 0, 1, 1], clusters=["a", "a", "b", "b"])
IntervalEstimate(mean=0.75, low=..., high=..., n=4)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

RESAMPLES = 2000
FEWEST = 3  # bases, or runs of one base, that are resampled
Z = 1.959963984540054  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True, slots=True)
class IntervalEstimate:
    """A mean, its 95 % interval, and the number of values."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(share: float, n: float, z: float = Z) -> tuple[float, float]:
    """Wilson's interval for a share of `n` yes-or-no values: 95 %, or that of another normal quantile `z`."""
    assert 0 <= share <= 1
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def no_spread(shares: np.ndarray) -> bool:
    """Whether all shares are equal, so that a bootstrap would give an interval of width zero."""
    return bool(np.ptp(shares) < 1e-12)


def mean_interval(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int = 0
) -> IntervalEstimate | None:
    """The mean of values in [0, 1] with independent clusters; None if there are no values.

    If each cluster has one yes-or-no value: Wilson's interval. Otherwise: a bootstrap over clusters. If all
    clusters have the same mean, the bootstrap has no spread; then Wilson's interval is used, with the number
    of clusters as the number of values.
    """
    if not values:
        return None
    names = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    member = np.array([names[cluster] for cluster in clusters])
    totals = np.bincount(member, weights=np.asarray(values, float))
    sizes = np.bincount(member)
    mean = float(np.mean(values))
    single = len(names) == len(values) and set(values) <= {0, 1}
    if single or no_spread(totals / sizes):
        return IntervalEstimate(mean, *wilson(mean, len(names)), len(values))
    picks = np.random.default_rng(seed).integers(0, len(names), (RESAMPLES, len(names)))
    means = totals[picks].sum(1) / sizes[picks].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return IntervalEstimate(mean, float(low), float(high), len(values))


def crossed_interval(
    cells: Sequence[Mapping[Any, list[float]]], seed: int = 0, bases: Sequence[Hashable] = ()
) -> IntervalEstimate | None:
    """The mean over runs with different seeds; each run maps a cluster to its values in [0, 1].

    `bases` names the model that each run started from; without it all started from the same. The bootstrap
    resamples bases, then the runs of each base, and clusters, the same clusters in every run. Fewer than
    three bases, or three runs of a base, are not resampled, because the spread between them is then unknown.
    If there is no spread: Wilson's interval, with the number of clusters as the number of values.
    """
    totals, sizes = _by_run_and_cluster(cells)
    if not sizes.size:
        return None
    mean, n = float(totals.sum() / sizes.sum()), int(sizes.sum())
    levels = bases or [None] * len(cells)
    shares = totals[sizes > 0] / sizes[sizes > 0] if crossed(levels) else totals.sum(0) / sizes.sum(0)
    if no_spread(shares):
        return IntervalEstimate(mean, *wilson(mean, sizes.shape[1]), n)
    means = _crossed_means(totals, sizes, levels, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return IntervalEstimate(mean, float(low), float(high), n)


def crossed_difference(
    cells: Sequence[Mapping[Any, list[float]]], seed: int = 0, bases: Sequence[Hashable] = ()
) -> IntervalEstimate | None:
    """Like crossed_interval, for paired differences in [-1, 1].

    If all differences are equal, the interval is Wilson's for their absolute value as a share, with their
    sign. If all are zero, it is plus or minus the upper Wilson bound for 0 of n, n the number of clusters.
    """
    totals, sizes = _by_run_and_cluster(cells)
    if not sizes.size:
        return None
    mean, n = float(totals.sum() / sizes.sum()), int(sizes.sum())
    if no_spread(totals[sizes > 0] / sizes[sizes > 0]):
        low, high = wilson(min(1.0, abs(mean)), sizes.shape[1])
        if mean < 0:
            low, high = -high, -low
        return IntervalEstimate(mean, -high if mean == 0 else low, high, n)
    levels = bases or [None] * len(cells)
    low, high = np.quantile(_crossed_means(totals, sizes, levels, seed), [0.025, 0.975])
    return IntervalEstimate(mean, float(low), float(high), n)


def crossed_statistic(
    runs: Sequence[Mapping[Any, np.ndarray]],
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int = 0,
    bases: Sequence[Hashable] = (),
) -> IntervalEstimate | None:
    """Like crossed_interval, for a statistic of sums over clusters; `n` is the number of clusters.

    Each run maps a cluster to its sums (P,). `statistic` maps sums (..., P) to values (...), NaN where it is
    not defined. A resample's mean leaves out runs whose value is NaN.
    """
    names = sorted({name for run in runs for name in run}, key=str)
    if not names:
        return None
    empty = np.zeros_like(next(run[name] for run in runs for name in run))
    table_KCP = np.array([[run.get(name, empty) for name in names] for run in runs], float)
    drawn_runs, drawn_clusters = _draws(bases or [None] * len(runs), len(names), seed)
    values_RK = statistic(np.einsum("rc,kcp->rkp", drawn_clusters, table_KCP, optimize=True))
    weights_RK = drawn_runs * np.isfinite(values_RK)
    sums, counts = (weights_RK * np.nan_to_num(values_RK)).sum(1), weights_RK.sum(1)
    whole = statistic(table_KCP.sum(1))
    whole = whole[np.isfinite(whole)]
    if not whole.size:
        return None
    low, high = np.quantile(sums[counts > 0] / counts[counts > 0], [0.025, 0.975])
    return IntervalEstimate(float(whole.mean()), float(low), float(high), sum(map(len, runs)))


def bootstrap_statistic(
    sums_CP: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> tuple[float, tuple[float, float] | None] | None:
    """A statistic of one run's sums (one row per cluster) and its bootstrap interval; None if undefined.

    `statistic` takes sums of any leading shape, the parts last. The interval is None if the bootstrap has no
    spread.
    """
    if not len(sums_CP):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums_CP.sum(0)))
        if not np.isfinite(value):
            return None
        drawn = statistic(_draws([None], len(sums_CP), seed)[1] @ sums_CP)
    drawn = drawn[np.isfinite(drawn)]  # resamples may lack what the statistic divides by
    if no_spread(drawn):
        return value, None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value, (float(low), float(high))


def _by_run_and_cluster(cells: Sequence[Mapping[Any, list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers of values; one row per run, one column per cluster that some run has."""
    names = sorted({name for cell in cells for name, values in cell.items() if values}, key=str)
    totals = np.array([[sum(cell.get(name, ())) for name in names] for cell in cells], float)
    return totals, np.array([[len(cell.get(name, ())) for name in names] for cell in cells])


def crossed(bases: Sequence[Hashable]) -> bool:
    """Whether there are enough bases, or runs of one base, to resample them."""
    return len(set(bases)) >= FEWEST or max(Counter(bases).values(), default=0) >= FEWEST


def _crossed_means(totals: np.ndarray, sizes: np.ndarray, bases: Sequence[Hashable], seed: int) -> np.ndarray:
    """The means of resampled clusters (columns) and of resampled runs (rows)."""
    drawn_runs, drawn_clusters = _draws(bases, totals.shape[1], seed)
    sums = (drawn_runs @ totals * drawn_clusters).sum(1)
    drawn = (drawn_runs @ sizes * drawn_clusters).sum(1)
    return sums[drawn > 0] / drawn[drawn > 0]  # a resample may have no values


def _draws(bases: Sequence[Hashable], clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each resample (row) has each run and each cluster; `bases` names the base of each run."""
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys(bases))
    drawn_bases = np.ones((RESAMPLES, len(names)), int)
    if len(names) >= FEWEST:
        drawn_bases = rng.multinomial(len(names), [1 / len(names)] * len(names), RESAMPLES)
    drawn_runs = np.ones((RESAMPLES, len(bases)))
    for name, times in zip(names, drawn_bases.T, strict=True):
        runs = [run for run, base in enumerate(bases) if base == name]
        drawn_runs[:, runs] = times[:, None]
        if len(runs) >= FEWEST:  # each time a base is drawn, as many of its runs as it has
            drawn_runs[:, runs] = rng.multinomial(times * len(runs), [1 / len(runs)] * len(runs))
    return drawn_runs, rng.multinomial(clusters, [1 / clusters] * clusters, RESAMPLES)
