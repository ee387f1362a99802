"""Kills and signals in `vigos eval`, `vigos rollout` and `vigos merge`."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from campaign import killing
from campaign.diary import START, Moment
from campaign.killing import Command, at_change, during
from campaign.kills_of_distill import rows
from campaign.trial import Outcome, Space, Trial

GROUP = "kills of eval and other commands"
WRITING = "writing verdicts, scores and the page"

EVAL = Command("eval", ["eval", "bench.tasks.priorworld.rows=3", "bench.samples=2", "bench.batch=4"])
ROLLOUT = Command("rollout", ["rollout", "limit=6", "rollout.n=2", "rollout.batch=4", "looking=true"], rows)


def adapter(folder: Path) -> Sequence[str]:
    """An adapter to merge, with an effect that is large enough to be seen."""
    from vigos_cli.config.compose import job
    from vigos_cli.models.adapter_folder import save_adapter
    from vigos_cli.models.student_loading import load_student

    if not folder.exists():
        config = job("distill", ["out=unused"])
        student = load_student(config.model, config.adapter, seed=0)
        for value in student.adapter.values():
            value.data.add_(0.01)
        save_adapter(student, folder, config, {"steps": 0, "adapter_modules": 1})
    return [f"adapter.path={folder}"]


MERGE = Command("merge", ["merge"], adapter)


def half_a_line(rng: random.Random, whole: Path) -> Moment:
    """In the middle of writing an answer to responses.jsonl."""
    moment = at_change(rng, whole, ["sampling answers"])
    return replace(moment, share=rng.uniform(0.1, 0.9), change=max(2, moment.change))


def trials(seed: int) -> list[Trial]:
    """The trials of this group."""
    moments = [
        (EVAL, partial(during, phases=(START, "loading the model"))),
        (EVAL, partial(during, phases=("sampling answers",))),
        (EVAL, half_a_line),
        (EVAL, partial(at_change, phases=(WRITING,))),
        (EVAL, killing.anywhere),
        (ROLLOUT, killing.anywhere),
        (MERGE, partial(at_change, phases=(START,))),
    ]
    found = [
        Trial(
            f"kill {command.name} {number}",
            GROUP,
            partial(killing.kill_and_repeat, command=command, choose=choose),
        )
        for number, (command, choose) in enumerate(moments, 1)
    ]
    return found + [
        Trial(f"signal eval {number.name}", GROUP, partial(_signal, number=number))
        for number in (signal.SIGTERM, signal.SIGINT)
    ]


def _signal(space: Space, number: signal.Signals) -> Outcome:
    def choose(rng: random.Random, whole: Path) -> list[Moment]:
        return [replace(during(rng, whole, ("sampling answers",)), number=number)]

    return killing.signal_and_repeat(space, EVAL, choose, number.name)
