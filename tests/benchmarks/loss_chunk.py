"""Measure the fused loss with several chunks: CPU time, peak memory, and what the program chooses itself.

    OMP_NUM_THREADS=1 python tests/benchmarks/loss_chunk.py --shape 151936 1536 bfloat16 --tokens 1024

Prints one line for each chunk; `null` is the choice of `vigos_cli.method.loss_chunk`. Seconds are CPU time,
the least of several runs of the loss and its backward pass; the chunks alternate, so that other load on the
machine affects all of them. Memory is the peak resident size of a new process minus its size with the
inputs loaded (Linux). The difference is that of the loss from the first chunk of the list.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from resident_memory import peak_memory

from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import DivergenceSpec


def loss_of(args: argparse.Namespace) -> Callable[[str], float]:
    """The loss and its backward pass on random inputs, as a function of the chunk."""
    (vocabulary, width), dtype = map(int, args.shape[:2]), getattr(torch, args.shape[2])
    draw = torch.Generator().manual_seed(0)
    student_NH = torch.randn(args.tokens, width, generator=draw)
    teacher_NH = (student_NH + 0.3 * torch.randn(args.tokens, width, generator=draw)).to(dtype)
    head_VH = torch.randn(vocabulary, width, generator=draw).div_(width**0.5).to(dtype)
    sampled_N = torch.randint(vocabulary, (args.tokens,), generator=draw)
    student_NH = student_NH.to(dtype).requires_grad_()
    weight_N = torch.full((args.tokens,), 1 / args.tokens)

    def run(chunk: str) -> float:
        student_NH.grad = None
        rows = None if chunk == "null" else int(chunk)
        spec = DivergenceSpec(args.divergence)
        loss, _ = fused_loss(student_NH, teacher_NH, head_VH, sampled_N, weight_N, spec, chunk=rows)
        loss.backward()
        return float(loss.detach())

    return run


def main() -> None:
    """Print the table, or with --memory-of the peak memory of one chunk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--divergence", default="forward_kl")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--shape", nargs=3, metavar=("V", "H", "DTYPE"), default=["151936", "256", "float32"])
    parser.add_argument("--chunks", nargs="+", default=["64", "null"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-of", metavar="CHUNK", help="print the peak memory of one chunk, in MiB")
    args = parser.parse_args()
    run = loss_of(args)
    if args.memory_of:
        print(peak_memory(lambda: run(args.memory_of)) / 2**20)
        return
    command = [sys.executable, *sys.argv, "--memory-of"]
    memory = {
        chunk: float(subprocess.run([*command, chunk], check=True, capture_output=True, text=True).stdout)
        for chunk in args.chunks
    }
    seconds, losses = {chunk: [] for chunk in args.chunks}, {}
    for _ in range(args.repeats):
        for chunk in args.chunks:
            start = time.process_time()
            losses[chunk] = run(chunk)
            seconds[chunk].append(time.process_time() - start)
    print(f"{args.divergence}, {args.tokens} tokens, V H dtype {' '.join(args.shape)}, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, least of {args.repeats}")
    print(f"{'chunk':>8}{'CPU seconds':>14}{'peak MiB':>12}{'difference':>14}")
    for chunk in args.chunks:
        difference = abs(losses[chunk] - losses[args.chunks[0]])
        print(f"{chunk:>8}{min(seconds[chunk]):>14.3f}{memory[chunk]:>12.0f}{difference:>14.1e}")


if __name__ == "__main__":
    main()
