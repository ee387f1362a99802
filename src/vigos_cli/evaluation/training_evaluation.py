"""What is measured around a run: its benchmarks before it learns, on the way, and after.

    measured = TrainingEvaluation(engine, prompter, config)
    figures, answers = measured.run(out / "before")
    figures["score"], figures["benches"]["mathvista"]["accuracy"]

PriorWorld's figures stand by themselves and its answers are handed back: its items are made once and asked
again and again. Of any other benchmark the folder holds what `vigos eval` leaves.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DistillRun, EvalRun, RunConfig
from vigos_cli.evaluation.asker import Asker
from vigos_cli.evaluation.evaluate import evaluate, tasks_of
from vigos_cli.evaluation.item_responses import Evaluator
from vigos_cli.generation.engine import Engine
from vigos_cli.method.prompts import Prompter
from vigos_cli.types import Response, Sample


class TrainingEvaluation:
    """The benchmarks of a run, asked of the student as it is at the time."""

    def __init__(self, engine: Engine, prompter: Prompter, config: DistillRun):
        shared = {item.name: getattr(config, item.name) for item in fields(RunConfig)}
        # The `limit` of a run is of its training data.
        self.config = replace(EvalRun(**shared), bench=config.bench, limit=None)
        tasks = tasks_of(self.config)
        self.world = (
            Evaluator(engine, prompter, config.routing, config.bench) if "priorworld" in tasks else None
        )
        self.tasks = {name: task for name, task in tasks.items() if name != "priorworld"}
        self.engine, self.prompter = engine, prompter

    @property
    def samples(self) -> list[Sample]:
        """PriorWorld's items."""
        return self.world.samples if self.world else []

    def run(
        self, folder: Path, *, samples: int | None = None, two_pass: bool = False, again: bool = False
    ) -> tuple[dict[str, Any], list[Response]]:
        """Figures, and the responses to PriorWorld; what is in the folder is taken over unless `again`."""
        figures, responses = self.world.run(samples=samples, two_pass=two_pass) if self.world else ({}, [])
        benches = {name: self._bench(name, folder / name, samples, two_pass, again) for name in self.tasks}
        return figures | ({"benches": benches} if benches else {}), responses

    def _bench(
        self, name: str, folder: Path, samples: int | None, two_pass: bool, again: bool
    ) -> dict[str, Any]:
        scores = folder / "scores.json"
        if scores.exists() and not again:
            return json.loads(scores.read_text())
        bench = replace(self.config.bench, tasks={name: self.tasks[name]}, path=None)
        config = replace(
            self.config,
            out=str(folder),
            resume="never" if again else "auto",
            bench=bench if samples is None else replace(bench, samples=samples),
            routing=replace(self.config.routing, completion="two_pass" if two_pass else "student"),
        )
        return evaluate(config, Asker(config, self.engine, self.prompter))[name]
