"""Ask a model the items of a benchmark: greedily once, and sampled a few times.

evaluator = Evaluator(student, prompter, config)     # items and their prompts, made once
report, responses = evaluator.run()                  # the same items each time it is called
report["score"], report["sampled"]["score"], report["interval"]["score"]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vigos_cli import group
from vigos_cli.bench import priorworld
from vigos_cli.config import BenchConfig, ConfigError, RoutingConfig
from vigos_cli.controls import show
from vigos_cli.data.images import usable
from vigos_cli.model import Student
from vigos_cli.prompts import EncodedImages, Prompter
from vigos_cli.rollout import Request, Sampling, roll_out
from vigos_cli.segments import DESCRIPTION_END, parse_rollout
from vigos_cli.types import Prompt, Response, Role, Rollout, Sample


@dataclass(frozen=True, slots=True)
class Item:
    """A sample with its rendered prompts."""

    sample: Sample
    images: EncodedImages
    prompt: Prompt


class Evaluator:
    """The items of one benchmark with their prompts, for one model and routing; see `controls.show`."""

    def __init__(
        self,
        student: Student,
        prompter: Prompter,
        routing: RoutingConfig,
        bench: BenchConfig,
        *,
        limit: int | None = None,
        diagnostic: str = "none",
    ):
        if set(bench.tasks) != {"priorworld"}:
            raise ConfigError(f"bench: {', '.join(bench.tasks) or 'no task'}; known are priorworld")
        self.student, self.prompter, self.routing, self.bench = student, prompter, routing, bench
        self.samples = priorworld.load(bench.tasks["priorworld"], limit)
        shown = group.share(list(show(self.samples, diagnostic, bench.seed)))
        self.items = [make_item(prompter, sample, sample.question) for sample in shown]
        if diagnostic == "description_only":
            self.items = describe(student, prompter, self.items, [s.question for s in shown], bench)

    def run(
        self, *, samples: int | None = None, two_pass: bool = False
    ) -> tuple[dict[str, Any], list[Response]]:
        """Greedy figures, with those of `samples` draws an item under `sampled`; and every response."""
        bench = self.bench
        once, often = samplings(bench)
        greedy = self.respond(once, draws=1, two_pass=two_pass)
        report = priorworld.summarise(self.samples, greedy)
        draws = bench.samples if samples is None else samples
        drawn: list[Response] = []
        if draws:
            drawn = self.respond(often, draws=draws, two_pass=two_pass)
            report["sampled"] = priorworld.summarise(self.samples, drawn)
        return report, [*greedy, *(replace(response, draw=response.draw + 1) for response in drawn)]

    def respond(self, sampling: Sampling, *, draws: int, two_pass: bool) -> list[Response]:
        """Every item answered `draws` times, by all processes together."""
        requests = requests_for(self.items, range(draws))
        if two_pass:
            requests = self._with_captions(requests, sampling)
        own = respond(self.student, requests, sampling, self.routing, self.bench)
        return [response for part in group.gather(own) for response in part]

    def _with_captions(self, requests: Sequence[Request], sampling: Sampling) -> list[Request]:
        """The control `two_pass`: the image-only caption stands as the description, the student goes on."""
        images = {item.sample.id: item.images for item in self.items}
        asked = [
            replace(request, prompt=self.prompter.render(Role.PERCEPTION, images[request.sample_id]))
            for request in requests
        ]
        key = ("caption", self.bench.seed)
        captions = roll_out(self.student, asked, sampling, key=key, batch=self.bench.batch)
        return [
            replace(request, prompt=with_description(request.prompt, caption))
            for request, caption in zip(requests, captions, strict=True)
        ]


def make_item(prompter: Prompter, sample: Sample, question: str) -> Item:
    """The sample asked `question`. Raises BadRow for a picture that cannot be shown."""
    images = prompter.encode([usable(image, {}) for image in sample.images])
    return Item(sample, images, prompter.render(Role.STUDENT, images, question=question))


def describe(
    student: Student, prompter: Prompter, items: Sequence[Item], questions: Sequence[str], bench: BenchConfig
) -> list[Item]:
    """The items without their pictures (`diagnostic=description_only`).

    The student's own greedy description, written with the picture in view, stands where it wrote it, at the
    head of its turn, and only the rest is sampled: it reasons as ever, but from its words alone.
    """
    greedy, _ = samplings(bench)
    rollouts = roll_out(
        student, requests_for(items, [0]), greedy, key=("describe", bench.seed), batch=bench.batch
    )
    described = []
    for item, question, rollout in zip(items, questions, rollouts, strict=True):
        blind = make_item(prompter, replace(item.sample, images=()), question)
        described.append(replace(blind, prompt=with_description(blind.prompt, rollout)))
    return described


def samplings(bench: BenchConfig) -> tuple[Sampling, Sampling]:
    """The greedy answer, and the sampled ones."""
    greedy = Sampling(bench.max_new_tokens, temperature=0)
    return greedy, Sampling(bench.max_new_tokens, bench.temperature, bench.top_p, bench.top_k)


def requests_for(items: Sequence[Item], draws: Iterable[int]) -> list[Request]:
    """Every item asked once a draw."""
    return [Request(item.sample.id, item.prompt, draw) for item in items for draw in draws]


def respond(
    student: Student,
    requests: Sequence[Request],
    sampling: Sampling,
    routing: RoutingConfig,
    bench: BenchConfig,
) -> list[Response]:
    """Answer requests, and parse the answers."""
    key = ("bench", bench.seed)
    return [
        as_response(rollout, routing)
        for rollout in roll_out(student, requests, sampling, key=key, batch=bench.batch)
    ]


def as_response(rollout: Rollout, routing: RoutingConfig) -> Response:
    """What a rollout says."""
    segments = parse_rollout(rollout, student=routing.student)
    return Response(
        sample_id=rollout.sample_id,
        draw=rollout.draw,
        text=rollout.text,
        description=segments.description,
        answer=segments.answer,
        valid=segments.valid,
        described=routing.student == "structured",
        tokens=len(rollout.ids),
    )


def with_description(prompt: Prompt, caption: Rollout) -> Prompt:
    """The student's prompt, its pre-fill continued by a caption's tokens up to `</description>`."""
    prefill = len(caption.prompt.prefill)
    head = description_tokens(caption)
    assert caption.prompt.prefill == prompt.prefill, f"captions start with {prefill} other tokens"
    types = (*prompt.mm_token_types, *[0] * len(head)) if prompt.mm_token_types else ()
    return replace(prompt, ids=(*prompt.ids, *head), prefill=(*prompt.prefill, *head), mm_token_types=types)


def description_tokens(rollout: Rollout) -> tuple[int, ...]:
    """The sampled tokens up to and with `</description>`; all but the end of turn where it never comes."""
    end = rollout.text.find(DESCRIPTION_END)
    if end < 0:
        return rollout.ids[:-1] if rollout.finished else rollout.ids
    ends = rollout.ends[len(rollout.prompt.prefill) :]
    count = next(i for i, length in enumerate(ends) if length >= end + len(DESCRIPTION_END)) + 1
    return rollout.ids[:count]
