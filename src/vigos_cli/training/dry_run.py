"""`trainer.dry_run=true`: take two steps of the largest size and ask one batch of the evaluation; print both.

Every row of a step is the sample with the longest prompt among the first `SEARCHED` rows. Sampling goes on
to `rollout.max_new_tokens` in every row. Then each turn is replaced by a valid one of this length, so that
the teachers of valid turns score all tokens; in the second step each turn is invalid, for the other
teachers. The evaluation asks `bench.batch` such prompts, and every answer has `bench.max_new_tokens`. So
memory and time are upper bounds, if the longest prompt was among the rows and no item of a benchmark is
longer. Rows of full length seldom fill `trainer.micro_tokens` exactly, as shorter ones may: so a micro-
batch has one row more here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from rich.table import Table

from vigos_cli.config.routing_group import WITHOUT_TEACHER, SupervisedRollouts
from vigos_cli.config.schema import BenchTask, DistillRun, RoutingConfig, TrainerConfig
from vigos_cli.data.holdout import LARGEST_SHARE
from vigos_cli.evaluation import registry
from vigos_cli.evaluation.benchmark_rows import read_samples
from vigos_cli.evaluation.benchmarks.priorworld_scoring import priorworld_items
from vigos_cli.evaluation.training_evaluation import measured_tasks
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.peak_memory import GIB, PhasePeaks, peak_gib
from vigos_cli.models.student import Student
from vigos_cli.supervision.batches import Batches, prepare
from vigos_cli.training.forced_turns import ForcedTurns
from vigos_cli.training.held_rows import number_asked, rows_in_share
from vigos_cli.training.learner import Learner
from vigos_cli.training.schedule import total_steps
from vigos_cli.training.step import train_step
from vigos_cli.types import Prompt, Sample
from vigos_cli.utils import process_group
from vigos_cli.utils.console import Terminal
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.progress import duration

SEARCHED = 200  # rows among which the longest prompt is searched
PHASES = {  # the name of a phase in the code -> in the table
    "weights": "weights and adapter",
    "rollout": "rollout, its cache included",
    "teachers": "teachers",
    "learn": "student: forward, backward, step",
    "loss": "of which loss",
    "evaluate": "evaluation, one batch of answers",
}


def dry_run(learner: Learner, data: Sequence[Sample], prompter: Prompter, config: DistillRun) -> None:
    """Take the two steps, ask the batch, and print the table; write no files."""
    index, prompt, structured = longest(data, prompter, config)
    student = learner.student
    learner.peaks = PhasePeaks(student.device)
    with learner.timed("weights"):
        pass
    learner.engine = ForcedTurns(student, config.rollout.max_new_tokens, structured=structured)
    config = replace(config, routing=with_every_sibling(config.routing))
    config = replace(config, trainer=in_whole_rows(config, len(prompt.ids)))
    batches = Batches([data[index]] * len(data), prompter, config, others=data)
    teachers: set[str] = set()
    seconds = dict.fromkeys(PHASES, 0.0)  # of the slower of the two steps, by phase
    for valid in (True, False):
        learner.engine.valid = valid
        learner.seconds.clear()
        line = train_step(learner, batches, prompter, config)
        teachers |= {key.removeprefix("loss/") for key in line if key.startswith("loss/")}
        seconds = {phase: max(taken, learner.seconds[phase]) for phase, taken in seconds.items()}
    steps = total_steps(config, len(data))
    answers = _answers(config, steps, len(data))
    asked = min(config.bench.batch, max(answers, 1))
    with learner.timed("evaluate"):
        _ask(learner.engine.student, prompt, asked, config)
    seconds["evaluate"] = learner.seconds["evaluate"]
    learner.seconds.update(seconds)
    if process_group.rank() == 0:
        _print(learner, config, len(prompt.ids), sorted(teachers - set(WITHOUT_TEACHER)))
        _print_time(learner, steps, answers, asked)


def with_every_sibling(routing: RoutingConfig) -> RoutingConfig:
    """The routing in which every valid turn of a step is supervised and is a sibling of the others.

    All turns of a step are the same, so they are a majority, but none is right and none disagrees.
    """
    teachers = {}
    for name, teacher in routing.teachers.items():
        told = [
            {**entry, "sibling": "majority"} if isinstance(entry, Mapping) and "sibling" in entry else entry
            for entry in teacher.told
        ]
        teachers[name] = replace(teacher, told=told)
    return replace(routing, teachers=teachers, rollouts=SupervisedRollouts())


def in_whole_rows(config: DistillRun, prompt: int) -> TrainerConfig:
    """The trainer with the number of rows of full length that fill `trainer.micro_tokens` at least."""
    if (tokens := config.trainer.micro_tokens) is None:
        return config.trainer
    rows = ceil(tokens / (prompt + config.rollout.max_new_tokens))
    return replace(config.trainer, micro_tokens=None, micro_batch=min(rows, config.trainer.batch))


def longest(data: Sequence[Sample], prompter: Prompter, config: DistillRun) -> tuple[int, Prompt, bool]:
    """The index and prompt of the longest of the first `SEARCHED` rows, and whether it is asked to describe.

    A row with a picture is preferred, because it has more teachers.
    """
    counts: Counter[str] = Counter()
    best: tuple[bool, int, int, Prompt] | None = None
    for index in range(min(SEARCHED, len(data))):
        for item in prepare(data, [(index, index)], prompter, config, counts):
            found = bool(item.sample.images), len(item.prompt.ids), index, item.prompt
            best = found if best is None else max(best, found, key=lambda row: row[:2])
    if best is None:
        raise UserError(f"none of the first {SEARCHED} rows can be used: {dict(counts)}")
    pictured, _, index, prompt = best
    return index, prompt, pictured and config.routing.student.format == "structured"


def _ask(student: Student, prompt: Prompt, rows: int, config: DistillRun) -> None:
    """Sample one batch of answers of full length, as the evaluations do."""
    bench = config.bench
    sampling = Sampling(bench.max_new_tokens, bench.temperature, bench.top_p, bench.top_k)
    requests = [Request(str(row), prompt) for row in range(rows)]
    roll_out(student, SamplingJob(requests, sampling, ("dry run", bench.seed), bench.batch))


def _answers(config: DistillRun, steps: int, rows: int) -> int:
    """The number of answers that all evaluations of a run on `rows` rows ask for."""
    items = sum(_items(name, task, config, rows) for name, task in measured_tasks(config).items())
    every = config.trainer.eval_every
    between = (steps - 1) // every if every else 0  # these ask for greedy answers only
    return items * (2 * (1 + config.bench.samples) + between)


def _items(name: str, task: BenchTask, config: DistillRun, rows: int) -> int:
    """The number of items of a benchmark, without reading pictures; of a holdout the largest possible."""
    if name == "holdout":
        held = min(task.rows, rows // LARGEST_SHARE)
        fitting = rows_in_share(config, total_steps(config, rows - held))
        return number_asked(min(held, task.limit or held), fitting)
    if name == "priorworld":
        return len(priorworld_items(task, task.limit))
    _, reader = read_samples(registry.get(name), task, images=False, limit=task.limit)
    return reader.total(0)


def _print(learner: Learner, config: DistillRun, tokens: int, teachers: Sequence[str]) -> None:
    """The table of memory and time by phase."""
    peaks = learner.peaks.bytes if learner.peaks else {}
    table = Table()
    for heading in ("phase", "peak GiB", "seconds"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase, label in PHASES.items():
        if phase in peaks:
            taken = f"{learner.seconds[phase]:.1f}" if phase != "weights" else ""
            table.add_row(label, f"{peaks[phase] / GIB:.2f}", taken)
    print(f"one step, {tokens} + {config.rollout.max_new_tokens} tokens a row, every row of full length")
    print(f"micro-batches of {min(config.trainer.micro_batch, config.trainer.batch)} rows")
    print(f"teachers: {', '.join(teachers) or 'none'}")
    Terminal().print(table)
    device = learner.student.device
    what = "of the device" if device.type == "cuda" else "resident"
    print(f"peak {max(max(peaks.values()) / GIB, peak_gib(device)):.2f} GiB {what}")


def _print_time(learner: Learner, steps: int, answers: int, asked: int) -> None:
    """The time of the whole run, from that of one step and of one batch of answers."""
    step = sum(learner.seconds[phase] for phase in ("rollout", "teachers", "learn"))
    evaluation = learner.seconds["evaluate"] * answers / asked
    print(f"{steps} steps: at most {duration(step * steps)} ({step:.1f} s a step)")
    print(f"{answers:,} answers of the evaluations: at most {duration(evaluation)}")
    print(f"whole run: at most {duration(step * steps + evaluation)}, without loading and checkpoints")
