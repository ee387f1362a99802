"""Ask a model the items of benchmarks; the model is loaded once for all benchmarks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING

from vigos_cli.config.provenance import claim
from vigos_cli.config.schema import EvalRun
from vigos_cli.data.controls import with_control_images
from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.graded import TOO_LONG
from vigos_cli.evaluation.item_responses import PreparedItem, answer, describe, prepare_item
from vigos_cli.evaluation.row_parsing import shown
from vigos_cli.generation.engine import Engine, engine_of
from vigos_cli.generation.vllm_command import check_room
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.adapter_folder import settle_prompts
from vigos_cli.models.out_of_memory import in_phase
from vigos_cli.models.pretrained import pick_device
from vigos_cli.models.student_loading import load_student
from vigos_cli.types import Response, Sample
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import read_lines, write_lines
from vigos_cli.utils.progress import Bar

if TYPE_CHECKING:
    from vigos_cli.generation.chat import TextPrompter

CHUNK = 4  # number of batches whose pictures are in memory at once


def load_asker(config: EvalRun) -> Asker:
    """Load the model, or connect to the server, and claim the run's folder."""
    process_group.start(pick_device(config.model.device))
    settle_prompts(config)
    process_group.check_shared(Path(config.out))
    if config.rollout.name == "openai":
        from vigos_cli.generation.chat import ChatEngine, TextPrompter

        asker = Asker(config, ChatEngine(config), TextPrompter(config.prompt, config.routing))
    else:
        check_room(config)
        student = load_student(config.model, config.adapter, seed=config.seed)
        prompter = Prompter(student.processor, config.prompt, config.routing)
        asker = Asker(config, engine_of(config, student), prompter, _mark(config.adapter.path))
    if process_group.rank() == 0:
        claim(Path(config.out), config)
    return asker


@dataclass(frozen=True, slots=True)
class Asker:
    """An engine with its prompts, and the configuration of the evaluation."""

    config: EvalRun
    engine: Engine
    prompter: Prompter | TextPrompter
    adapter: str = ""  # hash of the adapter's weights; empty if there is no adapter

    def responses(
        self,
        name: str,
        prompt: Callable[[Sample], str],
        samples: Iterable[Sample],
        total: Callable[[int], int],
        folder: Path | None = None,
    ) -> Iterator[tuple[Sample, Response]]:
        """Yield every item with each of its responses: the greedy one (draw 0) and the sampled ones.

        `prompt` builds the question for the model. `total(done)` estimates the number of all items when
        `done` of them are finished. Each sample is returned with the pictures that the model saw.

        A response is written to responses.jsonl in the folder as soon as it is complete; at the end the file
        is put in order. With resume=auto, responses in that file are not sampled again, unless the item or
        the adapter has changed. Without a folder nothing is written, and all items are asked at once.
        """
        bench, first = self.config.bench, process_group.rank() == 0
        samples = with_control_images(samples, self.config.diagnostic, bench.seed)
        draws = range(1 + bench.samples)
        file = ResponseFile(folder / "responses.jsonl", self.config.resume == "auto") if folder else None
        known = file.known if file else {}
        unasked: set[str] = set()
        size = max(1, CHUNK * bench.batch // len(draws)) if file else None
        keep, changed = file.add if file and process_group.size() == 1 else None, 0
        order: list[tuple[str, int]] = []
        with Bar(name, total(0), answers=self._sampled_for(len(draws)), quiet=not first) as bar:
            while chunk := list(islice(samples, size)):
                put = {sample.id: prompt(sample) for sample in chunk}
                asked = {s.id: self._fingerprint(s, put[s.id]) if file else "" for s in chunk}
                order += product(asked, draws)
                found = {key: known.pop(key) for key in product(asked, draws) if key in known}
                fresh = {key: one for key, one in found.items() if one.asked in ("", asked[key[0]])}
                changed += len({id for id, _ in found.keys() - fresh.keys()})
                todo = [s for s in chunk if any((s.id, draw) not in fresh for draw in draws)]

                own = self._ask(process_group.share(todo), put, asked, fresh, keep)
                made = [response for part in process_group.gather(own) for response in part]
                if file and first and process_group.size() > 1:
                    file.add(*made)
                fresh |= {(response.sample_id, response.draw): response for response in made}
                unasked |= {one.sample_id for one in made if one.refused.startswith(TOO_LONG)}
                for sample in chunk:
                    yield from ((sample, fresh[sample.id, draw]) for draw in draws)
                bar.skip(len(chunk) - len(todo))
                bar.advance(by=len(todo), total=total(bar.done + len(todo)))
        if unasked and first:
            print(
                f"{name}: {len(unasked)} items were not asked and count as wrong, such as "
                f"{shown(min(unasked))}: {TOO_LONG} "
                f"(more than model.max_prompt={self.config.model.max_prompt} tokens)",
                file=sys.stderr,
            )
        if file and first:
            file.put_in_order(order)
        if file and changed and first:
            print(
                f"{name}: {changed} items changed (prompt, image or adapter); "
                "their responses were sampled again",
                file=sys.stderr,
            )

    def _ask(
        self,
        samples: Sequence[Sample],
        put: Mapping[str, str],
        asked: Mapping[str, str],
        known: Container[tuple[str, int]],
        keep: Callable[[Response], object] | None,
    ) -> list[Response]:
        config = self.config
        items = [replace(self._item(s, put[s.id]), asked=asked[s.id]) for s in samples]
        most, draws = config.model.max_prompt, range(1 + config.bench.samples)
        long = [item for item in items if len(item.prompt.ids) > most]  # one such item may fill the memory
        items = [item for item in items if len(item.prompt.ids) <= most]
        unasked = [
            item.too_long(most, draw)
            for item in long
            for draw in draws
            if (item.sample.id, draw) not in known
        ]
        samples = [item.sample for item in items]
        if config.diagnostic == "description_only":
            questions = [put[sample.id] for sample in samples]
            with in_phase("evaluate"):
                items = describe(self.engine, self.prompter, items, questions, config.bench)
        with in_phase("evaluate"):
            made = answer(self.engine, self.prompter, items, config.routing, config.bench, known, keep)
        return [*made, *unasked]

    def _sampled_for(self, draws: int) -> int:
        """The number of texts that are sampled for one item with so many responses."""
        if self.config.routing.student.writes == "caption":  # a caption for each response
            return 2 * draws
        return draws + (self.config.diagnostic == "description_only")

    def _fingerprint(self, sample: Sample, question: str) -> str:
        """A hash of prompt, pictures and adapter; a saved response is reused only if its hash is the same."""
        mark = blake2b(question.encode("utf-8", "replace"), digest_size=8)
        for image in sample.images:
            mark.update(f"{image.mode} {image.size}".encode() + image.tobytes())
        mark.update(self.adapter.encode())
        return mark.hexdigest()

    def _item(self, sample: Sample, question: str) -> PreparedItem:
        try:
            return prepare_item(self.prompter, sample, question)
        except BadRow as rule:
            raise UserError(f"item {shown(sample.id)}: {rule}") from rule


class ResponseFile:
    """The file responses.jsonl: responses of an earlier run (`known`), and those that are added now."""

    def __init__(self, path: Path, resume: bool):
        self._path = path
        self.known = _responses(path) if resume else {}
        if process_group.rank() == 0:  # without the incomplete last line that a killed run may leave
            write_lines(path, [asdict(response) for response in self.known.values()])

    def add(self, *responses: Response) -> None:
        """Append responses; they are on disk when this returns."""
        with self._path.open("a") as file:
            file.writelines(json.dumps(asdict(response)) + "\n" for response in responses)

    def put_in_order(self, order: Iterable[tuple[str, int]]) -> None:
        """Sort the responses by item and draw, and keep only the last one of each.

        They are added in the order in which they are complete, which differs if a run was interrupted.
        """
        lines = read_lines(self._path)
        last = {(line.get("sample_id"), line.get("draw")): line for line in lines}
        ordered = list(({key: last[key] for key in order if key in last} | last).values())
        if ordered != lines:
            write_lines(self._path, ordered)


def _responses(path: Path) -> dict[tuple[str, int], Response]:
    """The last response of each item and draw in a file; refused responses are left out."""
    names = {field.name for field in fields(Response)}
    found = {}
    for line in read_lines(path):
        try:
            response = Response(**{name: value for name, value in line.items() if name in names})
        except TypeError:  # a damaged line: its response is sampled again
            continue
        if not response.refused:
            found[response.sample_id, response.draw] = response
    return found


def _mark(adapter: str | None) -> str:
    """A hash of an adapter's weights; an empty text if there is no adapter."""
    files = sorted(Path(adapter).glob("adapter_model.*")) if adapter else []
    return "".join(blake2b(file.read_bytes(), digest_size=8).hexdigest() for file in files)
