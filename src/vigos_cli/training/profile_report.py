"""The text of a step's profile: the machine, the run, a table by phase, and the slowest operators of each.

Nothing in it names a user, a folder or a server: it is made to be sent to others.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from vigos_cli.config.provenance import commit, versions
from vigos_cli.config.schema import DistillRun
from vigos_cli.models.peak_memory import GIB
from vigos_cli.training.learner import Learner
from vigos_cli.training.phase_times import PhaseTimes
from vigos_cli.utils import process_group

PHASES = {  # the name of a phase in the code -> in the tables
    "rollout": "rollout",
    "teachers": "teachers",
    "learn": "learn, without the loss",
    "loss": "loss",
    "step": "the rest",
}
SHOWN = 6  # operators of a phase
Line = Mapping[str, Any]


def profile_report(
    learner: Learner,
    config: DistillRun,
    times: Mapping[str, PhaseTimes],
    peaks: Mapping[str, int],
    lines: tuple[Line | None, Line],
    seconds: float,
) -> Iterator[str | Table]:
    """The parts of the report, from the times and peaks of the phases.

    `lines` are those of metrics.jsonl of the step before, if there was one, and of the recorded step.
    `seconds` is the time that writing the trace took.
    """
    before, line = lines
    on_cuda = learner.student.device.type == "cuda"
    yield f"vigos profile: step {learner.step}, {_size(line)}"
    yield from _machine(learner.student.device)
    yield from _run(learner, config)
    yield ""
    yield _phase_table(times, peaks, before, on_cuda=on_cuda)
    step = sum(found.seconds for found in times.values())
    yield "in them: the seconds in operators on the CPU, which include waiting for other programs."
    if before:
        yield (
            f"before: the seconds of step {before['step']}, which was not recorded, with {_size(before)}. "
            "What recording costs is the difference for each sampled token."
        )
    yield f"Recording ended with {seconds:.1f} s of writing; the times are those of the first process."
    yield ""
    yield _operator_table(times, step, on_device=False)
    if on_cuda:
        yield _operator_table(times, step, on_device=True)


def _size(line: Line) -> str:
    """How much a step sampled, in all processes."""
    tokens = line["rollouts"] * line.get("tokens_per_rollout", 0)
    return f"{line['rollouts']} rollouts, {tokens:,.0f} sampled tokens"


def _machine(device: torch.device) -> Iterator[str]:
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        yield f"{card.name}, {card.total_memory / GIB:.1f} GiB, compute capability {card.major}.{card.minor}"
    cores = f"{os.cpu_count()} cores, torch threads: {torch.get_num_threads()}"
    yield f"{cores}, {platform.system()} {platform.machine()}"
    cuda = torch.version.cuda or torch.version.hip or "none"
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield f"{known}, CUDA of torch {cuda}, commit {commit() or 'unknown'}"


def _run(learner: Learner, config: DistillRun) -> Iterator[str]:
    """The settings that time and memory depend on."""
    student, trainer = learner.student, config.trainer
    name = config.model.name if Path(config.model.path).expanduser().exists() else config.model.path
    base = student.base
    attention = getattr(base.config.get_text_config(), "_attn_implementation", None)
    dtype, quantise = str(base.dtype).removeprefix("torch."), config.adapter.quantise
    yield f"{name}: {dtype}, attention {attention}, adapter.quantise={quantise} adapter.r={config.adapter.r}"
    groups = {"trainer": trainer, "rollout": config.rollout, "loss": config.loss}
    keys = (
        *("trainer.batch", "trainer.micro_batch", "trainer.micro_tokens", "trainer.gradient_checkpointing"),
        *("trainer.optimizer", "trainer.shard", "rollout.name", "rollout.batch", "rollout.n"),
        *("rollout.max_new_tokens", "loss.chunk"),
    )
    values = ((key, getattr(groups[key.split(".")[0]], key.split(".")[1])) for key in keys)
    shown = " ".join(f"{key}={'null' if value is None else str(value).lower()}" for key, value in values)
    yield f"{shown} routing={config.routing.name}, processes: {process_group.size()}"


def _phase_table(
    times: Mapping[str, PhaseTimes], peaks: Mapping[str, int], before: Line | None, *, on_cuda: bool
) -> Table:
    """One row for each phase, and one for the whole step."""
    table = Table()
    headings = ["phase", "calls", "seconds", "share", "before", "operators", "in them"]
    headings += ["waiting", "kernels", "device s", "busy"] if on_cuda else []
    for heading in (*headings, "peak GiB"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    whole = sum(found.seconds for found in times.values())

    def add(label: str, *of: PhaseTimes, then: float | None, peak: int | None) -> None:
        seconds, calls = sum(found.seconds for found in of), sum(found.calls for found in of)
        device = sum(sum(found.on_device.values()) for found in of)
        row = [
            label,
            f"{calls}" if len(of) == 1 and label != PHASES["step"] else "",
            f"{seconds:.3f}",
            f"{seconds / whole:.0%}" if whole else "",
            "" if then is None else f"{then:.3f}",
            f"{sum(found.operators.total() for found in of):,}",
            f"{sum(sum(found.on_cpu.values()) for found in of):.3f}",
        ]
        if on_cuda:
            row += [f"{sum(found.waiting for found in of):.3f}"]
            row += [f"{sum(found.kernels.total() for found in of):,}", f"{device:.3f}"]
            row += [f"{device / seconds:.0%}" if seconds else ""]
        table.add_row(*row, "" if peak is None else f"{peak / GIB:.2f}", end_section=label == PHASES["step"])

    earlier = _seconds(before) if before else {}
    for phase, label in PHASES.items():
        if phase in times:
            # The peak of the whole step is in the last row: "the rest" is not measured apart from it.
            peak = None if phase == "step" else peaks.get(phase)
            add(label, times[phase], then=earlier.get(phase), peak=peak)
    add("step", *times.values(), then=None, peak=peaks.get("step"))
    return table


def _seconds(line: Line) -> dict[str, float]:
    """The seconds of each phase without the phases inside it."""
    found = {name.removeprefix("seconds/"): value for name, value in line.items() if "seconds/" in name}
    if "learn" in found:
        found["learn"] -= found.get("loss", 0.0)
    return found


def _operator_table(times: Mapping[str, PhaseTimes], step: float, *, on_device: bool) -> Table:
    """The slowest operators of each phase on the CPU, or its slowest kernels on the device."""
    table = Table()
    what = ("kernel on the device", "seconds") if on_device else ("operator, without inner ones", "seconds")
    for heading in ("phase", what[0], "calls", what[1], "of the step"):
        table.add_column(heading, justify="left" if heading in ("phase", what[0]) else "right")
    for phase, label in PHASES.items():
        if phase not in times:
            continue
        found = times[phase]
        calls = found.kernels if on_device else found.operators
        taken = found.on_device if on_device else found.on_cpu
        slowest = sorted(taken, key=lambda name: -taken[name])[:SHOWN]
        for name in slowest:
            share = f"{taken[name] / step:.1%}" if step else ""
            shown = (label, name[:60], f"{calls[name]:,}", f"{taken[name]:.3f}", share)
            table.add_row(*shown, end_section=name == slowest[-1])
            label = ""
    return table
