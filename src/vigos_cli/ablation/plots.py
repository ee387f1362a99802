"""The figures of a sweep's report, as PNG and SVG: arms are told apart by marker and dash, not colour alone.

draw_all(table.arms, rows, sweep / "plots")  ->  [Plot(name="score_prior", title=..., text=...), ...]
draw_palr(table.arms, measured, sweep / "plots")  ->  Plot(name="palr", ...)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vigos_cli.ablation.arms import DRAWN, Arm, Run
from vigos_cli.ablation.compare import Row, measures
from vigos_cli.ablation.drawing import SHARE, Plot, Style, draw_line, legend, panels, reach, save, styles
from vigos_cli.ablation.palr import ROLLOUTS, SHOWN, Measured
from vigos_cli.ablation.words import named
from vigos_cli.reporting.measures import held_out
from vigos_cli.types import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(arms: Sequence[Arm], rows: Sequence[Row], folder: Path) -> list[Plot]:
    """Draw what there is something to draw for."""
    looks = styles(arms)
    trained = [arm for arm in arms if arm.trained and any(run.metrics for run in arm.runs)]
    plots = []
    if any(row.means[kind].get("score") and row.means[kind].get("prior") for row in rows for kind in DRAWN):
        plots.append(save(folder, "score_prior", *score_against_prior(rows, looks)))
    plots.append(save(folder, "measures", *all_measures(rows, looks)))
    if trained:
        plots.append(save(folder, "curves", *curves(trained, looks)))
        if any(_series(arm.runs, f"divergence/{kind.value}") for arm in trained for kind in Kind):
            plots.append(save(folder, "divergence", *divergence(trained, looks)))
    return plots


def draw_palr(arms: Sequence[Arm], measured: Sequence[Measured], folder: Path) -> Plot:
    """PALR, where it was measured."""
    return save(folder, "palr", *palr_by_segment(measured, styles(arms)))


def score_against_prior(rows: Sequence[Row], looks: Mapping[str, Style]) -> tuple[Figure, str, str]:
    """Score against Prior, greedy and sampled, with 95 % intervals both ways."""
    figure, axes = panels(1, 2, height=4.6)
    for axis, kind in zip(axes, DRAWN, strict=True):
        for row in rows:
            score, prior = row.means[kind]["score"], row.means[kind]["prior"]
            if score is None or prior is None:
                continue
            look = looks[row.arm.label]
            axis.errorbar(
                prior.mean,
                score.mean,
                xerr=reach(prior),
                yerr=reach(score),
                color=look.colour,
                marker=look.marker,
                markerfacecolor=look.fill,
                markersize=7,
                linestyle="none",
                linewidth=1,
                capsize=2.5,
                label=row.arm.label,
            )
        axis.set(
            title=f"{kind} answers",
            xlabel="Prior: right where the picture agrees (share)",
            ylabel="Score: right where it contradicts (share)",
            ylim=SHARE,
        )
        axis.margins(x=0.08)
    legend(figure, axes)
    text = (
        "Each point is an arm, the bars are 95 % intervals. Up is better; left of the others means that the "
        "usual cases were paid for it. Hollow: not trained. The horizontal axis is not from 0 to 1."
    )
    return figure, "Score against Prior", text


def all_measures(rows: Sequence[Row], looks: Mapping[str, Style]) -> tuple[Figure, str, str]:
    """Every measure of every arm on one scale, greedy filled and sampled hollow."""
    shown = [measure for measure in measures([row.arm for row in rows]) if measure != "valid"]
    lines = -(-len(shown) // 4)
    figure, axes = panels(lines, min(4, len(shown)), height=(1.1 + 0.42 * len(rows)) * lines, sharey=True)
    for axis, measure in zip(axes, shown, strict=False):
        for place, row in enumerate(rows):
            look = looks[row.arm.label]
            for shift, kind in zip((-0.14, 0.14), DRAWN, strict=True):
                estimate = row.means[kind][measure]
                if estimate is not None:
                    axis.errorbar(
                        estimate.mean,
                        place + shift,
                        xerr=reach(estimate),
                        color=look.colour,
                        marker=look.marker,
                        markerfacecolor=look.colour if kind == "greedy" else "white",
                        markersize=5.5,
                        linewidth=1.2,
                        capsize=2,
                    )
        axis.set(title=named(measure), xlabel="share", xlim=SHARE, xticks=(0, 0.5, 1))
        axis.grid(axis="x", linewidth=0.5, color="#dddddd")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    axes[0].set_yticks(range(len(rows)), [row.arm.label for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    text = "Means over seeds with 95 % intervals; filled markers: greedy answers, hollow: sampled at T = 1."
    return figure, "All measures", text


def curves(arms: Sequence[Arm], looks: Mapping[str, Style]) -> tuple[Figure, str, str]:
    """The first two held-out measures, and valid and right rollouts, over the steps."""
    figure, axes = panels(2, 2, height=6.8)
    taken = dict.fromkeys(m for arm in arms for run in arm.runs for m in held_out(run.summary["after"]))
    first = list(taken)[:2]
    for axis, measure in zip(axes[:2], first, strict=False):
        for arm in arms:
            draw_line(axis, _mean_by_step(_held_out(run, measure) for run in arm.runs), arm, looks)
        axis.set(title=f"Held out, greedy: {named(measure)}", ylabel="share", ylim=SHARE)
    axes[1].set_visible(len(first) > 1)
    for axis, (metric, title) in zip(
        axes[2:],
        {
            "valid_rate": "Rollouts that hold the format",
            "answer_accuracy": "Rollouts with the right answer",
        }.items(),
        strict=True,
    ):
        for arm in arms:
            draw_line(axis, _series(arm.runs, metric), arm, looks)
        axis.set(title=title, ylabel="share", ylim=SHARE)
    for axis in axes:
        axis.set_xlabel("optimizer step")
    legend(figure, axes)
    text = (
        "Means over seeds. Held-out pictures are asked before, after and every trainer.eval_every steps: two "
        "points joined by a line say nothing of the way between. Rollouts are the student's own, in training."
    )
    return figure, "Over the steps", text


def divergence(arms: Sequence[Arm], looks: Mapping[str, Style]) -> tuple[Figure, str, str]:
    """How far the student is from its teacher on each segment, over the steps."""
    kinds = [k.value for k in Kind if any(_series(arm.runs, f"divergence/{k.value}") for arm in arms)]
    columns = min(3, len(kinds))
    figure, axes = panels(-(-len(kinds) // columns), columns, height=3.1 * -(-len(kinds) // columns) + 0.5)
    for axis, kind in zip(axes, kinds, strict=False):
        for arm in arms:
            draw_line(axis, _series(arm.runs, f"divergence/{kind}"), arm, looks)
        axis.set(title=kind, xlabel="optimizer step", ylabel="nats per token, before the clip")
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    legend(figure, axes)
    text = (
        "The loss's own divergence of the tokens of each segment that have a teacher; means over seeds. Arms "
        "with another divergence or another teacher of a segment are on another scale there."
    )
    return figure, "Divergence from the teacher by segment", text


def palr_by_segment(measured: Sequence[Measured], looks: Mapping[str, Style]) -> tuple[Figure, str, str]:
    """PALR by segment under each arm's teachers: of the untrained student's rollouts, of the arm's own."""
    figure, axes = panels(1, 2, height=4.4, sharey=True)
    for axis, (rollouts, title) in zip(axes, ROLLOUTS.items(), strict=True):
        of = [one for one in measured if one.rollouts == rollouts]
        for number, one in enumerate(of):
            look, shift = looks[one.arm.label], 0.7 * ((number + 0.5) / len(of) - 0.5)
            found = {place: e for place, name in enumerate(SHOWN) if (e := one.palr[name])}
            axis.errorbar(
                [place + shift for place in found],
                [e.mean for e in found.values()],
                yerr=reach(*found.values()),
                color=look.colour,
                marker=look.marker,
                markersize=6.5,
                linestyle="none",
                linewidth=1.2,
                capsize=2.5,
                label=one.arm.label,
            )
        for place in range(1, len(SHOWN)):
            axis.axvline(place - 0.5, linewidth=0.5, color="#dddddd")
        axis.set_xticks(range(len(SHOWN)), [name.replace("+", " +\n") for name in SHOWN])
        axis.set(title=title, xlabel="tokens of", xlim=(-0.5, len(SHOWN) - 0.5), ylim=SHARE)
    axes[0].set_ylabel("PALR: answer-driven share of the support")
    legend(figure, axes)
    text = (
        "The share of the teachers' support of the observed tokens that is owed to the reference answer and "
        "not to the picture, weighed by how far teacher and student differ; bars are 95 % intervals. Lower "
        "is less answer-driven. No point: no teacher supervises such tokens. Read it beside the pull below."
    )
    return figure, "PALR by segment", text


# ---------------------------------------------------------------- points


def _series(runs: Sequence[Run], name: str) -> dict[int, float]:
    """A metric's mean over seeds by step; steps that not every seed has are left out."""
    return _mean_by_step(
        {line["step"]: line[name] for line in run.metrics if line.get(name) is not None} for run in runs
    )


def _held_out(run: Run, measure: str) -> dict[int, float]:
    """A greedy measure of one run at every step at which it was taken."""
    evaluations = {line["step"]: line["eval"] for line in run.metrics if "eval" in line}
    evaluations = {0: run.summary["before"], **evaluations, run.summary["steps"]: run.summary["after"]}
    figures = {step: held_out(report) for step, report in evaluations.items()}
    return {step: found[measure][0] for step, found in figures.items() if measure in found}


def _mean_by_step(series: Iterable[Mapping[int, float]]) -> dict[int, float]:
    values: defaultdict[int, list[float]] = defaultdict(list)
    several = list(series)
    for one in several:
        for step, value in one.items():
            values[step].append(value)
    return {step: sum(v) / len(v) for step, v in sorted(values.items()) if len(v) == len(several)}
