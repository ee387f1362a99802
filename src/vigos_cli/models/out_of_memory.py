"""Report in which phase memory ran out, and which keys to change to continue the run.

with with_advice(config):           # around a command: if memory runs out, it ends with one line of advice
    with in_phase("learn"):         # around a phase: the advice names this phase
        loss.backward()

out of memory while the student learned: repeat the command with resume=auto out=runs/a
trainer.micro_batch=16 ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vigos_cli.config.schema import AblateRun, DistillRun, EvalRun, RolloutRun, RunConfig
from vigos_cli.method.loss_chunk import FEWEST
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.machine_errors import is_out_of_memory

SCORED_AT_ONCE = 8  # rows that `vigos rollout` scores at once; fewer if rollout.batch is smaller
PHASES = {
    "load": "while the model was loaded",
    "rollout": "while rollouts were sampled",
    "teachers": "while the teachers scored",
    "learn": "while the student learned",
    "loss": "in the loss",
    "evaluate": "while answers were sampled",
}


class OutOfMemory(UserError):
    """Memory ran out in the phase `phase`, a key of `PHASES`."""

    def __init__(self, phase: str):
        super().__init__(f"out of memory {PHASES[phase]}")
        self.phase = phase


@contextmanager
def in_phase(phase: str) -> Iterator[None]:
    """Raise OutOfMemory with this phase if memory runs out inside; the innermost phase is named."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(phase) from error
        raise


@contextmanager
def with_advice(config: RunConfig) -> Iterator[None]:
    """If memory runs out inside the block, raise a one-line UserError that says what to change."""
    try:
        with in_phase("load"):
            yield
    except OutOfMemory as error:
        raise UserError(advice(config, error.phase)) from error


def advice(config: RunConfig, phase: str) -> str:
    """Which keys to change after memory ran out in this phase.

    First those that `resume=auto` accepts, with the most effective one first; then those that need a new run.
    """
    smaller = _smaller(config, phase)
    needs_new = ["rollout.max_new_tokens", "model.max_pixels"]
    if isinstance(config, DistillRun):
        needs_new += ["adapter.r"]
    elif not isinstance(config, RolloutRun):
        needs_new[0] = "bench.max_new_tokens"
    new = f"lower {', '.join(needs_new[:-1])} or {needs_new[-1]}"
    if config.adapter.quantise == "none":
        new += ", or use adapter=qlora"
    text = f"out of memory {PHASES[phase]}: "
    if not smaller:
        return f"{text}resuming this run with other keys does not help; start a new one: {new}"
    again = "" if isinstance(config, AblateRun) else f"resume=auto out={config.out} "
    also = f" (also possible: {', '.join(smaller[1:])})" if smaller[1:] else ""
    return f"{text}repeat the command with {again}{smaller[0]}{also}; it continues. Or start a new run: {new}"


def _smaller(config: RunConfig, phase: str) -> list[str]:
    """Overrides that lower the memory of a phase and that a resumed run accepts, the best first."""
    found = []

    def halve(key: str, value: int, least: int = 1) -> None:
        if value > least:
            found.append(f"{key}={max(least, value // 2)}")

    if phase == "rollout":
        halve("rollout.batch", config.rollout.batch)
    if phase == "teachers" and isinstance(config, RolloutRun):
        halve("rollout.batch", min(config.rollout.batch, SCORED_AT_ONCE))
    if phase == "evaluate" and isinstance(config, DistillRun | EvalRun):
        halve("bench.batch", config.bench.batch)
    if phase in ("teachers", "learn", "loss") and isinstance(config, DistillRun):
        if config.trainer.micro_tokens is None:
            halve("trainer.micro_batch", config.trainer.micro_batch)
        else:  # the longest rows have more tokens than they sampled, so each of them is alone below this
            halve("trainer.micro_tokens", config.trainer.micro_tokens, least=config.rollout.max_new_tokens)
        if phase == "learn" and not config.trainer.gradient_checkpointing:
            found.append("trainer.gradient_checkpointing=true")
        if phase != "teachers":
            halve("loss.chunk", config.loss.chunk or FEWEST, least=8)  # FEWEST: of a chunk that was chosen
    return found
