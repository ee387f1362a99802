"""Measure a target of several contexts against as many plain teachers, in time and memory.

    OMP_NUM_THREADS=1 python tests/benchmarks/targets.py --vocab 49152

A plain teacher costs a projection of the student, one of the teacher, a score and a gradient; a target of n
contexts costs n + 1 projections, the composition of the target, one score and one gradient. Prints one line
per case: median processor seconds of the loss and its backward pass, their ratio to the plain teachers, and
the peak resident size of a new process minus its size with the inputs loaded (Linux). The cases alternate,
and time is that of the process and not of the clock, so that other load on the machine matters little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

import torch
from resident_memory import peak_memory
from torch import Tensor

from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.method.targets import Contrast

TARGETS = {  # by number of contexts: the cheapest options, and all of them
    2: {
        "contrast": Contrast("a", "a", "b"),
        "support": Contrast("a", "a", "b", support_of="a", exempt=(1, 2)),
        "floor": Contrast("a", "a", "b", scale=0.5, floor=-5.0),
    },
    3: {
        "contrast": Contrast("a", "b", "c"),
        "soft": Contrast("a", "b", "c", centre=True, tanh=10.0),
        "all": Contrast("a", "b", "c", 0.5, True, 10.0, -5.0, "a", exempt=(1, 2), temperature="after"),
    },
}
Data = tuple[Tensor, dict[str, Tensor], Tensor, Tensor, Tensor]


def inputs(args: argparse.Namespace) -> Data:
    """Return student, contexts, head, sampled ids and weights."""
    draw = torch.Generator().manual_seed(0)
    student_NH = torch.randn(args.tokens, args.width, generator=draw)
    contexts = {
        name: student_NH + 0.3 * torch.randn(args.tokens, args.width, generator=draw)
        for name in "abc"[: args.contexts]
    }
    head_VH = torch.randn(args.vocab, args.width, generator=draw).div_(args.width**0.5)
    sampled_N = torch.randint(args.vocab, (args.tokens,), generator=draw)
    weight_N = torch.full((args.tokens,), 1 / args.tokens)
    return student_NH.requires_grad_(), contexts, head_VH, sampled_N, weight_N


def run(case: str, data: Data, args: argparse.Namespace) -> None:
    """Run the loss and its backward pass: of a target, or `plain`, of each context as a teacher."""
    student_NH, contexts, head_VH, sampled_N, weight_N = data
    rest = head_VH, sampled_N, weight_N, DivergenceSpec(args.divergence, temperature=args.temperature)
    student_NH.grad = None
    if case == "plain":
        for teacher_NH in contexts.values():
            fused_loss(student_NH, teacher_NH, *rest, chunk=args.chunk)[0].backward()
    else:
        target = TARGETS[args.contexts][case]
        fused_loss(student_NH, contexts, *rest, chunk=args.chunk, target=target)[0].backward()


def main() -> None:
    """Print the table, or with --memory-of the peak memory of one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--contexts", type=int, choices=[*TARGETS], default=2)
    parser.add_argument("--divergence", default="forward_kl")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="+", help="only these targets, besides the plain teachers")
    parser.add_argument("--memory-of", metavar="CASE", help="print the peak memory of one case, in MB")
    args = parser.parse_args()
    if args.memory_of:
        data = inputs(args)
        print(peak_memory(lambda: run(args.memory_of, data, args)) / 1e6)
        return

    cases = ["plain", *(args.cases or TARGETS[args.contexts])]
    command = [sys.executable, *sys.argv, "--memory-of"]
    memory = {
        case: float(subprocess.run([*command, case], check=True, capture_output=True, text=True).stdout)
        for case in cases
    }
    data, seconds = inputs(args), {case: [] for case in cases}
    for _ in range(args.repeats):
        for case in cases:
            start = time.process_time()
            run(case, data, args)
            seconds[case].append(time.process_time() - start)

    print(f"{args.divergence}, {args.contexts} contexts, {args.tokens} tokens, V {args.vocab}, ", end="")
    print(f"H {args.width}, {torch.get_num_threads()} threads, torch {torch.__version__}, ", end="")
    print(f"median of {args.repeats}")
    print(f"{'':>12}{'seconds':>10}{'of plain':>10}{'peak MB':>10}")
    for case in cases:
        middle = median(seconds[case])
        print(f"{case:>12}{middle:>10.2f}{middle / median(seconds['plain']):>10.2f}{memory[case]:>10.0f}")


if __name__ == "__main__":
    main()
