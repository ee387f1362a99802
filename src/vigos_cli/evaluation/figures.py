"""Figures of graded responses: means, Pass@k and groups, with n and a 95 % interval.

>>> pass_at_k(5, 1, 2)
0.4
>>> summary(graded, bench.chance, {"subject": lambda sample: sample.family})
{'items': 900, 'draws': 5, 'unparsed': 0.01, 'accuracy': {'mean': ..., 'low': ..., 'high': ..., 'n': 4500},
 'chance': 0.26, 'pass': {'5': {..., 'chance': 0.76}}, 'subject': {'Art': {...}, ...}}

A figure is a dict of mean, low, high and n, or None if there are no values. Items that share
`Sample.group` are resampled together, and so are an item's own draws; see `vigos_cli.utils.stats`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from math import comb, prod
from typing import Any

import numpy as np

from vigos_cli.evaluation.graded import Graded, Groups
from vigos_cli.types import Sample
from vigos_cli.utils.stats import bootstrap_statistic, mean_interval, wilson

Figure = dict[str, Any]
SIZES = (5, 8, 16, 32, 64)  # the k of Pass@k, besides the number of draws


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that k of n samples contain a right one if c of n are right: 1 - C(n-c, k) / C(n, k)."""
    assert 0 <= c <= n and 1 <= k <= n
    return 1 - comb(n - c, k) / comb(n, k)


def cluster(sample: Sample) -> str:
    """The name of the cluster to which a sample belongs; a bootstrap resamples whole clusters."""
    return sample.group or sample.id


def mean_figure(values: Sequence[float], clusters: Sequence[Hashable]) -> Figure | None:
    """A mean of values from 0 to 1, with Wilson's interval or a cluster bootstrap."""
    estimate = mean_interval(values, clusters)
    return estimate and asdict(estimate)


def ratio(pairs: Mapping[Any, tuple[float, float]]) -> Figure | None:
    """Sum of numerators over sum of denominators; one pair for each cluster. n is the sum of denominators."""
    weighed = [pair for pair in pairs.values() if pair[1]]
    figure = composite(weighed, lambda totals: totals[..., 0] / totals[..., 1])
    return figure and {**figure, "n": round(sum(below for _, below in weighed))}


def composite(
    parts: Sequence[Sequence[float] | np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    share: bool = True,
) -> Figure | None:
    """A statistic of sums with its cluster bootstrap; None if it is undefined on all the data.

    `parts` has one row for each cluster; `statistic` takes sums over clusters (any leading shape, parts
    last). n is the number of clusters. If the bootstrap has no spread, a share gets Wilson's interval, with
    the number of clusters as the number of values; any other statistic gets the interval None.
    """
    found = bootstrap_statistic(np.asarray(parts, float), statistic)
    if found is None:
        return None
    value, interval = found
    if interval is None:
        interval = wilson(value, len(parts)) if share and 0 <= value <= 1 else (None, None)
    return {"mean": value, "low": interval[0], "high": interval[1], "n": len(parts)}


def by_item(graded: Iterable[Graded]) -> dict[str, list[Graded]]:
    """The draws of each item."""
    items: dict[str, list[Graded]] = {}
    for one in graded:
        items.setdefault(one.sample.id, []).append(one)
    return items


def any_right(graded: Sequence[Graded]) -> list[Graded]:
    """One graded response for each item, a right one if any draw is right (Pass@n, as in some papers)."""
    best = [max(draws, key=lambda one: one.right) for draws in by_item(graded).values()]
    return [replace(one, draw=0) for one in best]


def summary(
    graded: Sequence[Graded], chance: Callable[[Sample], float | None], groups: Groups | None = None
) -> dict[str, Any]:
    """The figures of every benchmark that counts right answers, overall and by group.

    `chance` is the accuracy of a uniform guess: an item without options counts as 0, and `guessable` is the
    share of items with options. Each k of `pass` has its own chance: 1 - (1 - p)^k.
    """
    items = by_item(graded)
    most = min((len(draws) for draws in items.values()), default=0)
    figures = {
        "items": len(items),
        "draws": most,
        "unparsed": _average([float(one.verdict.verdict == "unparsed") for one in graded]),
        "accuracy": accuracy(graded),
        **_chance(items, chance, 1),
    }
    if most > 1:
        figures["pass"] = {
            str(k): {**(_passes(items, k) or {}), "chance": _chance(items, chance, k)["chance"]}
            for k in sorted({most, *(k for k in SIZES if k < most)})
        }
    for name, key in (groups or {}).items():
        figures[name] = group_figures(graded, key, chance)
    return figures


def group_figures(
    graded: Sequence[Graded],
    key: Callable[[Sample], str | Sequence[str]],
    chance: Callable[[Sample], float | None],
) -> dict[str, Figure]:
    """The accuracy of each group, its share of unparsed answers, and the accuracy of a uniform guess."""
    return {
        group: {
            **(accuracy(part) or {}),
            "unparsed": _average([float(one.verdict.verdict == "unparsed") for one in part]),
            **_chance(by_item(part), chance, 1),
        }
        for group, part in sorted(split_by_group(graded, key).items())
    }


def accuracy(graded: Sequence[Graded]) -> Figure | None:
    """The share of right answers over all draws (Avg@k); an unparsed answer counts as wrong."""
    return mean_figure([one.right for one in graded], [cluster(one.sample) for one in graded])


def split_by_group(
    graded: Sequence[Graded], key: Callable[[Sample], str | Sequence[str]]
) -> dict[str, list[Graded]]:
    """The graded responses of each group; a response with several groups is in each of them."""
    parts: dict[str, list[Graded]] = {}
    for one in graded:
        names = key(one.sample)
        for name in [names] if isinstance(names, str) else names:
            parts.setdefault(name, []).append(one)
    return parts


def _passes(items: Mapping[str, list[Graded]], k: int) -> Figure | None:
    values, clusters = [], []
    for draws in items.values():
        values.append(pass_at_k(len(draws), round(sum(one.right for one in draws)), k))
        clusters.append(cluster(draws[0].sample))
    return mean_figure(values, clusters)


def _chance(
    items: Mapping[str, list[Graded]], chance: Callable[[Sample], float | None], k: int
) -> dict[str, float | None]:
    guesses = [chance(draws[0].sample) for draws in items.values()]
    passes = [1 - prod([1 - (p or 0)] * k) for p in guesses]
    return {"chance": _average(passes), "guessable": _average([float(p is not None) for p in guesses])}


def _average(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
