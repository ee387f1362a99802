"""The benchmarks of a training run, asked before, during and after training.

    measured = TrainingEvaluation(engine, prompter, config)
    figures, answers = measured.run(out / "before")
    figures["score"], figures["benches"]["mathvista"]["accuracy"]

PriorWorld's figures are at the top level, and its responses are returned. For every other benchmark the
folder holds the files that `vigos eval` writes.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import BenchTask, DistillRun, EvalRun, RunConfig
from vigos_cli.data.holdout import Holdout
from vigos_cli.evaluation.asker import Asker
from vigos_cli.evaluation.benchmarks.priorworld_scoring import priorworld_items
from vigos_cli.evaluation.evaluate import evaluate, tasks_of
from vigos_cli.evaluation.priorworld_evaluation import evaluate_priorworld
from vigos_cli.generation.engine import Engine
from vigos_cli.method.prompts import Prompter
from vigos_cli.types import Response, Sample


def measured_tasks(config: DistillRun) -> dict[str, BenchTask]:
    """The benchmarks that a training run asks, by name. Raises ConfigError."""
    return dict(tasks_of(_as_eval(config)))


def _as_eval(config: DistillRun) -> EvalRun:
    """The evaluation of a training run; its `limit` applies to its training data, not to benchmarks."""
    shared = {item.name: getattr(config, item.name) for item in fields(RunConfig)}
    return replace(EvalRun(**shared), bench=config.bench, limit=None)


class TrainingEvaluation:
    """The benchmarks of a run. Each call of `run` asks the student in its current state.

    `samples` are the items of PriorWorld; the list is empty if the run does not ask PriorWorld. `held` has
    the rows of bench=holdout.
    """

    def __init__(self, engine: Engine, prompter: Prompter, config: DistillRun, held: Holdout | None = None):
        self.config = _as_eval(config)
        self.tasks = measured_tasks(config)
        world = self.tasks.pop("priorworld", None)
        self.samples: list[Sample] = priorworld_items(world, world.limit) if world else []
        self.engine, self.prompter, self.held = engine, prompter, held

    def run(
        self, folder: Path, *, samples: int | None = None, two_pass: bool = False, again: bool = False
    ) -> tuple[dict[str, Any], list[Response]]:
        """The figures of all benchmarks, and the responses to PriorWorld.

        Results in the folder are used again, unless `again` is true. `samples` replaces `bench.samples`.
        """
        bench = self.config.bench if samples is None else replace(self.config.bench, samples=samples)
        student = replace(self.config.routing.student, writes="caption" if two_pass else "rollout")
        config = replace(
            self.config,
            bench=bench,
            routing=replace(self.config.routing, student=student),
            resume="never" if again else "auto",
        )
        figures, responses = {}, []
        if self.samples:
            figures, asked = evaluate_priorworld(Asker(config, self.engine, self.prompter), self.samples)
            responses = sorted((response for _, response in asked), key=lambda one: one.draw > 0)
        benches = {name: self._bench(config, name, folder / name) for name in self.tasks}
        return figures | ({"benches": benches} if benches else {}), responses

    def _bench(self, config: EvalRun, name: str, folder: Path) -> dict[str, Any]:
        """The figures of a benchmark; with resume=auto they are read from the folder if they are there."""
        scores = folder / "scores.json"
        if scores.exists() and config.resume == "auto":
            return json.loads(scores.read_text())
        bench = replace(config.bench, tasks={name: self.tasks[name]}, path=None)
        config = replace(config, out=str(folder), bench=bench)
        return evaluate(config, Asker(config, self.engine, self.prompter), self.held)[name]
