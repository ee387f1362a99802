"""Measure time and memory of the fused loss and of TRL's chunked divergence on the same inputs.

    pip install trl
    python tests/benchmarks/fused_loss.py --divergence forward_kl

Prints one line per chunk size. Seconds are the shortest of several runs of the loss and its backward pass;
the cases alternate, so that other load on the machine affects all of them. Memory is the peak resident size
of a new process minus its size with the inputs loaded (Linux). Differences are from TRL: of a token's
divergence in nats, and of the gradient in the hidden states relative to its largest entry.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import torch
from resident_memory import peak_memory
from torch import Tensor
from trl.kernels.chunked_divergence import (  # pyright: ignore[reportMissingImports]  # of the extra `bench`
    ChunkedDivergenceFunction,
)

from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import DivergenceSpec

TRL_BETA = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": 0.5}


def inputs(args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return student and teacher hidden states, the head, and sampled ids."""
    draw = torch.Generator().manual_seed(0)
    student_NH = torch.randn(args.tokens, args.width, generator=draw)
    teacher_NH = student_NH + 0.3 * torch.randn(args.tokens, args.width, generator=draw)
    head_VH = torch.randn(args.vocab, args.width, generator=draw).div_(args.width**0.5)
    sampled_N = torch.randint(args.vocab, (args.tokens,), generator=draw)
    return student_NH.requires_grad_(), teacher_NH, head_VH, sampled_N


def run(case: str, data: tuple[Tensor, Tensor, Tensor, Tensor], divergence: str) -> tuple[Tensor, Tensor]:
    """Run loss and backward of one case: `trl`, or a chunk size; return divergence_N and the gradient."""
    student_NH, teacher_NH, head_VH, sampled_N = data
    student_NH.grad = None
    if case == "trl":
        divergence_N, _ = ChunkedDivergenceFunction.apply(
            student_NH, head_VH, None, teacher_NH, head_VH, None, TRL_BETA[divergence]
        )
        divergence_N.mean().backward()
    else:
        weight_N = torch.full((len(student_NH),), 1 / len(student_NH))
        spec = DivergenceSpec(divergence)
        loss, stats = fused_loss(student_NH, teacher_NH, head_VH, sampled_N, weight_N, spec, chunk=int(case))
        loss.backward()
        divergence_N = stats.divergence_N
    assert student_NH.grad is not None
    return divergence_N.detach(), student_NH.grad


def main() -> None:
    """Print the table, or with --memory-of the peak memory of one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--divergence", choices=[*TRL_BETA], default="forward_kl")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--chunks", nargs="+", default=["32", "64", "128"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-of", metavar="CASE", help="print the peak memory of one case, in GB")
    args = parser.parse_args()
    if args.memory_of:
        data = inputs(args)
        print(peak_memory(lambda: run(args.memory_of, data, args.divergence)) / 1e9)
        return

    cases = [*args.chunks, "trl"]
    command = [sys.executable, *sys.argv, "--memory-of"]
    memory = {
        case: float(subprocess.run([*command, case], check=True, capture_output=True, text=True).stdout)
        for case in cases
    }
    data, seconds, results = inputs(args), {case: [] for case in cases}, {}
    for _ in range(args.repeats):
        for case in cases:
            start = time.perf_counter()
            results[case] = run(case, data, args.divergence)
            seconds[case].append(time.perf_counter() - start)

    trl_divergence_N, trl_grad_NH = results["trl"]
    print(f"{args.divergence}, {args.tokens} tokens, V {args.vocab}, H {args.width}, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, least of {args.repeats}")
    print(f"{'':>12}{'seconds':>10}{'of TRL':>10}{'peak GB':>10}{'value':>12}{'gradient':>12}")
    for case in cases:
        divergence_N, grad_NH = results[case]
        least = min(seconds[case])
        value = (divergence_N - trl_divergence_N).abs().max()
        gradient = (grad_NH - trl_grad_NH).abs().max() / trl_grad_NH.abs().max()
        name = "trl" if case == "trl" else f"chunk {case}"
        print(f"{name:>12}{least:>10.2f}{least / min(seconds['trl']):>10.2f}{memory[case]:>10.3f}", end="")
        print(f"{value:>12.1e}{gradient:>12.1e}")


if __name__ == "__main__":
    main()
