"""Measure the time and the memory of one training step of a random model, also against another checkout.

    python tests/benchmarks/learning_step.py
    python tests/benchmarks/learning_step.py --against ../vigos-before --rounds 3
    python tests/benchmarks/learning_step.py --tokens 256 --rows 8 --pixels 200704 trainer.micro_batch=2

The model has the shape of a small Qwen2-VL with the vocabulary of a large one: by default 44 M weights and
151,936 tokens. Every row has a completion of `--tokens` tokens in the required format, except for one, which
has no format. The step samples as many tokens as it would otherwise, then learns from these completions.
Seconds are the least of the rounds. Each round is a new process, and the checkouts alternate. Memory is what
the step adds to the process at its largest moment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plan import save_model

HEAD, TAIL = " A red cube. </description> <think>", " </think> \\boxed{red}"
PHASES = ("rollout", "teachers", "learn")


def parser() -> argparse.ArgumentParser:
    """The options of a measurement."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--tokens", type=int, default=512, help="length of a completion")
    made.add_argument("--rows", type=int, default=4)
    made.add_argument("--draws", type=int, default=1, help="rows of each prompt")
    made.add_argument("--vocabulary", type=int, default=151_936)
    made.add_argument("--width", type=int, default=256)
    made.add_argument("--layers", type=int, default=4)
    made.add_argument("--pixels", type=int, default=12_544, help="of each picture")
    made.add_argument(
        "--prefix", choices=["auto", "always", "never"], default="auto", help="share what teachers read alike"
    )
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--against", type=Path, help="another checkout")
    made.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("overrides", nargs="*", help="such as trainer.micro_batch=1")
    return made


def completion(tokenizer: Any, tokens: int) -> list[int]:
    """The ids of a completion in the required format, of this length with its end."""
    head, filler, tail = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (HEAD, " the cube is red" * tokens, TAIL)
    )
    return [*head, *filler[: tokens - len(head) - len(tail) - 1], *tail, tokenizer.eos_token_id]


def measure_inside(args: argparse.Namespace) -> dict[str, float]:
    """Take two steps in this process; return the seconds of the faster one and the memory of the first."""
    import torch
    from resident_memory import peak_memory

    from vigos_cli.config.compose import job
    from vigos_cli.data.priorworld import PriorWorld
    from vigos_cli.generation.sampler import Request, as_rollout
    from vigos_cli.method.prompts import Prompter
    from vigos_cli.models.memory_plan import estimate_memory, shape_of
    from vigos_cli.models.student_loading import load_student
    from vigos_cli.supervision.batches import Batches
    from vigos_cli.training import step
    from vigos_cli.training.learner import make_learner

    with tempfile.TemporaryDirectory() as folder:
        heads = max(4, args.width // 32)
        size = (args.width, 3 * args.width, args.layers, heads, args.vocabulary, 128, 3, 4)
        save_model(Path(folder), size)
        config: Any = job(
            "distill",
            [
                "out=unused",
                f"model.path={folder}",
                f"trainer.batch={args.rows}",
                f"rollout.n={args.draws}",
                f"rollout.max_new_tokens={args.tokens}",
                "model.device=cpu",
                "trainer.micro_batch=1",
                f"model.max_pixels={args.pixels}",
                *args.overrides,
            ],
        )
        student = load_student(config.model, config.adapter, seed=0)
        planned = estimate_memory(config, shape_of(config)).learn
    if args.prefix != "auto":
        from vigos_cli.supervision import shared_prefix

        shared_prefix.LEAST = {"always": -1, "never": 2}[args.prefix]
    sizes = student.processor.image_processor.size
    sizes["shortest_edge"] = args.pixels  # the pictures of PriorWorld are scaled up to this size
    made = Prompter(student.processor, config.prompt, config.routing)
    batches = Batches(PriorWorld(size=64), made, config)
    ids = completion(student.tokenizer, args.tokens)
    sample, rows = step.sample_rollouts, []

    def written(student: Any, prepared: Any, *more: Any) -> list[Any]:
        drawn = sample(student, prepared, *more)
        found = []
        for place, (item, rollout) in enumerate(drawn):
            own = ids if place else ids[-len(ids) // 2 :] * 2  # the first has no description
            request = Request(rollout.sample_id, rollout.prompt, rollout.draw)
            found.append((item, as_rollout(student, request, own[: args.tokens])))
        return found

    whole = step.supervise_all
    step.sample_rollouts = written
    step.supervise_all = lambda *a: rows.append(whole(*a)) or rows[-1]  # type: ignore[assignment]
    learner = make_learner(student, config)
    steps: list[dict[str, float]] = []

    def one() -> None:
        before = dict(learner.seconds)
        line = step.train_step(learner, batches, made, config)
        assert line["valid_rate"] == (args.rows - 1) / args.rows, line["valid_rate"]
        steps.append({phase: learner.seconds[phase] - before.get(phase, 0) for phase in PHASES})

    memory = peak_memory(one)
    one()
    best = min(steps, key=lambda seconds: seconds["teachers"] + seconds["learn"])
    lengths: Counter[str] = Counter()
    for row in rows[-1]:
        lengths.update({name: len(context.ids) for name, context in row.contexts.items()})
    weights = sum(p.numel() for p in student.base.parameters())
    embedding = student.head_VH.numel()
    tower = sum(p.numel() for n, p in student.base.named_parameters() if "visual" in n)
    return {
        **best,
        "memory": memory,
        "planned": planned,
        "weights": weights,
        "body": weights - embedding - tower,
        "head": embedding,
        "tower": tower,
        "student_tokens": lengths["student"],
        "teacher_tokens": sum(lengths.values()) - lengths["student"],
        "supervised": args.rows * args.tokens,
        "patches": sum(float(row.rollout.prompt.features["image_grid_thw"].prod()) for row in rows[-1]),
        "threads": torch.get_num_threads(),
    }


def measure(options: list[str], checkout: Path | None = None, rounds: int = 1) -> dict[str, float]:
    """The least seconds of each phase over `rounds` new processes, with the source of this checkout."""
    return least([in_process(options, checkout) for _ in range(rounds)])


def in_process(options: list[str], checkout: Path | None = None) -> dict[str, float]:
    """One round: the figures of `measure_inside` in a new process."""
    source = (checkout or Path(__file__).parents[2]) / "src"
    # Without this, glibc keeps freed memory, and the size of the process would depend on earlier work.
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "PYTHONPATH": str(source)}
    command = [sys.executable, __file__, "--inside", *options]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def least(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The smallest value of each figure."""
    return {name: min(one[name] for one in rounds) for name in rounds[0]}


def line(name: str, found: Mapping[str, float]) -> str:
    """One line of the table."""
    learning = found["teachers"] + found["learn"]
    seconds = "".join(f"{found[phase]:>10.2f}" for phase in PHASES)
    return f"{name:<24}{seconds}{learning:>12.2f}{found['memory'] / 1e9:>10.2f}"


def main() -> None:
    """Print a line for this checkout, and one for the other with the ratios."""
    args, options = parser().parse_args(), [option for option in sys.argv[1:] if option != "--inside"]
    if args.inside:
        print(json.dumps(measure_inside(args)))
        return
    if args.against:
        at = options.index("--against")
        options = options[:at] + options[at + 2 :]
    places = {"this checkout": None, **({args.against.name: args.against} if args.against else {})}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in places}
    for _ in range(args.rounds):
        for name, place in places.items():
            rounds[name].append(in_process(options, place))
    found = {name: least(of_name) for name, of_name in rounds.items()}
    first = found["this checkout"]
    print(
        f"{first['weights'] / 1e6:.0f} M weights, V {args.vocabulary}, {args.rows} rows of {args.tokens} ",
        end="",
    )
    print(f"tokens, {first['threads']} threads, least of {args.rounds}")
    print(f"{'seconds':<24}{'rollout':>10}{'teachers':>10}{'learn':>10}{'both':>12}{'peak GB':>10}")
    for name, figures in found.items():
        print(line(name, figures))
    if args.against:
        other = found[args.against.name]
        ratio = (first["teachers"] + first["learn"]) / (other["teachers"] + other["learn"])
        print(f"ratio: time of learning {ratio:.2f}, memory {first['memory'] / other['memory']:.2f}")


if __name__ == "__main__":
    main()
