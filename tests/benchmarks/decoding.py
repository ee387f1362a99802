"""Compare the decoding loop with transformers' `generate`: tokens a second, and the tokens themselves.

    OMP_NUM_THREADS=2 python tests/benchmarks/decoding.py            # the tiny model, 32 rows at once
    OMP_NUM_THREADS=2 python tests/benchmarks/decoding.py --model 360 --rows 16 --tokens 64 --batch 16

The rows are training prompts of PriorWorld, and the adapter has a random second factor. Both sides alternate;
a rate is that of the fastest of several rounds. A turn differs if one of its tokens does. The last column is
the margin of the first token that differs: by how much its logit would have to change to be the other one's
(greedy), which shows whether both candidates are equal up to rounding.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from plan import SIZES, save_model

from vigos_cli.config.compose import job
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation import sampler
from vigos_cli.generation.keyed_choice import Sampling
from vigos_cli.generation.sampler import Request, SamplingJob, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.types import Rollout


def student_and_requests(args: argparse.Namespace, folder: Path) -> tuple[Student, list[Request]]:
    """The student, and `rows` requests with `draws` draws for each prompt."""
    overrides = list(args.overrides)
    if args.model:
        (size,) = (size for name, size in SIZES.items() if args.model in name)
        save_model(folder, size)
        overrides.append(f"model.path={folder}")
    config: Any = job("distill", ["out=unused", *overrides])
    student = load_student(config.model, config.adapter, seed=config.seed)
    draw = torch.Generator().manual_seed(0)
    for name, p in student.adapter.items():
        if "lora_B" in name:
            p.data.copy_(torch.randn(p.shape, generator=draw) * 0.02)
    made = Prompter(student.processor, config.prompt, config.routing)
    prompts = [
        (sample.id, made.render(STUDENT, made.encode(sample.images), question=sample.question))
        for sample in list(PriorWorld(size=args.rows // args.draws))
    ]
    return student, [Request(id, prompt, draw) for id, prompt in prompts for draw in range(args.draws)]


@torch.no_grad()
def margin(student: Student, ours: Rollout, theirs: Rollout) -> float:
    """The difference of the logits of the first two tokens that differ."""
    at = next(i for i, (a, b) in enumerate(zip(ours.ids, theirs.ids, strict=False)) if a != b)
    ids = (*ours.prompt.ids, *ours.ids[:at])
    logits_V = student.hidden(student.batch([ids], [ours.prompt]))[0, -1] @ student.head_VH.T
    return float((logits_V[ours.ids[at]] - logits_V[theirs.ids[at]]).abs())


def main() -> None:
    """Print one line for greedy and one for sampled turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="a random model of tests/benchmarks/plan.py, such as 360")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--draws", type=int, default=1, help="draws of each prompt")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="such as adapter=qlora model.dtype=bfloat16")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        student, requests = student_and_requests(args, Path(folder))
    print(f"{args.rows} rows, {args.batch} at once, {args.draws} a prompt, {torch.get_num_threads()} threads")
    print(
        f"{'':>10}{'tokens':>9}{'generate/s':>12}{'loop/s':>9}{'ratio':>7}{'turns that differ':>19}  margins"
    )
    for name, temperature in (("greedy", 0.0), ("sampled", 1.1)):
        wanted = SamplingJob(
            requests, Sampling(args.tokens, temperature, 0.95, 20), key=(0,), batch=args.batch
        )
        seconds: dict[bool, list[float]] = {False: [], True: []}
        turns: dict[bool, list[Rollout]] = {}
        own: Any = sampler.can_decode
        for _ in range(args.rounds):
            for loop in (False, True):
                sampler.can_decode = own if loop else (lambda student: False)
                if student.pictures:  # the loop would take them from the round before; `generate` does not
                    student.pictures.forget()
                start = time.perf_counter()
                turns[loop] = roll_out(student, wanted)
                seconds[loop].append(time.perf_counter() - start)
        sampler.can_decode = own
        tokens = sum(len(turn.ids) for turn in turns[True])
        theirs, ours = (tokens / min(seconds[loop]) for loop in (False, True))
        pairs = [pair for pair in zip(turns[True], turns[False], strict=True) if pair[0].ids != pair[1].ids]
        margins = ", ".join(f"{margin(student, *pair):.1e}" for pair in pairs[:5])
        print(f"{name:>10}{tokens:>9,}{theirs:>12,.0f}{ours:>9,.0f}{ours / theirs:>7.2f}", end="")
        print(f"{f'{len(pairs)} of {len(requests)}':>19}  {margins}")


if __name__ == "__main__":
    main()
