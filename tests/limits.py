"""A quick test has a few seconds of processor time, and the files that take longest are started first."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Generator
from typing import Any

import pytest

SECONDS = 10.0  # of processor time, without the mark `slow`; the first test of a process also imports torch
LONGEST = (  # a worker gets whole files: those that take a minute must not come last
    "gpu/test_rehearsal.py",
    "training/test_resume.py",
    "evaluation/test_evaluate.py",
    "training/test_sharded_step.py",
    "training/test_processes.py",
    "training/test_step.py",
    "training/test_collapse.py",
    "test_package.py",
    "training/test_best_adapter.py",
    "config/test_config.py",
    "cli/test_cli.py",
    "generation/test_vllm.py",
    "models/test_families.py",
    "training/test_dry_run.py",
    "ablation/test_sweep.py",
    "models/test_known_configs.py",
    "test_docs.py",
    "generation/test_chat.py",
)


def used() -> float:
    """Seconds of processor time of this process and of the children that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def busy() -> bool:
    """Whether other programs share the processor, which makes the same work take more of its time."""
    return os.getloadavg()[0] > (os.cpu_count() or 1) + 1


def place(item: pytest.Item) -> str:
    """The file of a test, from the folder `tests`."""
    return item.nodeid.partition("::")[0].removeprefix("tests/")


def timed(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail if this part of a quick test takes too long; on a busy machine, only keep how long it took."""
    began = used()
    result = yield
    took = used() - began
    if took > SECONDS and item.get_closest_marker("slow") is None:
        said = f"{took:.0f} s of processor time, at most {SECONDS:.0f}: make it smaller, or mark it `slow`"
        if not busy():
            pytest.fail(said, pytrace=False)
        item.user_properties.append(("too long", said))
    return result


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the files; the tests of a file keep their order."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(place(item), len(rank)))


def summary(reporter: Any) -> None:
    """Name the tests that took too long on a busy machine."""
    reports = [one for kind in ("passed", "failed") for one in reporter.stats.get(kind, ())]
    for report in reports:
        for name, said in getattr(report, "user_properties", ()):
            if name == "too long":
                reporter.write_line(f"{report.nodeid}: {said} (the machine is busy)")
