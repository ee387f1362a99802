"""Helpers: a small `vigos distill` in its own process, and its results."""

from __future__ import annotations

import os
import subprocess
import sys

from safetensors.torch import load_file

RUN = [
    "distill",
    "trainer.steps=6",
    "trainer.batch=4",
    "trainer.checkpoint_every=2",
    "bench.tasks.priorworld.rows=2",
    "bench.samples=1",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def vigos(out, *overrides, launcher=(), check=True, **options):
    command = [sys.executable, *launcher, "-m", "vigos_cli", *RUN, f"out={out}", *overrides]
    return subprocess.run(
        command, env=ENVIRONMENT, check=check, capture_output=True, text=True, timeout=600, **options
    )


def adapter(out):
    return load_file(out / "adapter" / "adapter_model.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def steps_logged(out) -> int:
    metrics = out / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0
