"""The figures of a sweep's report, as PNG and SVG.

draw_all(results.arms, rows, sweep / "plots")  ->  [Plot(name="score_prior", title=..., text=...), ...]
draw_palr(results.arms, palr.rows, sweep / "plots")  ->  Plot(name="palr", ...)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vigos_cli.ablation.arms import DRAWN, Arm, Run
from vigos_cli.ablation.compare_arms import ArmRow, measures
from vigos_cli.ablation.figure_style import (
    SHARE,
    ArmStyle,
    Plot,
    arm_styles,
    draw_line,
    error_bars,
    legend_label,
    panels,
    save_plot,
    shared_legend,
)
from vigos_cli.ablation.palr_results import ROLLOUTS, SHOWN_GROUPS, PalrRow
from vigos_cli.ablation.report_text import measure_name
from vigos_cli.reporting.measures import evaluations, held_out
from vigos_cli.types import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(arms: Sequence[Arm], rows: Sequence[ArmRow], folder: Path) -> list[Plot]:
    """Draw the figures for which the sweep has data."""
    looks = arm_styles(arms)
    trained = [arm for arm in arms if arm.trained and any(run.metrics for run in arm.runs)]
    plots = []
    if any(row.means[kind].get("score") and row.means[kind].get("prior") for row in rows for kind in DRAWN):
        plots.append(save_plot(folder, "score_prior", *score_against_prior(rows, looks)))
    plots.append(save_plot(folder, "measures", *all_measures(rows, looks)))
    if trained:
        plots.append(save_plot(folder, "curves", *curves(trained, looks)))
        if any(_series(arm.runs, f"divergence/{kind.value}") for arm in trained for kind in Kind):
            plots.append(save_plot(folder, "divergence", *divergence(trained, looks)))
    return plots


def draw_palr(arms: Sequence[Arm], measured: Sequence[PalrRow], folder: Path) -> Plot:
    """Draw PALR by segment."""
    return save_plot(folder, "palr", *palr_by_segment(measured, arm_styles(arms)))


def score_against_prior(rows: Sequence[ArmRow], looks: Mapping[str, ArmStyle]) -> tuple[Figure, str, str]:
    """Score against Prior, greedy and sampled, with 95 % intervals in both directions."""
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
                xerr=error_bars(prior),
                yerr=error_bars(score),
                color=look.colour,
                marker=look.marker,
                markerfacecolor=look.fill,
                markersize=7,
                linestyle="none",
                linewidth=1,
                capsize=2.5,
                label=legend_label(row.arm),
            )
        axis.set(
            title=f"{kind} answers",
            xlabel="Prior: right on agreeing pictures (share)",
            ylabel="Score: right on contradicting pictures (share)",
            ylim=SHARE,
        )
        axis.margins(x=0.08)
    shared_legend(figure, axes)
    text = (
        "Each point is an arm; the bars are 95 % intervals. Higher is better. An arm further left than the "
        "others answers worse where the picture shows the usual look. Hollow markers: not trained. The "
        "horizontal axis does not show the whole range from 0 to 1."
    )
    return figure, "Score against Prior", text


def all_measures(rows: Sequence[ArmRow], looks: Mapping[str, ArmStyle]) -> tuple[Figure, str, str]:
    """Every measure of every arm on the same scale; filled markers: greedy, hollow markers: sampled."""
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
                        xerr=error_bars(estimate),
                        color=look.colour,
                        marker=look.marker,
                        markerfacecolor=look.colour if kind == "greedy" else "white",
                        markersize=5.5,
                        linewidth=1.2,
                        capsize=2,
                    )
        axis.set(title=measure_name(measure), xlabel="share", xlim=SHARE, xticks=(0, 0.5, 1))
        axis.grid(axis="x", linewidth=0.5, color="#dddddd")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    axes[0].set_yticks(range(len(rows)), [legend_label(row.arm) for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    text = "Means over runs with 95 % intervals. Filled markers: greedy; hollow markers: sampled at T = 1."
    return figure, "All measures", text


def curves(arms: Sequence[Arm], looks: Mapping[str, ArmStyle]) -> tuple[Figure, str, str]:
    """The first two held-out measures, and the shares of valid and of right rollouts, over the steps."""
    figure, axes = panels(2, 2, height=6.8)
    taken = dict.fromkeys(m for arm in arms for run in arm.runs for m in held_out(run.summary["after"]))
    first = list(taken)[:2]
    for axis, measure in zip(axes[:2], first, strict=False):
        for arm in arms:
            draw_line(axis, _mean_by_step(_held_out(run, measure) for run in arm.runs), arm, looks)
        axis.set(title=f"Held-out pictures, greedy: {measure_name(measure)}", ylabel="share", ylim=SHARE)
    axes[1].set_visible(len(first) > 1)
    for axis, (metric, title) in zip(
        axes[2:],
        {
            "valid_rate": "Rollouts with a valid format",
            "answer_accuracy": "Rollouts with the right answer",
        }.items(),
        strict=True,
    ):
        for arm in arms:
            draw_line(axis, _series(arm.runs, metric), arm, looks)
        axis.set(title=title, ylabel="share", ylim=SHARE)
    for axis in axes:
        axis.set_xlabel("optimizer step")
    shared_legend(figure, axes)
    text = (
        "Means over runs. The held-out pictures are evaluated before training, every trainer.eval_every "
        "steps and after training; the lines between these points are not measured. The rollouts are the "
        "student's own during training."
    )
    return figure, "Course of the training", text


def divergence(arms: Sequence[Arm], looks: Mapping[str, ArmStyle]) -> tuple[Figure, str, str]:
    """The divergence between student and teacher on each segment, over the steps."""
    kinds = [k.value for k in Kind if any(_series(arm.runs, f"divergence/{k.value}") for arm in arms)]
    columns = min(3, len(kinds))
    figure, axes = panels(-(-len(kinds) // columns), columns, height=3.1 * -(-len(kinds) // columns) + 0.5)
    for axis, kind in zip(axes, kinds, strict=False):
        for arm in arms:
            draw_line(axis, _series(arm.runs, f"divergence/{kind}"), arm, looks)
        axis.set(title=kind, xlabel="optimizer step", ylabel="nats per token, before the clip")
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    shared_legend(figure, axes)
    text = (
        "The divergence that the loss uses, averaged over the runs and over the tokens of each segment that "
        "have a teacher. Arms with different divergences or different teachers of a segment have different "
        "scales there and cannot be compared."
    )
    return figure, "Divergence from the teacher by segment", text


def palr_by_segment(measured: Sequence[PalrRow], looks: Mapping[str, ArmStyle]) -> tuple[Figure, str, str]:
    """PALR by segment under each arm's teachers, on the untrained student's rollouts and on the arm's own."""
    figure, axes = panels(1, 2, height=4.4, sharey=True)
    for axis, (rollouts, title) in zip(axes, ROLLOUTS.items(), strict=True):
        of = [one for one in measured if one.rollouts == rollouts]
        for number, one in enumerate(of):
            look, shift = looks[one.arm.label], 0.7 * ((number + 0.5) / len(of) - 0.5)
            found = {place: e for place, name in enumerate(SHOWN_GROUPS) if (e := one.palr[name])}
            axis.errorbar(
                [place + shift for place in found],
                [e.mean for e in found.values()],
                yerr=error_bars(*found.values()),
                color=look.colour,
                marker=look.marker,
                markersize=6.5,
                linestyle="none",
                linewidth=1.2,
                capsize=2.5,
                label=legend_label(one.arm),
            )
        for place in range(1, len(SHOWN_GROUPS)):
            axis.axvline(place - 0.5, linewidth=0.5, color="#dddddd")
        axis.set_xticks(range(len(SHOWN_GROUPS)), [name.replace("+", " +\n") for name in SHOWN_GROUPS])
        axis.set(title=title, xlabel="tokens of", xlim=(-0.5, len(SHOWN_GROUPS) - 0.5), ylim=SHARE)
    axes[0].set_ylabel("PALR: share of the support due to the answer")
    shared_legend(figure, axes)
    text = (
        "The share of the teachers' support for the sampled tokens that comes from the reference answer and "
        "not from the picture, weighted by how far teacher and student differ. The bars are 95 % intervals. "
        "Lower means that the supervision depends less on the answer. No point: no teacher supervises these "
        "tokens. Read it together with the pull below."
    )
    return figure, "PALR by segment", text


# ---------------------------------------------------------------- points


def _series(runs: Sequence[Run], name: str) -> dict[int, float]:
    """A metric's mean over runs by step, for the steps that every run has."""
    return _mean_by_step(
        {line["step"]: line[name] for line in run.metrics if line.get(name) is not None} for run in runs
    )


def _held_out(run: Run, measure: str) -> dict[int, float]:
    """A greedy measure of one run at every step at which it was evaluated."""
    found = evaluations(run.summary["before"], run.metrics) | {run.summary["steps"]: run.summary["after"]}
    figures = {step: held_out(report) for step, report in found.items()}
    return {step: figure[measure][0] for step, figure in figures.items() if measure in figure}


def _mean_by_step(series: Iterable[Mapping[int, float]]) -> dict[int, float]:
    values: defaultdict[int, list[float]] = defaultdict(list)
    several = list(series)
    for one in several:
        for step, value in one.items():
            values[step].append(value)
    return {step: sum(v) / len(v) for step, v in sorted(values.items()) if len(v) == len(several)}
