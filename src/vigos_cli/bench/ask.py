"""Put the items of benchmarks to a model, loaded once for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vigos_cli import group
from vigos_cli.adapterfolder import settle_prompts
from vigos_cli.bench.run import Item, answer, describe, make_item
from vigos_cli.config import EvalRun, UserError
from vigos_cli.controls import show
from vigos_cli.data.images import BadRow
from vigos_cli.engines.interface import Engine, engine_of
from vigos_cli.files import read_lines, write_lines
from vigos_cli.model import load_student, pick_device
from vigos_cli.progress import Bar
from vigos_cli.prompts import Prompter
from vigos_cli.provenance import claim
from vigos_cli.quiet import quieten
from vigos_cli.types import Response, Sample

if TYPE_CHECKING:
    from vigos_cli.engines.chat import TextPrompter

CHUNK = 4  # batches whose pictures are held at once


def load_asker(config: EvalRun) -> Asker:
    """The model, or the server, that a config names; the run's folder is its own from here on."""
    quieten()
    group.start(pick_device(config.model.device))
    settle_prompts(config)
    if config.rollout.name == "openai":
        from vigos_cli.engines.chat import Chat, TextPrompter

        asker = Asker(config, Chat(config), TextPrompter(config.prompt, config.routing))
    else:
        student = load_student(config.model, config.adapter, seed=config.seed)
        prompter = Prompter(student.processor, config.prompt, config.routing)
        asker = Asker(config, engine_of(config, student), prompter)
    if group.rank() == 0:
        claim(Path(config.out), config)
    return asker


@dataclass(frozen=True, slots=True)
class Asker:
    """What answers, with its prompts, and how it is asked."""

    config: EvalRun
    engine: Engine
    prompter: Prompter | TextPrompter

    def responses(
        self, name: str, prompt: Callable[[Sample], str], samples: Iterable[Sample], folder: Path
    ) -> Iterator[tuple[Sample, Response]]:
        """Every item with each of its responses, the greedy one (draw 0) and the sampled.

        What is in the folder already is not asked again; a chunk is on disk before the next is asked.
        `prompt` is how an item is put to the model. A sample comes with the pictures that the model saw.
        """
        bench, path = self.config.bench, folder / "responses.jsonl"
        samples = show(samples, self.config.diagnostic, bench.seed)
        draws = range(1 + bench.samples)
        lines = read_lines(path) if self.config.resume == "auto" else []
        if group.rank() == 0:
            write_lines(path, lines)  # without a last line that a kill cut short
        known = {(line["sample_id"], line["draw"]): Response(**line) for line in lines}
        size = max(1, CHUNK * bench.batch // len(draws))
        with Bar(name, self.config.limit, quiet=group.rank() > 0) as bar, path.open("a") as file:
            while chunk := list(islice(samples, size)):
                todo = [s for s in chunk if any((s.id, draw) not in known for draw in draws)]
                own = self._ask(prompt, group.share(todo), known)
                made = [response for part in group.gather(own) for response in part]
                if group.rank() == 0:
                    file.writelines(json.dumps(asdict(response)) + "\n" for response in made)
                    file.flush()
                known |= {(response.sample_id, response.draw): response for response in made}
                for sample in chunk:
                    yield from ((sample, known.pop((sample.id, draw))) for draw in draws)
                bar.advance(by=len(chunk))

    def _ask(
        self,
        prompt: Callable[[Sample], str],
        samples: Sequence[Sample],
        known: Container[tuple[str, int]],
    ) -> list[Response]:
        config = self.config
        items = [self._item(sample, prompt(sample)) for sample in samples]
        if config.diagnostic == "description_only":
            questions = [prompt(sample) for sample in samples]
            items = describe(self.engine, self.prompter, items, questions, config.bench)
        return answer(self.engine, self.prompter, items, config.routing, config.bench, known)

    def _item(self, sample: Sample, question: str) -> Item:
        try:
            return make_item(self.prompter, sample, question)
        except BadRow as rule:
            raise UserError(f"item {sample.id}: {rule}") from rule
