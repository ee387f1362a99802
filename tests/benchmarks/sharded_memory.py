"""Measure the memory of a process with and without a split model (`trainer.shard=fsdp2`), on the CPU.

python tests/benchmarks/sharded_memory.py          # two random models of 340 to 360 million weights, bfloat16

One model has most of its weights in the vocabulary and the vision tower, which are not split; the other has
them in its layers, as large models have. Each line has the figures of one process of a case:

    weights     the sum of what the process holds of the frozen weights
    loaded      resident memory after loading, minus that before it
    load peak   the same at its largest moment while the model loads
    pass peak   the same while a text of 128 tokens goes forward and backward

The file has the weights in float32, and a process that reads it maps it into its memory while it loads. A
file in bfloat16 would stay mapped, and the operating system would count only the pages that were used.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from plan import SIZES, save_model

MODELS = {
    "vocabulary": SIZES["360 M"],
    "layers": (1024, 2816, 27, 16, 16_000, 128, 3, 4),
}
CASES = {"1 process": (1, False), "2 processes": (2, False), "2 processes, split": (2, True)}
FIGURES = ("weights", "loaded", "load peak", "pass peak")
MIB = 2**20


def measure(rank: int, size: int, port: int, folder: str, sharded: bool, results: Any) -> None:
    """Put the figures of this process into `results`, in bytes."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), **shared}
    import torch
    from resident_memory import peak_memory, resident

    from vigos_cli.config.compose import job
    from vigos_cli.models.student_loading import load_student
    from vigos_cli.utils import process_group

    torch.set_num_threads(1)
    process_group.start(torch.device("cpu"))
    tiny = job("distill", ["out=unused"])
    load_student(
        tiny.model, tiny.adapter, sharded=sharded
    )  # torch and its exchange allocate when they first run
    config = job("distill", [f"model.path={folder}", "model.dtype=bfloat16", "out=unused"])
    kept: list[Any] = []
    before = resident()
    loading = peak_memory(lambda: kept.append(load_student(config.model, config.adapter, sharded=sharded)))
    loaded = resident() - before
    student = kept[0]
    student.recompute_activations()
    student.net.train()
    ids = torch.arange(128)[None] + 100

    def both_ways() -> None:
        hidden = student.hidden({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        hidden.float().square().mean().backward()

    passing = loaded + peak_memory(both_ways)
    frozen = [p for name, p in student.net.named_parameters() if name not in student.adapter]
    local = [p.to_local() if hasattr(p, "to_local") else p for p in frozen]
    held = sum(p.numel() * p.element_size() for p in local)
    results.put((rank, {"weights": held, "loaded": loaded, "load peak": loading, "pass peak": passing}))
    if size > 1:
        torch.distributed.destroy_process_group()


def run(folder: Path, size: int, sharded: bool) -> list[dict[str, int]]:
    """The figures of each process, in the order of ranks."""
    context = get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = context.Queue()
    processes = [
        context.Process(target=measure, args=(rank, size, port, str(folder), sharded, results))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=900) for _ in processes)
    for process in processes:
        process.join()
    return [found[rank] for rank in range(size)]


def main() -> None:
    """Print one line for each model and case."""
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    print(f"| model | processes | rank | {' | '.join(f'{name}, MiB' for name in FIGURES)} |")
    print("|---|---|---|---|---|---|---|")
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as temporary:
        for model, numbers in ((model, numbers) for model, numbers in MODELS.items() if wanted in model):
            folder = Path(temporary) / model
            save_model(folder, numbers)
            for case, (size, sharded) in CASES.items():
                for rank, figures in enumerate(run(folder, size, sharded)):
                    values = " | ".join(f"{figures[name] / MIB:.0f}" for name in FIGURES)
                    print(f"| {model} | {case} | {rank} | {values} |", flush=True)


if __name__ == "__main__":
    main()
