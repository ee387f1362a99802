"""A model's responses to items: one is greedy (draw 0), the others are sampled (draws 1, 2, ...).

item = prepare_item(prompter, sample, sample.question)
responses = answer(engine, prompter, [item], routing, bench)    # 1 + bench.samples of them
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vigos_cli.config.routing_group import CAPTION, STUDENT
from vigos_cli.config.schema import BenchConfig, RoutingConfig
from vigos_cli.data.images import usable
from vigos_cli.evaluation.graded import TOO_LONG
from vigos_cli.generation.engine import Engine
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob
from vigos_cli.method.prompts import EncodedImages, Prompter
from vigos_cli.method.segments import description_tokens, parse_rollout
from vigos_cli.types import Prompt, Response, Rollout, Sample

if TYPE_CHECKING:
    from vigos_cli.generation.chat import TextPrompter


@dataclass(frozen=True, slots=True)
class PreparedItem:
    """A sample with its rendered prompts."""

    sample: Sample
    images: EncodedImages
    prompt: Prompt
    asked: str = ""  # the fingerprint of the item; see Response
    plain: bool = False  # asked without a description, whatever the form of the student

    def too_long(self, most: int, draw: int) -> Response:
        """The response to an item that is not asked, because its prompt has more than `most` tokens."""
        refused = f"{TOO_LONG}: {len(self.prompt.ids)} tokens, model.max_prompt={most}"
        return Response(
            self.sample.id, draw, "", "", "", False, False, 0, False, asked=self.asked, refused=refused
        )


def prepare_item(prompter: Prompter | TextPrompter, sample: Sample, question: str) -> PreparedItem:
    """Render the prompt with `question`. Raises BadRow for a picture that cannot be used.

    A row of the training data without pictures is asked as in training: without a description.
    """
    plain = False
    if isinstance(prompter, Prompter) and sample.fields.get("text_only"):
        prompter, plain = prompter.without_pictures, True
    images = prompter.encode([usable(image, {}) for image in sample.images], sample.places)
    return PreparedItem(sample, images, prompter.render(STUDENT, images, question=question), plain=plain)


def describe(
    engine: Engine,
    prompter: Prompter | TextPrompter,
    items: Sequence[PreparedItem],
    questions: Sequence[str],
    bench: BenchConfig,
) -> list[PreparedItem]:
    """Replace the pictures of items by the student's descriptions (`diagnostic=description_only`).

    The student first writes a greedy description with the picture. The prompt without the picture then
    starts the student's turn with that description, and only the rest of the response is sampled.
    """
    greedy, _ = samplings(bench)
    requests = [Request(item.sample.id, item.prompt) for item in items]
    rollouts = engine.roll_out(SamplingJob(requests, greedy, key=("describe", bench.seed), batch=bench.batch))
    described = []
    for item, question, rollout in zip(items, questions, rollouts, strict=True):
        if item.plain:
            described.append(item)
            continue
        blind = prepare_item(prompter, replace(item.sample, images=()), question)
        described.append(replace(item, images=blind.images, prompt=with_description(blind.prompt, rollout)))
    return described


def samplings(bench: BenchConfig) -> tuple[Sampling, Sampling]:
    """The sampling settings of the greedy response, and those of the sampled responses."""
    greedy = Sampling(bench.max_new_tokens, temperature=0)
    return greedy, Sampling(bench.max_new_tokens, bench.temperature, bench.top_p, bench.top_k)


def answer(
    engine: Engine,
    prompter: Prompter | TextPrompter,
    items: Sequence[PreparedItem],
    routing: RoutingConfig,
    bench: BenchConfig,
    known: Container[tuple[str, int]] = (),
    keep: Callable[[Response], object] | None = None,
) -> list[Response]:
    """The greedy response to every item, and `bench.samples` sampled ones, except (id, draw) in `known`.

    `keep` is called with each response as soon as it is complete.
    """
    made = []
    greedy, sampled = samplings(bench)
    for sampling, draws in ((greedy, range(1)), (sampled, range(1, 1 + bench.samples))):
        asked = [(item, draw) for item in items for draw in draws if (item.sample.id, draw) not in known]
        # Sampled draws take their random numbers from index 0 on; the greedy draw needs none.
        requests = [Request(item.sample.id, item.prompt, draw - draws.start) for item, draw in asked]
        if routing.student.writes == "caption":
            shown = [item for item, _ in asked]
            requests = _with_captions(engine, prompter, requests, shown, sampling, bench)
        responses: dict[int, Response] = {}

        def done(
            number: int,
            rollout: Rollout,
            asked: Sequence[tuple[PreparedItem, int]] = asked,
            responses: dict[int, Response] = responses,
        ) -> None:
            item, draw = asked[number]
            form = "think" if item.plain else routing.student.format
            responses[number] = replace(as_response(rollout, form, draw), asked=item.asked)
            if keep:
                keep(responses[number])

        engine.roll_out(SamplingJob(requests, sampling, ("bench", bench.seed), bench.batch, done))
        made += [responses[number] for number in range(len(asked))]
    return made


def _with_captions(
    engine: Engine,
    prompter: Prompter | TextPrompter,
    requests: Sequence[Request],
    items: Sequence[PreparedItem],
    sampling: Sampling,
    bench: BenchConfig,
) -> list[Request]:
    """The control `two_pass`: a caption, written without the question, is the start of the student's turn.

    The request of an item that is asked without a description stays as it is.
    """
    shown = [i for i, item in enumerate(items) if not item.plain]
    asked = [replace(requests[i], prompt=prompter.render(CAPTION, items[i].images)) for i in shown]
    captions = engine.roll_out(SamplingJob(asked, sampling, key=("caption", bench.seed), batch=bench.batch))
    written = dict(zip(shown, captions, strict=True))
    return [
        replace(request, prompt=with_description(request.prompt, written[i])) if i in written else request
        for i, request in enumerate(requests)
    ]


def as_response(rollout: Rollout, student: str, draw: int) -> Response:
    """The parsed response of a rollout of a student with this form."""
    segments = parse_rollout(rollout, student=student)
    return Response(
        sample_id=rollout.sample_id,
        draw=draw,
        text=rollout.text,
        description=segments.description,
        answer=segments.answer,
        valid=segments.valid,
        described=student == "structured",
        tokens=len(rollout.ids) or rollout.wrote,
        finished=rollout.finished,
        refused=rollout.refused,
    )


def with_description(prompt: Prompt, caption: Rollout) -> Prompt:
    """The student's prompt, with its pre-fill continued by a caption's tokens up to `</description>`."""
    prefill = len(caption.prompt.prefill)
    head = description_tokens(caption)
    assert caption.prompt.prefill == prompt.prefill, f"captions start with {prefill} other tokens"
    types = (*prompt.mm_token_types, *[0] * len(head)) if prompt.mm_token_types else ()
    return replace(prompt, ids=(*prompt.ids, *head), prefill=(*prompt.prefill, *head), mm_token_types=types)
