"""Measure how the cost of a training step grows, and draw it beside what the arithmetic predicts.

    OMP_NUM_THREADS=2 python tests/benchmarks/growth.py docs/growth.svg

Five quantities vary, each alone, around one base point: the length of a completion, the size of a picture,
the rollouts of a prompt, the vocabulary, and the rows of a micro-batch. The upper panels show the seconds of
learning (teachers and student) and of sampling, the lower ones the memory that a step adds.

The prediction of the time goes through the base point, and grows as the number of multiplications: twice the
weights of the body for each token that a teacher reads, four times for each that the student reads (forward
pass, and gradient of the activations), six times the head for each supervised token (two projections, one
gradient), and twice the tower for each patch of a new picture. That of the memory goes through the base point
with the slope of `plan=true`, which assumes a prompt of 256 tokens beside the picture, far more than here. No
prediction is drawn for sampling: a step of it is bound by the calls.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from learning_step import measure
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

BASE = {"tokens": 128, "pixels": 50_176, "draws": 1, "vocabulary": 32_000, "rows": 4}
SERIES: dict[str, tuple[str, tuple[int, ...]]] = {
    "tokens": ("tokens of a completion", (32, 128, 256, 512)),
    "pixels": ("pixels of a picture", (12_544, 50_176, 200_704, 401_408)),
    "draws": ("rollouts of each of two prompts", (1, 2, 4, 8)),
    "vocabulary": ("entries of the vocabulary", (8_000, 32_000, 76_000, 151_936)),
    "rows": ("rows of a micro-batch", (2, 4, 8, 16)),
}


def options(name: str, value: int) -> list[str]:
    """The options of `learning_step.py` with one quantity at this value."""
    point = {**BASE, name: value}
    if name == "draws":
        point["rows"] = 2 * value
    given = [text for key, number in point.items() for text in (f"--{key}", str(number))]
    return [*given, f"trainer.micro_batch={point['rows']}", f"rollout.batch={point['rows']}"]


def multiplications(found: Mapping[str, float]) -> float:
    """Of one step of learning; see the head of this file."""
    reading = 2 * found["body"] * (found["teacher_tokens"] + 2 * found["student_tokens"])
    return reading + 6 * found["head"] * found["supervised"] + 2 * found["tower"] * found["patches"]


def learning(found: Mapping[str, float]) -> float:
    """The seconds of the teachers and of the student."""
    return found["teachers"] + found["learn"]


def draw(series: Mapping[str, list[tuple[int, dict[str, float]]]], path: Path) -> None:
    """Draw the figure."""
    rcParams["svg.fonttype"] = "none"  # text is stored as text: the file is small
    figure = Figure(figsize=(18, 6.5), layout="constrained")
    axes = figure.subplots(2, len(series))
    for column, (name, points) in enumerate(series.items()):
        xs = [x for x, _ in points]
        x0 = {**BASE, "draws": 2}[name]
        base = dict(points)[x0]
        time, memory = axes[0][column], axes[1][column]
        time.plot(xs, [learning(found) for _, found in points], "o-", color="#0072B2", label="learning")
        rate = learning(base) / multiplications(base)
        expected = [rate * multiplications(found) for _, found in points]
        time.plot(xs, expected, "--", color="#56B4E9", label="learning, predicted")
        time.plot(xs, [found["rollout"] for _, found in points], "s-", color="#D55E00", label="sampling")
        memory.plot(
            xs, [found["memory"] / 1e9 for _, found in points], "o-", color="#009E73", label="measured"
        )
        planned = [(base["memory"] + found["planned"] - base["planned"]) / 1e9 for _, found in points]
        memory.plot(xs, planned, "--", color="#000000", label="predicted")
        for axis, unit in ((time, "seconds of a step"), (memory, "GB that a step adds")):
            axis.set(xlabel=SERIES[name][0], ylim=(0, None), xlim=(0, None))
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            axis.set_ylabel(unit if not column else "")
        if not column:
            time.legend(frameon=False, fontsize=8)
            memory.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Measure every point, print it and keep it in a JSON file beside the figure; then draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=Path, help="the figure")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    kept = args.path.with_suffix(".json")
    known = json.loads(kept.read_text()) if kept.exists() else {}
    series: dict[str, list[tuple[int, dict[str, float]]]] = {}
    print(f"{'':<34}{'sampling':>10}{'learning':>10}{'GB':>8}")
    for name, (label, values) in SERIES.items():
        for value in values:
            chosen = options(name, value)
            key = " ".join(chosen)
            if key not in known:
                known[key] = measure(chosen, rounds=args.rounds)
                kept.write_text(json.dumps(known))
            found = known[key]
            print(f"{value:>9,} {label:<24}{found['rollout']:>10.2f}{learning(found):>10.2f}", end="")
            print(f"{found['memory'] / 1e9:>8.2f}", flush=True)
            series.setdefault(name, []).append((value, found))
    draw(series, args.path)


if __name__ == "__main__":
    main()
