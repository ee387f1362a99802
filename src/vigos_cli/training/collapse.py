"""Detect that a model has collapsed: its valid rate, the length of its answers or its score.

    why = collapse(lines, before, config.trainer, per_prompt=config.rollout.n)   # None: it has not

valid rate   the mean of the last steps is less than half of the highest earlier mean
length       nearly all answers of the last steps are cut off, and earlier at most half as many were; or the
             answers are ten times shorter than earlier
score        in two evaluations in a row, the upper end of the interval is below the lower end of the
             untrained model's

The numbers are keys of `trainer`. Small batches are noisy, so a share has only fallen or risen if the two
intervals do not overlap. Their quantile `SURE` is far above that of 95 %, because every step compares many
earlier windows. The rollouts of one prompt are alike, so the intervals count prompts and not rollouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import TrainerConfig
from vigos_cli.reporting.measures import evaluations, format_spread, mean_score
from vigos_cli.utils.stats import wilson

SURE = 3.7  # normal quantile of an interval that covers 99.98 %

Line = Mapping[str, Any]


def collapse(
    lines: Sequence[Line], before: Mapping[str, Any], trainer: TrainerConfig, *, per_prompt: int
) -> str | None:
    """Why the model has collapsed after the steps in `lines` (of metrics.jsonl); None if it has not.

    `before` are the figures of the untrained model, and `per_prompt` is the number of rollouts of a prompt.
    """
    if not trainer.stop_on_collapse:
        return None
    steps = [line for line in lines if line["rollouts"]]
    return (
        _valid_rate(steps, trainer, per_prompt)
        or _cut_off(steps, trainer, per_prompt)
        or _length(steps, trainer)
        or _score(lines, before, trainer)
    )


def stop_note(step: int, steps: int, why: str) -> str:
    """The line that says that a run was stopped."""
    return (
        f"vigos: stopped at step {step} of {steps} by a collapse: {why}. The run ends here, with all its "
        "files; with resume=auto trainer.stop_on_collapse=false it goes on"
    )


def closed_note(out: Path, summary: Mapping[str, Any]) -> str:
    """The line that says why a finished or stopped run is not resumed."""
    if not summary.get("stopped"):
        return f"{out} is finished already: nothing to do"
    return (
        f"{out} was stopped at step {summary['steps']} by a collapse: {summary['stopped_because']}; "
        "add trainer.stop_on_collapse=false to go on"
    )


def _earlier(steps: Sequence[Line], size: int) -> list[Sequence[Line]]:
    """All windows of at most `size` steps in a row that end before the last `size` steps.

    Those at the start are shorter, so that the untrained model's first steps count even if it collapses soon.
    """
    return [steps[max(0, end - size) : end] for end in range(1, len(steps) - size + 1)]


def _mean(steps: Sequence[Line], name: str) -> float:
    """The mean of a figure over the rollouts of these steps."""
    return sum(line.get(name, 0) * line["rollouts"] for line in steps) / sum(
        line["rollouts"] for line in steps
    )


def _interval(steps: Sequence[Line], name: str, per_prompt: int) -> tuple[float, float]:
    """The interval of a share over these steps."""
    prompts = sum(line["rollouts"] for line in steps) / per_prompt
    return wilson(min(1.0, _mean(steps, name)), prompts, SURE)


def _valid_rate(steps: Sequence[Line], trainer: TrainerConfig, per_prompt: int) -> str | None:
    size, name = trainer.collapse_steps, "valid_rate"
    if not (windows := _earlier(steps, size)):
        return None
    best = max(windows, key=lambda window: _interval(window, name, per_prompt)[0])
    then, now = _mean(best, name), _mean(steps[-size:], name)
    fell = _interval(steps[-size:], name, per_prompt)[1] < _interval(best, name, per_prompt)[0]
    if not fell or now >= trainer.collapse_valid * then:
        return None
    return f"the valid rate of the last {size} steps is {now:.2f}, and it was {then:.2f} {_where(best)}"


def _cut_off(steps: Sequence[Line], trainer: TrainerConfig, per_prompt: int) -> str | None:
    size, name = trainer.collapse_steps, "cut_off_rate"
    if not (windows := _earlier(steps, size)):
        return None
    best = min(windows, key=lambda window: _interval(window, name, per_prompt)[1])
    then, now = _mean(best, name), _mean(steps[-size:], name)
    rose = _interval(steps[-size:], name, per_prompt)[0] > _interval(best, name, per_prompt)[1]
    if not rose or now < trainer.collapse_cut_off or then > trainer.collapse_cut_off / 2:
        return None
    return (
        f"{now:.0%} of the answers of the last {size} steps are cut off, and {then:.0%} were {_where(best)}"
    )


def _length(steps: Sequence[Line], trainer: TrainerConfig) -> str | None:
    size, name = trainer.collapse_steps, "tokens_per_rollout"
    # Only full windows: a single long answer must not make a short window look long.
    windows = [window for window in _earlier(steps, size) if len(window) == size]
    if not windows:
        return None
    longest = max(windows, key=lambda window: _mean(window, name))
    then, now = _mean(longest, name), _mean(steps[-size:], name)
    if now >= trainer.collapse_length * then:
        return None
    return f"answers of the last {size} steps have {now:.1f} tokens, and had {then:.1f} {_where(longest)}"


def _score(lines: Sequence[Line], before: Mapping[str, Any], trainer: TrainerConfig) -> str | None:
    count, untrained = trainer.collapse_evaluations, mean_score(before)
    last = [mean_score(report) for step, report in sorted(evaluations(before, lines).items()) if step][
        -count:
    ]
    if untrained is None or untrained[1] is None or len(last) < count:
        return None
    if not all(score and score[2] is not None and score[2] < untrained[1] for score in last):
        return None
    scores = ", ".join(f"{score[0]:.3f}" for score in last if score)
    return (
        f"the scores of the last {count} evaluations ({scores}) are below that of the untrained model, "
        f"{format_spread(untrained)}, and the intervals do not overlap"
    )


def _where(window: Sequence[Line]) -> str:
    first, last = window[0]["step"], window[-1]["step"]
    return f"at step {first}" if first == last else f"at steps {first} to {last}"
