"""One run of the GPU checks: its folder, its processes, its time and its report.

checks = Checks(TWIN, folder, Path("gpu-report.md"))
with checks.check("eval"):                            # a failure is written down, and the next check runs
    checks.vigos("eval", *checks.recipe, name="eval")
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from gpu.gpu_report import Outcome, Report
from gpu.sizes import KILLED_AFTER, Size, overrides

from vigos_cli.utils.files import read_lines

TESTS = Path(__file__).parents[1]


class Failed(Exception):
    """A check found something wrong."""


def need(condition: object, message: str) -> None:
    """Raise Failed with this message unless the condition holds."""
    if not condition:
        raise Failed(message)


class Checks:
    """The folder, the report and the time of one run of all checks."""

    def __init__(self, size: Size, folder: Path, report: Path):
        self.size, self.folder, self.file = size, folder, report
        self.report = Report(size.name)
        self.model, self.twin, self.run = (folder / name for name in (size.key, "twin", "run"))
        self.end = time.monotonic() + 60 * size.minutes
        self.hashes: dict[str, str] = {}  # of the frozen weights, by the moment

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """Record whether the block passed, and write the report as far as it is."""
        began, error = time.monotonic(), None
        try:
            yield
        except Exception as found:
            error = str(found) if isinstance(found, Failed) else f"{type(found).__name__}: {found}"
        self.report.outcomes.append(Outcome(name, error, time.monotonic() - began))
        self.file.write_text(self.report.markdown(), encoding="utf-8")
        print(f"{name}: {'passed' if error is None else f'FAILED: {error}'}", flush=True)

    def child(self, *tasks: tuple[str, dict[str, Any]], name: str, killed: bool = False) -> dict[str, Any]:
        """The results of tasks that one process does; those that it did not reach have its end as error.

        Raises Failed if it takes too long, or if it should kill itself and does not.
        """
        result, log = self.folder / f"{name}.json", self.folder / f"{name}.log"
        command = [sys.executable, "-m", "gpu.child", str(result), json.dumps(tasks)]
        environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self.size.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        left = self.end - time.monotonic()
        need(left > 1, f"not started: the {self.size.minutes} minutes are over")
        with log.open("w") as out:
            try:
                code = subprocess.run(
                    command, cwd=TESTS, env=environment, stdout=out, stderr=subprocess.STDOUT, timeout=left
                ).returncode
            except subprocess.TimeoutExpired:
                raise Failed(
                    f"it was stopped, because the {self.size.minutes} minutes are over: {tail(log)}"
                ) from None
        found = json.loads(result.read_text()) if result.exists() else {}
        ended = {"error": f"exit code {code}: {tail(log)}"}
        need(not killed or code == -signal.SIGKILL, ended["error"])
        return {task: found.get(task, ended) for task, _ in tasks}

    def vigos(self, *argv: str, name: str, **options: Any) -> dict[str, Any]:
        """What one command of vigos has shown of itself."""
        found = self.child(("vigos", {"argv": argv, **options}), name=name, killed="kill_after" in options)
        return figures(found, "vigos")

    @property
    def recipe(self) -> list[str]:
        """The overrides of all commands."""
        return overrides(self.size, self.model)

    @property
    def adapter(self) -> str:
        """The override that names the trained adapter; that of the checkpoint if the run did not end."""
        for place in (self.run / "adapter", self.run / "checkpoints" / f"step-{KILLED_AFTER:06}"):
            if place.is_dir():
                return f"adapter.path={place}"
        raise Failed("not run: the run has left neither an adapter nor a checkpoint")

    @cached_property
    def small_checks(self) -> dict[str, Any]:
        """The results of the checks that need no whole run; one process does both."""
        device, low = self.size.device, self.size.low
        return self.child(
            ("optimizer", {"folder": str(self.folder / "optimizer"), "device": device}),
            ("gradients", {"folder": str(self.twin), "device": device, "dtype": low}),
            name="small",
        )

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of the run's metrics.jsonl."""
        return read_lines(self.run / "metrics.jsonl")


def figures(found: dict[str, Any], task: str) -> dict[str, Any]:
    """The figures of a task; raises Failed with its error."""
    need("error" not in found[task], str(found[task].get("error")))
    return found[task]["figures"]


def tail(log: Path) -> str:
    """The line of a log that says what went wrong: the last message of vigos, or the last lines."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip(" ^~")]
    said = [line for line in lines if line.startswith("vigos: ")]
    return (said[-1] if said else " / ".join(lines[-3:]) or "no output")[-600:]
