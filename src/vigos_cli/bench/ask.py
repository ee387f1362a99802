"""Put the items of benchmarks to a model, loaded once for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from vigos_cli import group
from vigos_cli.adapterfolder import settle_prompts
from vigos_cli.bench import priorworld
from vigos_cli.bench.interface import Bench, Graded
from vigos_cli.bench.run import Evaluator, Item, describe, make_item, requests_for, respond, samplings
from vigos_cli.config import BenchTask, EvalRun, UserError
from vigos_cli.controls import show
from vigos_cli.data.images import BadRow
from vigos_cli.files import read_lines, write_lines
from vigos_cli.model import load_student, pick_device
from vigos_cli.progress import Bar
from vigos_cli.prompts import Prompter
from vigos_cli.provenance import claim
from vigos_cli.quiet import quieten
from vigos_cli.types import Sample

CHUNK = 4  # batches whose pictures are held at once


class Asker:
    """A model with its prompts."""

    def __init__(self, config: EvalRun):
        quieten()
        group.start(pick_device(config.model.device))
        settle_prompts(config)
        self.config = config
        self.student = load_student(config.model, config.adapter, seed=config.seed)
        if group.rank() == 0:
            claim(Path(config.out), config)
        self.prompter = Prompter(self.student.processor, config.prompt, config.routing)

    def priorworld(self, task: BenchTask, folder: Path) -> tuple[dict[str, Any], list[Graded]]:
        """PriorWorld's report and verdicts. Its pictures are drawn; it is asked afresh each time."""
        config = self.config
        bench = replace(config.bench, tasks={"priorworld": task})
        evaluator = Evaluator(
            self.student,
            self.prompter,
            config.routing,
            bench,
            limit=config.limit,
            diagnostic=config.diagnostic,
        )
        report, responses = evaluator.run(two_pass=config.routing.completion == "two_pass")
        write_lines(folder / "responses.jsonl", [asdict(response) for response in responses])
        samples = {sample.id: replace(sample, images=()) for sample in evaluator.samples}
        pairs = [(samples[response.sample_id], response) for response in responses]
        return report, [Graded(s, r.draw, priorworld.grade(s, r), response=r.text) for s, r in pairs]

    def responses(
        self, bench: Bench, samples: Iterator[Sample], folder: Path
    ) -> Iterator[tuple[Sample, int, str]]:
        """Every item's responses, the greedy one (draw 0) and the sampled; known ones are not asked again.

        A chunk is on disk before the next is asked.
        """
        bench_config, path = self.config.bench, folder / "responses.jsonl"
        samples = show(samples, self.config.diagnostic, bench_config.seed)
        draws = range(1 + bench_config.samples)
        lines = read_lines(path) if self.config.resume == "auto" else []
        if group.rank() == 0:
            write_lines(path, lines)  # without a last line that a kill cut short
        known = {(line["sample_id"], line["draw"]): line["text"] for line in lines}
        chunk_size = max(1, CHUNK * bench_config.batch // len(draws))
        with Bar(bench.name, self.config.limit, quiet=group.rank() > 0) as bar, path.open("a") as file:
            while chunk := list(islice(samples, chunk_size)):
                todo = [s for s in chunk if any((s.id, draw) not in known for draw in draws)]
                own = self._ask(bench, group.share(todo))
                made = [response for part in group.gather(own) for response in part]
                if group.rank() == 0:
                    file.writelines(json.dumps(asdict(response)) + "\n" for response in made)
                    file.flush()
                known |= {(response.sample_id, response.draw): response.text for response in made}
                for sample in chunk:
                    light = replace(sample, images=())
                    yield from ((light, draw, known[sample.id, draw]) for draw in draws)
                bar.advance(by=len(chunk))

    def _ask(self, bench: Bench, samples: Sequence[Sample]) -> list[Any]:
        config = self.config.bench
        items = [self._item(bench, sample) for sample in samples]
        if self.config.diagnostic == "description_only":
            questions = [bench.prompt(sample) for sample in samples]
            items = describe(self.student, self.prompter, items, questions, config)
        once, often = samplings(config)
        made = respond(self.student, requests_for(items, [0]), once, self.config.routing, config)
        drawn = requests_for(items, range(1, 1 + config.samples))
        return made + respond(self.student, drawn, often, self.config.routing, config)

    def _item(self, bench: Bench, sample: Sample) -> Item:
        try:
            return make_item(self.prompter, sample, bench.prompt(sample))
        except BadRow as rule:
            raise UserError(f"{bench.name}, item {sample.id}: {rule}") from rule
