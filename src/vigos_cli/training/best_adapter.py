"""Keep the adapter with the best score of a run in `best/`, beside the last one in `adapter/`.

The evaluations are compared by `mean_score`. The untrained model takes part as step 0. Of equal scores the
earliest counts. Which step is the best follows from the figures before training and the lines of
`metrics.jsonl`, so a resumed run finds the same step as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DistillRun
from vigos_cli.models.adapter_folder import adapter_modules, save_adapter
from vigos_cli.models.student import Student
from vigos_cli.reporting.measures import format_spread, mean_score

BEST = "best"  # the folder

Evaluations = Mapping[int, Mapping[str, Any]]  # optimizer step -> the figures of its evaluation


def best_step(found: Evaluations) -> int | None:
    """The step with the highest score; None if no evaluation has a score."""
    scores = {step: score for step, report in found.items() if (score := mean_score(report))}
    return max(scores, key=lambda step: (scores[step][0], -step)) if scores else None


def save_best(student: Student, config: DistillRun, found: Evaluations, step: int) -> None:
    """Write `best/` with the student's adapter, which is that of `step`; an older one is replaced."""
    facts = {
        "steps": step,
        "adapter_modules": adapter_modules(student),
        "before": found[0],
        "after": found[step],
        "chosen": "This step was chosen among the evaluations of its run by the score in the table, so the "
        "score is optimistic: evaluate the adapter on other data.",
    }
    save_adapter(student, Path(config.out) / BEST, config, facts)


def settle_best(
    student: Student,
    config: DistillRun,
    found: Evaluations,
    facts: Mapping[str, Any],
    after: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The entry `best` of the summary of a run; writes `best/` if the last step is the best.

    `facts` are the entries `steps` and `stopped` of the summary, and `after` are the figures at the end. They
    take no part if the run was stopped: a run that goes on after it was stopped keeps no record of them.
    """
    step = facts["steps"]
    if not config.trainer.eval_every or not step:
        return None
    if not facts["stopped"]:
        found = {**found, step: after}
        if best_step(found) == step:
            save_best(student, config, found, step)
    return describe_best(found)


def describe_best(found: Evaluations) -> dict[str, Any] | None:
    """The entry `best` of summary.json; None if no evaluation has a score."""
    step = best_step(found)
    score = None if step is None else mean_score(found[step])
    if score is None:
        return None
    mean, low, high = score
    return {
        "step": step,
        "score": {"mean": mean, "low": low, "high": high},
        "folder": BEST if step else None,
        "evaluations": len(found),
        "chosen_on": "the data of the score itself, so the score is optimistic",
    }


def best_note(best: Mapping[str, Any] | None, before: Mapping[str, Any]) -> str:
    """One line for the terminal about the entry `best` of a summary."""
    if best is None:
        return "no evaluation has a score, so no best adapter is kept"
    score = format_spread((best["score"]["mean"], best["score"]["low"], best["score"]["high"]))
    if best["folder"] is None:
        return f"no evaluation scored higher than the untrained model, {score}: there is no {BEST}/"
    untrained = mean_score(before)
    than = f" (untrained: {format_spread(untrained)})" if untrained else ""
    return (
        f"{BEST}/ is the adapter of step {best['step']}, score {score}{than}; it was chosen among "
        f"{best['evaluations']} evaluations by this same score, so the score is optimistic"
    )
