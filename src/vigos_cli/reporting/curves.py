"""Draw `curves.png`: scores, rollouts, lengths, clipped tokens, losses, divergences and gaps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from vigos_cli.reporting.measures import Spread, held_out
from vigos_cli.utils.control_characters import visible
from vigos_cli.utils.files import drafted

SHARE = "share"  # a unit: the axis goes from 0 to 1
NATS_APART = "nats between both log-probabilities"  # a unit with a logarithmic axis
PANELS: dict[str, tuple[str, dict[str, str]]] = {  # title: (unit, {metric: label})
    "Rollouts": (
        SHARE,
        {"valid_rate": "valid", "fallback_rate": "fallback", "answer_accuracy": "right answer"},
    ),
    "Length of rollouts": ("tokens", {"tokens_per_rollout": "mean of a step"}),
    "Clipped and cut off": (
        SHARE,
        {
            "clip_rate": "tokens above the clip",
            "zero_gradient_rate": "tokens without gradient",
            "cut_off_rate": "rollouts cut off",
        },
    ),
    "Loss by teacher": ("nats per token, weighted", {}),  # by the names that the routing gives them
    "Sampler against trainer, sampled tokens": (
        NATS_APART,
        {"sampler_gap/mean": "mean of a step", "sampler_gap/max": "largest of a step"},
    ),
    "Norm of the gradient": ("before trainer.max_grad_norm", {"grad_norm": "of the adapter"}),
    "Divergence from the teacher by segment": (
        "nats per token, before the clip",
        {
            f"divergence/{kind}": kind
            for kind in ("description", "reasoning", "answer", "delimiters", "end", "invalid")
        },
    ),
}
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
# Colours that colour-blind readers can tell apart (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")


def draw_curves(
    lines: Sequence[Mapping[str, Any]],
    evaluations: Mapping[int, Mapping[str, Any]],
    path: Path,
    title: str,
    best: int | None = None,
) -> None:
    """Draw the eight panels of a run over its optimizer steps, and write them to `path`.

    `lines` are those of `metrics.jsonl`; `evaluations` maps a step to the report of its evaluation. `best` is
    the step with the best score, if the run looked for it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(20, 7.5))
    axes = figure.subplots(2, 4)
    # Fixed margins: to compute them from the texts takes as long as to draw the figure.
    figure.subplots_adjust(left=0.035, right=0.995, bottom=0.07, top=0.9, wspace=0.2, hspace=0.32)
    _draw_held_out(axes.flat[0], evaluations, best)
    taught = {key: key.removeprefix("loss/") for line in lines for key in line if key.startswith("loss/")}
    for axis, (name, (unit, metrics)) in zip(axes.flat[1:], PANELS.items(), strict=True):
        _draw_metrics(axis, lines, name, unit, metrics or dict(sorted(taught.items())))
    figure.suptitle(visible(title), parse_math=False)
    with drafted(path) as draft:
        figure.savefig(draft, dpi=110, format=path.suffix[1:])


def _draw_metrics(
    axis: Any, lines: Sequence[Mapping[str, Any]], title: str, unit: str, metrics: Mapping[str, str]
) -> None:
    """One line for each metric that was logged."""
    for (metric, label), style, colour in zip(metrics.items(), STYLES * 2, COLOURS * 2, strict=False):
        points = [(line["step"], line[metric]) for line in lines if line.get(metric) is not None]
        if points:
            axis.plot(*zip(*points, strict=True), label=label, linestyle=style, color=colour, linewidth=1.3)
    axis.set(title=title, xlabel="optimizer step", ylabel=unit)
    if unit == SHARE:
        axis.set_ylim(-0.03, 1.03)
    elif unit == NATS_APART and axis.lines:
        axis.set_yscale("log")
    elif unit == "tokens":
        axis.set_ylim(bottom=0)
    if axis.lines:
        axis.legend(fontsize=8, frameon=False)


def _draw_held_out(axis: Any, evaluations: Mapping[int, Mapping[str, Any]], best: int | None) -> None:
    """One line with 95 % intervals for each held-out measure, and a vertical line at the best step."""
    series: dict[str, list[tuple[int, Spread]]] = {}
    for step, report in sorted(evaluations.items()):
        for name, spread in held_out(report).items():
            series.setdefault(name, []).append((step, spread))
    looks = zip(cycle(STYLES), cycle(COLOURS), cycle("osD^"), strict=False)
    for (name, found), (style, colour, marker) in zip(series.items(), looks, strict=False):
        axis.errorbar(
            [step for step, _ in found],
            [mean for _, (mean, _, _) in found],
            yerr=[[mean - low for _, (mean, low, _) in found], [high - mean for _, (mean, _, high) in found]],
            label=name,
            linestyle=style,
            color=colour,
            marker=marker,
            capsize=3,
        )
    if best is not None:
        axis.axvline(best, color="grey", linestyle=":", label=f"best score: step {best}")
    axis.set(
        title="Held out, greedy, 95 % intervals", xlabel="optimizer step", ylabel="share", ylim=(-0.03, 1.03)
    )
    if axis.has_data():
        axis.legend(fontsize=8, frameon=False)
