"""`trainer.dry_run=true`: take one step of the largest size, and print its memory and time.

Every row of the batch is the sample with the longest prompt among the first `SEARCHED` rows, and no rollout
may end before `rollout.max_new_tokens`. So memory and time are those of the worst step: upper bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from vigos_cli.config.schema import DistillRun
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.peak_memory import GIB, PhasePeaks, peak_gib
from vigos_cli.supervision.batches import Batches, prepare
from vigos_cli.training.learner import Learner
from vigos_cli.training.schedule import total_steps
from vigos_cli.training.step import train_step
from vigos_cli.types import Sample
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.progress import duration

SEARCHED = 200  # rows among which the longest prompt is searched
PHASES = {  # the name of a phase in the code -> in the table
    "weights": "weights and adapter",
    "rollout": "rollout, its cache included",
    "teachers": "teachers",
    "learn": "student: forward, backward, step",
    "loss": "of which loss",
}


def dry_run(learner: Learner, data: Sequence[Sample], prompter: Prompter, config: DistillRun) -> None:
    """Take one step and print the table; write no files."""
    index, tokens = longest(data, prompter, config)
    student = learner.student
    endless = replace(student, banned_ids=(*student.banned_ids, *student.stop_ids))
    learner.peaks = PhasePeaks(student.device)
    with learner.timed("weights"):
        pass
    learner.student = endless
    train_step(learner, Batches([data[index]] * len(data), prompter, config), prompter, config)

    table = Table(
        title=f"one step, {tokens} + {config.rollout.max_new_tokens} tokens a row", title_justify="left"
    )
    for heading in ("phase", "peak GiB", "seconds"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase, label in PHASES.items():
        if phase in learner.peaks.bytes:
            gib = learner.peaks.bytes[phase] / GIB
            table.add_row(label, f"{gib:.2f}", f"{learner.seconds[phase]:.1f}" if phase != "weights" else "")
    console = Console()
    console.print(table)
    largest = max(learner.peaks.bytes.values()) / GIB
    what = "of the device" if student.device.type == "cuda" else "resident"
    console.print(f"peak {max(largest, peak_gib(student.device)):.2f} GiB {what}", highlight=False)
    step = sum(learner.seconds[phase] for phase in ("rollout", "teachers", "learn"))
    steps = total_steps(config, len(data))
    console.print(f"{steps} steps: at most {duration(step * steps)} ({step:.1f} s a step)", highlight=False)


def longest(data: Sequence[Sample], prompter: Prompter, config: DistillRun) -> tuple[int, int]:
    """The index and length in tokens of the longest prompt among the first `SEARCHED` rows."""
    counts: Counter[str] = Counter()
    best = (-1, 0)
    for index in range(min(SEARCHED, len(data))):
        for item in prepare(data, [(index, index)], prompter, config, counts):
            best = max(best, (index, len(item.prompt.ids)), key=lambda found: found[1])
    if best[0] < 0:
        raise UserError(f"none of the first {SEARCHED} rows can be used: {dict(counts)}")
    return best
