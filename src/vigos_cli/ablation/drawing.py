"""What the figures of a report have in common: panels, one legend, how an arm looks, PNG and SVG on disk.

looks = styles(arms)                     # by label; told apart by marker and dash, not by colour alone
figure, axes = panels(1, 2, height=4.6)
...
save(folder, "score_prior", figure, title, text)      # a Plot
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.ablation.arms import Arm
from vigos_cli.utils.files import drafted
from vigos_cli.utils.stats import IntervalEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, dark and light in turn, so that neighbours differ in a grey print as well.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#7A7A7A")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2, 1, 1, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
SHARE = (-0.04, 1.04)


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure on disk, `name`.png and `name`.svg, and what to say of it."""

    name: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Style:
    """How an arm looks in every figure."""

    colour: str
    dash: Any
    marker: str
    fill: str


def styles(arms: Sequence[Arm]) -> dict[str, Style]:
    """A look for each arm; hollow markers for the untrained."""
    found = {}
    for i, arm in enumerate(arms):
        colour = COLOURS[i % len(COLOURS)]
        found[arm.label] = Style(
            colour, DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)], colour if arm.trained else "white"
        )
    return found


def panels(rows: int, columns: int, *, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure and its panels, in reading order."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.fonttype"] = "none"  # text stays text: small, and it can be searched
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(11, height), layout="constrained", squeeze=False, sharey=sharey
    )
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def reach(*estimates: IntervalEstimate) -> list[list[float]]:
    """How far the ends of intervals are from their means, as an error bar wants them."""
    return [[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]


def draw_line(axis: Axes, points: Mapping[int, float], arm: Arm, looks: Mapping[str, Style]) -> None:
    """One arm's curve; nothing where it has no points."""
    if not points:
        return
    look = looks[arm.label]
    axis.plot(
        list(points),
        list(points.values()),
        label=arm.label,
        color=look.colour,
        linestyle=look.dash,
        linewidth=1.4,
        marker=look.marker,
        markersize=4.5,
        markevery=max(1, len(points) // 6),
    )


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for all panels, below them."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=min(4, len(handles)),
            frameon=False,
            handlelength=3.5,
        )


def save(folder: Path, name: str, figure: Figure, title: str, text: str) -> Plot:
    """Put the figure on disk, and close it."""
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for form in ("png", "svg"):
        with drafted(folder / f"{name}.{form}") as draft:
            figure.savefig(draft, dpi=130, format=form, metadata={"Date": None} if form == "svg" else None)
    pyplot.close(figure)
    return Plot(name, title, text)
