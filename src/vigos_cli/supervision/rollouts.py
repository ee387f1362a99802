"""Sample the rollouts of a step, and the completions of the control `sft`."""

from __future__ import annotations

from collections.abc import Sequence

from vigos_cli.config.schema import RunConfig
from vigos_cli.generation.engine import Engine, InProcess
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.reference_text import reference_text
from vigos_cli.method.segments import DESCRIPTION_END, THINK, THINK_END, description_tokens
from vigos_cli.models.student import Student
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.types import Rollout


def sample_rollouts(
    student: Student,
    prepared: Sequence[Prepared],
    prompter: Prompter,
    config: RunConfig,
    step: int,
    engine: Engine | None = None,
) -> list[tuple[Prepared, Rollout]]:
    """Sample `rollout.n` completions for each sample, with `engine` or in this process.

    Under the control `sft` all that follows the description is replaced by the reference.
    """
    engine = engine or InProcess(student)
    rollout = config.rollout
    requests = [
        (item, Request(item.key, item.prompt, draw)) for item in prepared for draw in range(rollout.n)
    ]
    sampling = Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_p, rollout.top_k)
    key = (config.seed, "rollout", step)
    job = SamplingJob([r for _, r in requests], sampling, key, rollout.batch, log_probs=True)
    rollouts = engine.roll_out(job)
    if config.routing.student.writes == "reference":
        rollouts = [
            reference_completion(student, prompter, item, rollout)
            for (item, _), rollout in zip(requests, rollouts, strict=True)
        ]
    return [(item, rollout) for (item, _), rollout in zip(requests, rollouts, strict=True)]


def reference_completion(student: Student, prompter: Prompter, item: Prepared, rollout: Rollout) -> Rollout:
    """The completion of the control `sft`: the student's description, then the reference solution.

    If the token that ends the tag of the description holds more text (`><`), the rest of it is left out.
    """
    head: tuple[int, ...] = ()
    thinks = ""
    if DESCRIPTION_END in rollout.text:
        head, thinks = description_tokens(rollout), f" {THINK}"
        begins = (0, *rollout.ends)[len(rollout.prompt.prefill) :]  # where the text of each token begins
        tag_end = rollout.text.index(DESCRIPTION_END) + len(DESCRIPTION_END)
        if begins[len(head)] > tag_end:
            head = head[:-1]
            thinks = rollout.text[begins[len(head)] : tag_end] + thinks
    solution = reference_text(item.sample, "solution")
    tail = [(f"{thinks} ", False), (solution, True), (f" {THINK_END} \\boxed{{", False)]
    tail += [(reference_text(item.sample), True), ("}", False)]
    ids = (*head, *prompter.encode_text(tail), min(student.stop_ids & {student.tokenizer.eos_token_id}))
    return as_rollout(student, Request(rollout.sample_id, rollout.prompt, rollout.draw), ids)
