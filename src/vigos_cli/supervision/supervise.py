"""From prepared samples to supervised rollouts: what of a step comes before the gradient.

student prompt -> rollout -> segments -> terms, and what each teacher reads
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from vigos_cli.config.schema import RunConfig
from vigos_cli.data.controls import noise_like
from vigos_cli.generation.engine import Engine, InProcess
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, as_rollout
from vigos_cli.method.prompts import Prompter, reference_text
from vigos_cli.method.segments import DESCRIPTION_END, THINK, THINK_END, description_tokens, parse_rollout
from vigos_cli.models.student import Student
from vigos_cli.supervision.batches import Prepared
from vigos_cli.supervision.teachers import Supervised, supervise
from vigos_cli.types import Prompt, Role, Rollout


def sample_rollouts(
    student: Student,
    prepared: Sequence[Prepared],
    prompter: Prompter,
    config: RunConfig,
    step: int,
    engine: Engine | None = None,
) -> list[tuple[Prepared, Rollout]]:
    """`rollout.n` completions a sample, by `engine` or in process.

    Under the SFT control their endings are the reference's.
    """
    engine = engine or InProcess(student)
    rollout = config.rollout
    requests = [
        (item, Request(item.key, item.prompt, draw)) for item in prepared for draw in range(rollout.n)
    ]
    sampling = Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_p, rollout.top_k)
    key = (config.seed, "rollout", step)
    rollouts = engine.roll_out(SamplingJob([r for _, r in requests], sampling, key, rollout.batch))
    if config.routing.completion == "reference":
        rollouts = [
            reference_completion(student, prompter, item, rollout)
            for (item, _), rollout in zip(requests, rollouts, strict=True)
        ]
    return [(item, rollout) for (item, _), rollout in zip(requests, rollouts, strict=True)]


def reference_completion(student: Student, prompter: Prompter, item: Prepared, rollout: Rollout) -> Rollout:
    """The control `sft`: the student's own description, then the worked solution and answer as given."""
    head: tuple[int, ...] = ()
    thinks = ""
    if DESCRIPTION_END in rollout.text:
        head, thinks = description_tokens(rollout), f" {THINK}"
    solution = reference_text(item.sample, "solution")
    tail = [(f"{thinks} ", False), (solution, True), (f" {THINK_END} \\boxed{{", False)]
    tail += [(reference_text(item.sample), True), ("}", False)]
    ids = (*head, *prompter.encode_text(tail), min(student.stop_ids & {student.tokenizer.eos_token_id}))
    return as_rollout(student, Request(rollout.sample_id, rollout.prompt, rollout.draw), ids)


def supervise_all(
    rollouts: Sequence[tuple[Prepared, Rollout]], prompter: Prompter, config: RunConfig
) -> list[Supervised]:
    """Parse and route every rollout, and lay out what its teachers read."""
    supervised = []
    for item, rollout in rollouts:
        segments = parse_rollout(rollout, student=config.routing.student, spans=config.routing.spans)
        prompt_for = partial(_teacher_prompt, item=item, prompter=prompter, config=config)
        supervised.append(supervise(rollout, segments, config.routing, prompter, prompt_for))
    return supervised


def _teacher_prompt(role: Role, *, item: Prepared, prompter: Prompter, config: RunConfig) -> Prompt:
    images = item.images
    if role is Role.PERCEPTION and config.routing.perception_image == "noise":
        images = prompter.encode(
            [noise_like(image, config.seed, item.sample.id) for image in item.sample.images]
        )
    prompt = prompter.render(role, images, question=item.sample.question, reference=item.reference)
    return replace(prompt, role=role)
