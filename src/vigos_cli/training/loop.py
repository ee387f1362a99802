"""The training loop: steps, evaluations, checkpoints, the best adapter, resuming, and a clean end."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from vigos_cli.config.provenance import check_claimed
from vigos_cli.config.schema import DistillRun
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.adapter_loading import copy_saved_tensors
from vigos_cli.reporting.measures import evaluations
from vigos_cli.supervision.batches import Batches
from vigos_cli.training.best_adapter import best_step, save_best
from vigos_cli.training.checkpoint import KEPT, load_checkpoint, save_checkpoint, saved_steps, tidy
from vigos_cli.training.collapse import collapse
from vigos_cli.training.learner import Learner
from vigos_cli.training.schedule import total_steps
from vigos_cli.training.step import train_step
from vigos_cli.training.step_profile import StepProfile
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import read_tensors

PATIENCE = 3  # steps in a row without a finite gradient after which a run stops


def train(
    learner: Learner,
    batches: Batches,
    prompter: Prompter,
    config: DistillRun,
    *,
    log: Callable[[dict[str, Any]], object],
    evaluate: Callable[[], dict[str, Any]],
    before: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
) -> str | None:
    """Take all remaining steps; evaluate, and save checkpoints and the best adapter on the way.

    `before` are the figures of the untrained model, and `lines` are those of metrics.jsonl, to which `log`
    adds; they are empty on other processes than the first. Returns why the run was stopped before its last
    step because the model collapsed; None if it was not.

    The first Ctrl-C ends the run after the current step, with a checkpoint; the second ends it at once. With
    several processes a signal to any of them stops all of them.
    """
    steps, every = total_steps(config, len(batches.data)), config.trainer
    out = Path(config.out)
    profile = StepProfile(learner, config, steps)

    def collapsed() -> str | None:
        return collapse(lines, before, every, per_prompt=config.rollout.n)

    def is_best() -> bool:
        return learner.step > 0 and best_step(evaluations(before, lines)) == learner.step

    if is_best():  # the run was killed after the checkpoint of its best step, perhaps before it wrote best/
        save_best(learner.student, config, evaluations(before, lines), learner.step)
    with interruptible() as interrupted:
        why = process_group.gather(collapsed())[0]  # set if the run was killed after it was stopped
        failures = process_group.gather(_failures(lines))[0]
        while learner.step < steps and not why:
            with profile.of_step():
                line = train_step(learner, batches, prompter, config)
            profile.write(line)
            failures = failures + 1 if line["grad_norm"] is None else 0
            if failures == PATIENCE:
                other = "" if config.model.dtype == "float32" else ", or with model.dtype=float32"
                raise UserError(
                    f"no finite gradient for {PATIENCE} steps up to step {learner.step}: start again in "
                    f"another folder with a lower trainer.lr{other}"
                )
            if every.eval_every and learner.step % every.eval_every == 0 and learner.step < steps:
                with learner.timed("evaluate"):
                    line["eval"] = evaluate()
            log(line)
            # All processes must leave at the same step: one that continued would wait for the others forever.
            said = process_group.gather((interrupted(), collapsed(), is_best()))
            stop, (_, why, best) = any(one[0] for one in said), said[0]
            due = learner.step % every.checkpoint_every == 0 or learner.step == steps
            if due or stop or why or best:
                save_learner(learner, out)
            # After the checkpoint, so that best/ never holds the adapter of a step that is yet to come.
            if best and process_group.rank() == 0:
                with learner.timed("checkpoint"):
                    save_best(learner.student, config, evaluations(before, lines), learner.step)
            if stop:
                raise KeyboardInterrupt
    return why


def _failures(lines: Sequence[Mapping[str, Any]]) -> int:
    """How many steps in a row, up to the last one, had no finite gradient."""
    return len(list(takewhile(lambda line: line["grad_norm"] is None, reversed(lines))))


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Record the first Ctrl-C (or SIGTERM) instead of raising; the yielded function says whether one came.

    A launcher that handles a signal itself keeps it: submitit is told of a preemption by SIGTERM, and the
    signal that follows makes it put the job in the queue again. A job that had ended would not come back.
    """
    received = []
    ours = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)  # a shell's & sets SIG_IGN
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) in ours]

    def record(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, record) for number in numbers}
    except ValueError:  # not in the main thread (a launcher's worker), where signals cannot be set
        previous = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def save_learner(learner: Learner, out: Path) -> None:
    """Write a checkpoint of the last complete step (first process only; the others wait)."""
    if process_group.rank() == 0:
        check_claimed(out)
        with learner.timed("checkpoint"):
            save_checkpoint(
                out / "checkpoints",
                learner.step,
                adapter=learner.student.adapter_state(),
                optimizer=learner.optimizer,
                kept=learner.teachers.state(),
                state={"counts": learner.counts, "seconds": learner.seconds},
            )
    process_group.wait()


def resume_learner(learner: Learner, out: Path) -> None:
    """Load the last checkpoint in `out`, if there is one."""
    if process_group.rank() == 0:
        tidy(out / "checkpoints")  # a run killed while it saved its last one saves none that would do this
    places = saved_steps(out / "checkpoints")
    if not places:
        return
    file = places[-1] / "adapter.safetensors"
    # The adapter is loaded first: if shapes differ, its error names the tensor; the optimizer's does not.
    learner.student.load_adapter_state(read_tensors(file), file)
    kept, state = load_checkpoint(places[-1], learner.optimizer)
    if learner.teachers.kept:
        copy_saved_tensors(learner.teachers.state(), kept, places[-1] / KEPT)
    learner.step = state["step"]
    learner.counts, learner.seconds = Counter(state["counts"]), defaultdict(float, state["seconds"])
