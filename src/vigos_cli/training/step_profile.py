"""`trainer.profile=true`: where the time of one training step goes, by phase and by operator.

    profile = StepProfile(learner, config, steps)
    while learner.step < steps:
        with profile.of_step():                    # records the third step that this process takes
            line = train_step(...)
        profile.write(line)                        # of that step: profile.txt, profile-trace.json.gz

The run goes on after this step, with the same results: the profiler draws no random number. Only the first
process records and writes. The third step is warm: the memory, the kernels and the caches of the first
steps are there. A run with fewer steps left has its last one recorded. Recording makes the step slower, so
the table also has the seconds of the step before it, which was not recorded.
"""

from __future__ import annotations

import gzip
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from vigos_cli.config.schema import DistillRun
from vigos_cli.models.peak_memory import PhasePeaks
from vigos_cli.training.learner import Learner
from vigos_cli.training.phase_times import PREFIX, Event, phase_times
from vigos_cli.training.profile_report import profile_report
from vigos_cli.utils import process_group
from vigos_cli.utils.console import Terminal
from vigos_cli.utils.files import drafted

WARM = 3  # the step of this process that is recorded
HOST = re.compile(rb'\s*"host_name": *"[^"]*",')
EDGE, BLOCK = 2**16, 2**24  # bytes of the trace that may have a name, and that are copied at once
TEXT, TRACE = "profile.txt", "profile-trace.json.gz"  # in the run's folder


class StepProfile:
    """Records one of the steps that are left, and writes what it found."""

    def __init__(self, learner: Learner, config: DistillRun, steps: int):
        wanted = config.trainer.profile and process_group.rank() == 0
        self.recorded = min(learner.step + WARM, steps) if wanted else None
        self.learner, self.config, self.steps = learner, config, steps
        self.before: Mapping[str, Any] | None = None  # the line of the step before
        self.found: profile | None = None

    @contextmanager
    def of_step(self) -> Iterator[None]:
        """Record the step inside, if it is the one."""
        if self.learner.step + 1 != self.recorded:
            yield
            return
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # of the profiler's own notices
        on_cuda = self.learner.student.device.type == "cuda"
        devices = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
        self.learner.peaks = PhasePeaks(self.learner.student.device)
        whole = self.learner.peaks.of("step")
        with profile(activities=devices) as self.found, whole, record_function(f"{PREFIX}step"):
            yield

    def write(self, line: Mapping[str, Any]) -> None:
        """Write the files after the recorded step, with its line of metrics.jsonl, and print the table."""
        if self.found is None:
            self.before = line
            return
        out, began = Path(self.config.out), time.perf_counter()
        peaks = self.learner.peaks.bytes if self.learner.peaks else {}
        times = phase_times(_events(self.found))
        _write_trace(self.found, out / TRACE)
        self.found = self.recorded = self.learner.peaks = None
        text = StringIO()
        console = Terminal(file=text, width=110)
        seconds = time.perf_counter() - began
        for part in profile_report(self.learner, self.config, times, peaks, (self.before, line), seconds):
            console.print(part, highlight=False, markup=False)
        with drafted(out / TEXT) as draft:
            draft.write_text(text.getvalue(), encoding="utf-8")
        print(text.getvalue())
        going_on = "; the run goes on" if self.learner.step < self.steps else ""
        print(f"step {self.learner.step} is profiled in {out / TEXT} and {TRACE}{going_on}")


def _events(found: profile) -> Iterator[Event]:
    """The events as they were recorded. `found.events()` takes about twenty times as long for the same."""
    assert found.profiler is not None and found.profiler.kineto_results is not None
    for event in found.profiler.kineto_results.events():
        start = event.start_ns()
        yield Event(
            event.name(),
            start,
            start + event.duration_ns(),
            on_device=event.device_type().name != "CPU",
            mark=event.activity_type().endswith("user_annotation"),  # a device has copies of the marks
            thread=event.start_thread_id(),
        )


def _write_trace(found: profile, file: Path) -> None:
    """Write the Chrome trace without the names of the machine and of its folders."""
    with tempfile.TemporaryDirectory() as folder, drafted(file) as draft:
        whole = Path(folder) / "trace.json"
        found.export_chrome_trace(str(whole))
        size = whole.stat().st_size
        with whole.open("rb") as source, gzip.open(draft, "wb", compresslevel=6) as packed:
            # Both names stand in the first and last lines. The file may have gigabytes, most of them between.
            packed.write(HOST.sub(b"", source.read(min(EDGE, size))))
            while (left := size - source.tell()) > 0:
                block = source.read(min(BLOCK, left - EDGE) if left > EDGE else left)
                packed.write(block.replace(bytes(whole), b"trace.json") if left <= EDGE else block)
