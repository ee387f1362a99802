"""Count the bytes that the processes of one run give to torch.distributed, by purpose.

python tests/benchmarks/exchanged_bytes.py            # two processes, the tiny model; about a minute
python tests/benchmarks/exchanged_bytes.py 3          # three processes

A process counts what it gives to torch.distributed itself. How much of it goes over a network depends on the
number of processes: in a ring, an exchange of B bytes between n processes sends and receives 2 B (n - 1) / n
for a sum, and each process receives the objects of all others.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

STEPS = 4
RUN = (
    "distill",
    f"trainer.steps={STEPS}",
    "trainer.batch=32",
    "trainer.checkpoint_every=2",
    "bench.tasks.priorworld.rows=8",
    "bench.samples=1",
)
PURPOSES = {  # the function that exchanges -> its purpose
    "sum_gradients": "gradients, summed",
    "weigh_terms": "divisors of the means",
    "_describe_loss": "losses and divergences of the line in metrics.jsonl",
    "_describe_rollouts": "rollouts of this line",
    "line": "counts of this line",
    "train": "whether to stop, to evaluate or to keep the adapter",
    "responses": "answers of the evaluations, as text",
}


def purpose() -> str:
    """The purpose of the exchange that is going on, from the functions that have been called."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if "vigos_cli" in frame.f_code.co_filename:
            name = frame.f_code.co_name
            if not frame.f_code.co_filename.endswith("process_group.py") or name == "sum_gradients":
                return PURPOSES.get(name, f"{name} (start or end of the run)")
        frame = frame.f_back
    return "start of torch.distributed"


def count(out: Path) -> None:
    """Run vigos in this process, and write what it has exchanged."""
    from torch.distributed import distributed_c10d

    from vigos_cli.training import loop
    from vigos_cli.utils import process_group

    calls: defaultdict[str, list[int]] = defaultdict(list)  # bytes of every call
    before_steps: dict[str, int] = {}
    reduce, gather, step = process_group.distributed.all_reduce, distributed_c10d.all_gather, loop.train_step

    def all_reduce(tensor: Any, *rest: Any, **options: Any) -> Any:
        calls[purpose()].append(tensor.numel() * tensor.element_size())
        return reduce(tensor, *rest, **options)

    def all_gather(parts: Any, tensor: Any, *rest: Any, **options: Any) -> Any:
        calls[purpose()].append(tensor.numel() * tensor.element_size())
        return gather(parts, tensor, *rest, **options)

    def train_step(learner: Any, *rest: Any) -> Any:
        before_steps["weights"] = sum(p.numel() for p in learner.student.adapter.values())
        return step(learner, *rest)

    process_group.distributed.all_reduce, distributed_c10d.all_gather = all_reduce, all_gather
    loop.train_step = train_step
    sys.argv = ["vigos", *RUN, f"out={out / 'run'}"]
    from vigos_cli.__main__ import main

    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    if os.environ["RANK"] == "0":
        (out / "counted.json").write_text(json.dumps({**before_steps, "calls": calls}))


def report(found: dict[str, Any], processes: int) -> None:
    """Print the table: bytes of one process in a step, and what is exchanged outside the steps."""
    weights = found.pop("weights")
    each_step = {name for name in PURPOSES.values() if not name.startswith("answers")}
    print(f"{processes} processes, {STEPS} steps of 32 rollouts, an adapter of {weights:,} weights\n")
    print("| purpose | bytes a step, of one process | exchanges a step |\n|---|---|---|")
    total = 0.0
    for name, sizes in found["calls"].items():
        if name in each_step:
            total += sum(sizes) / STEPS
            print(f"| {name} | {sum(sizes) / STEPS:,.0f} | {len(sizes) / STEPS:g} |")
    print(f"| together | {total:,.0f} | |")
    gradients = sum(found["calls"]["gradients, summed"]) / STEPS
    print(f"\ngradients: {gradients / weights:g} bytes for each weight of the adapter, in one exchange")
    print(f"all else in a step: {total - gradients:,.0f} bytes\n\noutside the steps:")
    for name, sizes in found["calls"].items():
        if name not in each_step:
            print(f"  {name}: {sum(sizes):,} bytes in {len(sizes)} exchanges")


def main() -> None:
    """Start the processes and print the table."""
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        several = [
            subprocess.Popen(
                [sys.executable, __file__, "--count", folder],
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "RANK": str(rank),
                    "WORLD_SIZE": str(processes),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                },
                stdout=subprocess.DEVNULL,
            )
            for rank in range(processes)
        ]
        assert [process.wait() for process in several] == [0] * processes
        report(json.loads((Path(folder) / "counted.json").read_text()), processes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        count(Path(sys.argv[2]))
    else:
        main()
