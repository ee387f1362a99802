"""The training loop: steps, evaluations, checkpoints, resuming, and a clean end on Ctrl-C."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DistillRun
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.adapter_loading import copy_saved_tensors
from vigos_cli.supervision.batches import Batches
from vigos_cli.training.checkpoint import load_checkpoint, save_checkpoint, saved_steps
from vigos_cli.training.learner import Learner
from vigos_cli.training.schedule import total_steps
from vigos_cli.training.step import train_step
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
) -> None:
    """Take all remaining steps; evaluate and save checkpoints on the way.

    The first Ctrl-C ends the run after the current step, with a checkpoint; the second ends it at once. With
    several processes a signal to any of them stops all of them.
    """
    steps, every = total_steps(config, len(batches.data)), config.trainer
    failures = 0
    with interruptible() as interrupted:
        while learner.step < steps:
            line = train_step(learner, batches, prompter, config)
            failures = failures + 1 if line["grad_norm"] is None else 0
            if failures == PATIENCE:
                raise UserError(
                    f"no finite gradient for {PATIENCE} steps: lower trainer.lr, or try model.dtype=float32"
                )
            if every.eval_every and learner.step % every.eval_every == 0 and learner.step < steps:
                with learner.timed("evaluate"):
                    line["eval"] = evaluate()
            log(line)
            # All processes must leave at the same step: one that continued would wait for the others forever.
            stop = any(process_group.gather(interrupted()))
            if learner.step % every.checkpoint_every == 0 or learner.step == steps or stop:
                save_learner(learner, Path(config.out))
            if stop:
                raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Record the first Ctrl-C (or SIGTERM) instead of raising; the yielded function says whether one came."""
    received = []

    def record(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, record) for number in (signal.SIGINT, signal.SIGTERM)}
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
        with learner.timed("checkpoint"):
            save_checkpoint(
                out / "checkpoints",
                learner.step,
                adapter=learner.student.adapter_state(),
                optimizer=learner.optimizer,
                ema=learner.ema,
                state={"counts": learner.counts, "seconds": learner.seconds},
            )
    process_group.wait()


def resume_learner(learner: Learner, out: Path) -> None:
    """Load the last checkpoint in `out`, if there is one."""
    places = saved_steps(out / "checkpoints")
    if not places:
        return
    file = places[-1] / "adapter.safetensors"
    # The adapter is loaded first: if shapes differ, its error names the tensor; the optimizer's does not.
    learner.student.load_adapter_state(read_tensors(file), file)
    ema, state = load_checkpoint(places[-1], learner.optimizer)
    if learner.ema is not None and ema is not None:
        copy_saved_tensors(learner.ema, ema, places[-1] / "ema.safetensors")
    learner.step = state["step"]
    learner.counts, learner.seconds = Counter(state["counts"]), defaultdict(float, state["seconds"])
