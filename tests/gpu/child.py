"""One process of the GPU checks: it does tasks and writes their figures, or their errors, to a JSON file.

    python -m gpu.child RESULT.json '[["vigos", {"argv": ["distill", ...], "turns": true}]]'
    {"vigos": {"figures": {...}}}

Every command of vigos has a process of its own, so the peak of memory is its own, and an error of the card
ends only this process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gpu.injected_turns import InjectedTurns
from gpu.sizes import SIZES

from vigos_cli.utils.errors import one_line


def machine(device: str) -> dict[str, Any]:
    """The card, its driver and the versions of the libraries."""
    from gpu.machine import describe

    return describe(picked(device))


def weights(folders: dict[str, str], device: str) -> dict[str, Any]:
    """Write models with random weights: name of a size -> folder. Returns their numbers of parameters."""
    from gpu.random_model import write_model

    return {size: write_model(SIZES[size], Path(folder), picked(device)) for size, folder in folders.items()}


def optimizer(folder: str, device: str) -> dict[str, Any]:
    """Save and load the 8-bit optimizer."""
    from gpu.small_checks import resumed_optimizer

    return resumed_optimizer(Path(folder), picked(device))


def gradients(folder: str, device: str, dtype: str, seed: int = 0) -> dict[str, Any]:
    """The loss and the gradient of the twin on this device, and in float32 on the CPU."""
    from gpu.small_checks import compare_gradients

    return compare_gradients(Path(folder), device, dtype, seed)


def vigos(
    argv: Sequence[str], turns: bool = False, peaks: bool = False, kill_after: int | None = None
) -> dict[str, Any]:
    """Run a command of vigos, with half of the rollouts replaced by valid turns if `turns` is set.

    `peaks` measures the memory of each phase, as the dry run does. With `kill_after` the process kills itself
    when it samples the rollouts after this number of steps.
    """
    watch = Watch()

    def at_step(step: int) -> None:
        if step == kill_after:
            write({"vigos": {"figures": watch.figures()}})
            os.kill(os.getpid(), signal.SIGKILL)

    with watch.inside(peaks, at_step if turns else None):
        code = command(argv)
    if code:
        sys.exit(code)
    return watch.figures() | plan(argv)


def command(argv: Sequence[str]) -> int:
    """The exit code of `vigos ARGV`."""
    from vigos_cli.__main__ import main

    sys.argv = ["vigos", *argv]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def plan(argv: Sequence[str]) -> dict[str, Any]:
    """What `plan=true` estimates for a distillation, in bytes."""
    if argv[0] != "distill":
        return {}
    from dataclasses import asdict

    from vigos_cli.config.compose import job
    from vigos_cli.models.memory_plan import estimate_memory, shape_of

    config = job("distill", list(argv[1:]))
    shape = shape_of(config)
    found = estimate_memory(config, shape)
    return {"plan": asdict(found) | {"peak": found.peak, "adapter": 4 * shape.adapter_weights}}


class Watch:
    """Watches a distillation in this process: its learner, its frozen weights and its memory."""

    def __init__(self) -> None:
        self.learner: Any = None
        self.frozen: str | None = None
        self.before = 0  # bytes of the process before the weights are loaded; on a card none are counted

    @contextmanager
    def inside(self, peaks: bool, at_step: Callable[[int], object] | None) -> Iterator[None]:
        """Put itself, and the injected turns, into `vigos distill`."""
        from vigos_cli.models.peak_memory import PhasePeaks
        from vigos_cli.training import distill as module

        real = {name: getattr(module, name) for name in ("load_student", "make_learner", "engine_of")}

        def load_student(config: Any, *rest: Any, **options: Any) -> Any:
            if module.pick_device(config.device).type == "cpu":
                self.before = resident()
            return real["load_student"](config, *rest, **options)

        def make_learner(student: Any, config: Any) -> Any:
            self.learner, self.frozen = real["make_learner"](student, config), student.frozen_hash()
            if peaks:
                self.learner.peaks = PhasePeaks(student.device)
                with self.learner.timed("weights"):
                    pass
            return self.learner

        def engine_of(config: Any, student: Any) -> Any:
            if at_step is None:
                return real["engine_of"](config, student)
            return InjectedTurns(student, config.rollout.max_new_tokens, at_step)

        module.load_student, module.make_learner, module.engine_of = load_student, make_learner, engine_of
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(module, name, function)

    def figures(self) -> dict[str, Any]:
        """What was seen; memory in bytes, without that of the process before the run."""
        from vigos_cli.models.peak_memory import GIB, peak_gib

        if self.learner is None:
            return {}
        seen = self.learner.peaks.bytes if self.learner.peaks else {}
        return {
            "frozen": self.frozen,
            "dtype": str(self.learner.student.base.dtype).removeprefix("torch."),
            "seconds": dict(self.learner.seconds),
            "phases": {phase: value - self.before for phase, value in seen.items()},
            "peak": int(peak_gib(self.learner.student.device) * GIB) - self.before,
            "context": self._context(),
        }

    def _context(self) -> int:
        """Memory that is not the run's: CUDA and its libraries; on the CPU Python and its libraries."""
        device = self.learner.student.device
        if device.type == "cpu":
            return self.before
        free, total = torch.cuda.mem_get_info(device)
        return total - free - torch.cuda.memory_reserved(device)


def resident() -> int:
    """The resident memory of this process in bytes; its greatest value so far where Linux is missing."""
    from vigos_cli.models.peak_memory import GIB, peak_gib

    status = Path("/proc/self/status")
    if not status.exists():
        return int(peak_gib(torch.device("cpu")) * GIB)
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def picked(device: str) -> torch.device:
    """The device of `model.device`."""
    from vigos_cli.models.pretrained import pick_device

    return pick_device(device)


def write(found: dict[str, Any]) -> None:
    """Write the result file, completely or not at all."""
    draft = RESULT.with_suffix(".draft")
    draft.write_text(json.dumps(found))
    draft.replace(RESULT)


RESULT = Path(sys.argv[1] if len(sys.argv) > 1 else "result.json").absolute()
TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": machine,
    "weights": weights,
    "optimizer": optimizer,
    "gradients": gradients,
    "vigos": vigos,
}


def main() -> None:
    """Do the tasks that the command line names, one after the other; a task that fails does not stop them."""
    found: dict[str, Any] = {}
    for task, options in json.loads(sys.argv[2]):
        try:
            found[task] = {"figures": TASKS[task](**options)}
        except Exception as error:
            traceback.print_exc()
            found[task] = {"error": f"{type(error).__name__}: {one_line(error)}"}
        write(found)


if __name__ == "__main__":
    main()
