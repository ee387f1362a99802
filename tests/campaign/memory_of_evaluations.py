"""Trial: the memory of one process over 300 evaluations, with a figure of it.

    python -m campaign.memory_of_evaluations SEED FOLDER    # the child; prints the megabytes as JSON

Each evaluation is `evaluate` with `responses=`: it reads rows and responses, grades them, and writes the
verdicts, the figures and the page. Hostile and ordinary responses are mixed, and hardly a text
comes twice. The memory of the process and that of its grading worker, which is renewed after
2,000 pairs, are read after each evaluation. The first 90 fill the caches of the graders and do not count.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from campaign.hostile_grammar import KINDS
from campaign.trial import Outcome, Space, Trial

EVALUATIONS, WARM = 300, 90
WORKER = 100  # MB; 62 at its start and 72 after 2,000 pairs, when it is renewed
GROWTH = 1.02  # the last third's median over that of the first third; see `compared`
SLOW = ("costly formulas", "texts of 100,000 characters", "deep brackets")  # every tenth evaluation has these
PATIENCE = 900  # seconds
FIGURE = Path(__file__).parents[2] / "docs" / "memory-over-evaluations.svg"


def trials(seed: int) -> list[Trial]:
    """The trial."""
    return [Trial("memory over 300 evaluations", "memory", partial(measured, seed=seed))]


def measured(space: Space, seed: int) -> Outcome:
    """Run the child, draw the figure, and compare the last third of the evaluations with the first one."""
    command = [sys.executable, "-m", "campaign.memory_of_evaluations", str(seed), str(space.folder)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    with (space.folder / "stderr.txt").open("w") as errors:
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": errors, "text": True}
        done = subprocess.run(command, env=environment, timeout=PATIENCE, cwd=space.folder, **streams)
    did, moment = f"{EVALUATIONS} evaluations in one process", "vigos eval with saved responses"
    if done.returncode:
        return Outcome(False, moment, did, f"exit code {done.returncode}", EVALUATIONS)
    series = json.loads(done.stdout)
    (space.folder / "series.json").write_text(done.stdout)
    draw(series, FIGURE)
    parts, right = [], True
    for name, values in series.items():
        first, last = compared(values)
        right = right and (last <= GROWTH * first if name == "the process" else max(values) < WORKER)
        parts.append(f"{name} {first:.0f} MB, then {last:.0f} MB ({last / first - 1:+.1%})")
    return Outcome(right, moment, did, "; ".join(parts), EVALUATIONS)


def compared(values: list[float]) -> tuple[float, float]:
    """The medians of the first and of the last third of the evaluations after the warm-up.

    A leak of 10 kB for each evaluation would add 1.6 MB between the middles of the thirds, which 2 % of 80 MB
    would show. What one response takes while it is graded is less than the difference that 2 % allows.
    """
    settled = values[WARM:]
    third = len(settled) // 3
    return statistics.median(settled[:third]), statistics.median(settled[-third:])


def draw(series: dict[str, list[float]], path: Path) -> None:
    """Draw the curves."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.fonttype"] = "none"  # text is stored as text: the file is small
    rcParams["svg.hashsalt"] = "vigos"  # the same curves give the same file
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axis = figure.subplots()
    for (name, values), colour in zip(series.items(), ("#0072B2", "#D55E00"), strict=True):
        axis.plot(range(1, len(values) + 1), values, color=colour, label=name, linewidth=1.2)
    axis.axvspan(0, WARM, color="#EEEEEE", label="warm-up")
    axis.set(
        xlabel="evaluations in one process", ylabel="MB in memory", ylim=(0, None), xlim=(0, EVALUATIONS)
    )
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, metadata={"Date": None})


# ---------------------------------------------------------------- the child


def responses(seed: int, number: int) -> list[str]:
    """The responses of one evaluation: hostile ones of all kinds, and 20 ordinary ones."""
    rng = random.Random(f"{seed} memory {number}")
    kinds = [kind for kind in KINDS if kind not in SLOW or number % 10 == 0]
    found = [KINDS[kind](rng)[0] for kind in kinds]
    for _ in range(20):
        a, b = rng.randint(1, 500), rng.randint(1, 500)
        answer = rng.choice((f"{a + b}", f"{a}", f"{a}+{b}", f"x+{a}", f"{a}/{b}"))
        found.append(f"<think> {a} and {b} </think> \\boxed{{{answer}}}")
    return found


def resident(pid: int) -> float:
    """Megabytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main(seed: int, folder: Path) -> None:
    """Evaluate EVALUATIONS times, and print the memory after each."""
    from vigos_cli.config.compose import job
    from vigos_cli.evaluation.evaluate import evaluate
    from vigos_cli.grading.grade import SHARED

    rows, saved = folder / "rows.jsonl", folder / "responses.jsonl"
    given = ["bench=plain", f"bench.path={rows}", f"responses={saved}", f"out={folder / 'out'}"]
    config: Any = job("eval", given)
    own, workers = [], []
    for number in range(EVALUATIONS):
        said = responses(seed, number)
        golds = ("42", "17", "x^2-1", "[1, 2]", "red")
        lines = [
            {"id": str(i), "problem": f"{number} {i}?", "answer": golds[i % 5]} for i in range(len(said))
        ]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        saved.write_text(
            "".join(json.dumps({"id": str(i), "response": text}) + "\n" for i, text in enumerate(said))
        )
        evaluate(config)
        own.append(resident(os.getpid()))
        SHARED.equal(
            "x^2", "x*x"
        )  # a worker that was ended is started again, so that each value is of one worker
        alive = [one.process.pid for one in SHARED.workers if one.process and one.process.poll() is None]
        workers.append(sum(map(resident, alive)))
        if number % 50 == 49:
            print(number + 1, own[-1], workers[-1], file=sys.stderr, flush=True)
    print(json.dumps({"the process": own, "its grading worker": workers}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
