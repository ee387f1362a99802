"""Helpers: a small `vigos distill` in its own process, and its results."""

from __future__ import annotations

import os

import warm
from safetensors.torch import load_file

RUN = [
    "distill",
    "trainer.steps=6",
    "trainer.batch=4",
    "trainer.checkpoint_every=2",
    "bench.tasks.priorworld.rows=1",
    "bench.samples=1",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def vigos(out, *overrides, check=True):
    return warm.run(warm.vigos, [*RUN, f"out={out}", *overrides], check=check, timeout=600)


def adapter(out):
    return load_file(out / "adapter" / "adapter_model.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def steps_logged(out) -> int:
    metrics = out / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0
