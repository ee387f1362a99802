"""The common parts of a report's figures: panels, legend, the style of each arm, files.

looks = arm_styles(arms)       # by label; arms differ in marker and dash, not only in colour
figure, axes = panels(1, 2, height=4.6)
...
save_plot(folder, "score_prior", figure, title, text)      # writes PNG and SVG, returns a Plot
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.ablation.arms import Arm
from vigos_cli.evaluation.run_comparison import Difference
from vigos_cli.utils.control_characters import visible
from vigos_cli.utils.files import drafted
from vigos_cli.utils.stats import IntervalEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, dark and light in turn, so that neighbours also differ when printed in grey.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#7A7A7A")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2, 1, 1, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
SHARE = (-0.04, 1.04)  # limits of an axis for values from 0 to 1


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure on disk, `name`.png and `name`.svg, with its title and caption."""

    name: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ArmStyle:
    """The colour, line and marker of an arm in every figure."""

    colour: str
    dash: Any
    marker: str
    fill: str


def arm_styles(arms: Sequence[Arm]) -> dict[str, ArmStyle]:
    """The style of each arm by label; untrained arms have hollow markers."""
    found = {}
    for i, arm in enumerate(arms):
        colour = COLOURS[i % len(COLOURS)]
        found[arm.label] = ArmStyle(
            colour, DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)], colour if arm.trained else "white"
        )
    return found


def panels(rows: int, columns: int, *, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure and its panels, row by row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["text.parse_math"] = False  # a `$` in the label of an arm is no formula
    pyplot.rcParams["svg.fonttype"] = "none"  # text is stored as text: the file is small and can be searched
    pyplot.rcParams["svg.hashsalt"] = "vigos"  # otherwise the file has random ids, other ones each time
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(11, height), layout="constrained", squeeze=False, sharey=sharey
    )
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def legend_label(arm: Arm) -> str:
    """An arm's label in a figure. Matplotlib leaves one that begins with `_` out of the legend."""
    shown = visible(arm.label)
    return f" {shown}" if shown.startswith("_") else shown


def error_bars(*estimates: IntervalEstimate | Difference) -> list[list[float]]:
    """The distances of the intervals' ends from the means, in the form that matplotlib takes."""
    return [[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]


def draw_line(axis: Axes, points: Mapping[int, float], arm: Arm, looks: Mapping[str, ArmStyle]) -> None:
    """Draw one arm's curve; an arm without points draws nothing."""
    if not points:
        return
    look = looks[arm.label]
    axis.plot(
        list(points),
        list(points.values()),
        label=legend_label(arm),
        color=look.colour,
        linestyle=look.dash,
        linewidth=1.4,
        marker=look.marker,
        markersize=4.5,
        markevery=max(1, len(points) // 6),
    )


def shared_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend for all panels below them."""
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


def save_plot(folder: Path, name: str, figure: Figure, title: str, text: str) -> Plot:
    """Write the figure as PNG and SVG, and close it."""
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for form in ("png", "svg"):
        with drafted(folder / f"{name}.{form}") as draft:
            figure.savefig(draft, dpi=130, format=form, metadata={"Date": None} if form == "svg" else None)
    pyplot.close(figure)
    return Plot(name, title, text)
