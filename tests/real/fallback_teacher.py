"""Can the fallback teacher teach the format? Measure it before any training.

    python tests/real/fallback_teacher.py rows=64 model=custom model.path=FOLDER adapter=lora ...

Two things are measured for the settings of a `vigos distill`:

- **written**: the share of valid turns if the student writes, and if the fallback teacher itself writes. The
  teacher never writes in training. But it can only lead to turns that it would write.
- **pulled**: at each token of the student's invalid rollouts, the probability that student p and teacher q
  give to the tokens that can begin the next missing delimiter (`</`, ` <`, `.</`), and the pull on them: the
  sum of the negative gradients of the divergence with respect to their logits.

      forward KL    sum of q - p
      reverse KL    sum of p (KL - log(p / q))       about p times a few nats, so next to nothing if p is
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from vigos_cli.config.compose import job
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.load import load_data
from vigos_cli.generation.engine import InProcess
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob
from vigos_cli.method.fused_loss import project
from vigos_cli.method.instructions import load_prompts
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.segments import BOX, FORMATS, parse_rollout
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.supervision.batches import prepare
from vigos_cli.supervision.contexts import supervise_all
from vigos_cli.supervision.hidden_states import hidden_states, predicting_states, teacher_states
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.types import Rollout
from vigos_cli.utils.quiet import quieten
from vigos_cli.utils.stats import mean_interval

TEACHER = "fallback"  # of routing=vigos
ORDER = (*FORMATS["structured"], BOX)  # the delimiters of a turn, in order
LETTER = re.compile(r"\w")


def openers(names: list[str], delimiter: str) -> list[int]:
    """The tokens that can begin a delimiter: blanks or marks, then a prefix of it, or all of it and more."""
    found = []
    for token, text in enumerate(names):
        before, sign, rest = text.partition(delimiter[0])
        if sign and not LETTER.search(before):
            begun = sign + rest
            if delimiter.startswith(begun) or begun.startswith(delimiter):
                found.append(token)
    return found


def next_delimiter(text: str) -> str | None:
    """The first delimiter of the format that is missing in the text; None if it has all of them."""
    return next((delimiter for delimiter in ORDER if delimiter not in text), None)


def pulls(logp_NV: Tensor, logq_NV: Tensor, at_K: Tensor) -> tuple[Tensor, ...]:
    """Probabilities (student, teacher) of the tokens `at_K`, and the pulls on them (forward, reverse)."""
    p_NV, q_NV = logp_NV.exp(), logq_NV.exp()
    kl_N1 = (p_NV * (logp_NV - logq_NV)).sum(-1, keepdim=True)
    reverse_NV = p_NV * (kl_N1 - (logp_NV - logq_NV))
    student, teacher = p_NV[:, at_K].sum(-1), q_NV[:, at_K].sum(-1)
    return student, teacher, teacher - student, reverse_NV[:, at_K].sum(-1)


def written(student: Student, prepared: list[Prepared], context: str, prompter: Prompter, config: Any) -> Any:
    """How often turns are valid if the model writes them after the prompt of `context`."""
    prompts = [
        prompter.render(context, item.images, question=item.sample.question, reference=item.reference)
        for item in prepared
    ]
    requests = [Request(item.key, prompt) for item, prompt in zip(prepared, prompts, strict=True)]
    drawn = config.rollout
    found = {}
    ways = {"sampled": drawn.temperature} | ({} if context == STUDENT else {"greedy": 0.0})
    for name, temperature in ways.items():
        sampling = Sampling(drawn.max_new_tokens, temperature, drawn.top_p, drawn.top_k)
        work = SamplingJob(requests, sampling, (config.seed, "rollout", 0), drawn.batch)
        rollouts = InProcess(student).roll_out(work)
        parsed = [parse_rollout(rollout, student=config.routing.student.format) for rollout in rollouts]
        share = mean_interval([float(one.valid) for one in parsed], [item.key for item in prepared])
        found[name] = {
            "valid": str(share),
            "n": len(parsed),
            "finished": fmean(rollout.finished for rollout in rollouts),
            "reasons": dict(Counter(one.reason for one in parsed if not one.valid).most_common(4)),
            "first": rollouts[0].text,
        }
        if name == "sampled" and context == STUDENT:
            found["rollouts"] = rollouts
    return found


@torch.no_grad()
def pulled(
    student: Student, pairs: list[tuple[Prepared, Rollout]], prompter: Prompter, config: Any
) -> dict[str, Any]:
    """The probabilities and pulls of the next delimiter, averaged over the tokens of invalid rollouts."""
    tokenizer = student.tokenizer
    names = [tokenizer.decode([i]) for i in range(len(tokenizer))]
    starts = {delimiter: torch.tensor(openers(names, delimiter)) for delimiter in ORDER}
    supervise = replace(config.routing.supervise, invalid=TEACHER)
    routing = replace(config.routing, supervise=supervise)
    rows = supervise_all(pairs, prompter, replace(config, routing=routing))
    weights = TeacherWeights.of_run(student, routing, config.teacher)
    rows = [row for row in rows if not row.segments.valid]
    values: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        tokens = [(0, i) for i in row.tokens_of(TEACHER)]
        teacher_NH = teacher_states(student, TEACHER, [row], tokens, weights)
        own_BTH = hidden_states(student, STUDENT, [row])
        student_NH = predicting_states(own_BTH, STUDENT, [row], tokens)
        logp_NV, logq_NV = (project(h, student.head_VH).log_softmax(-1) for h in (student_NH, teacher_NH))
        begins = (0, *row.rollout.ends)[len(row.rollout.prompt.prefill) :]
        for n, (_, token) in enumerate(tokens):
            delimiter = next_delimiter(row.rollout.text[: begins[token]])
            if delimiter is not None:
                at_K = starts[delimiter].to(logp_NV.device)
                found = pulls(logp_NV[n : n + 1], logq_NV[n : n + 1], at_K)
                values.setdefault(delimiter, []).append(tuple(float(x) for x in found))
    columns = ("student", "teacher", "forward_pull", "reverse_pull")
    return {
        delimiter: {"tokens": len(rows)}
        | {name: f"{fmean(row[i] for row in rows):.2e}" for i, name in enumerate(columns)}
        | {"at the teacher's highest": dict(zip(columns, (f"{x:.2e}" for x in highest), strict=True))}
        for delimiter, rows in values.items()
        for highest in [max(rows, key=lambda row: row[1])]
    }


def main(arguments: list[str]) -> None:
    """Measure and print, as JSON."""
    rows = next((int(a.removeprefix("rows=")) for a in arguments if a.startswith("rows=")), 64)
    config = job("distill", ["out=unused", *(a for a in arguments if not a.startswith("rows="))])
    quieten()
    student = load_student(config.model, config.adapter, seed=config.seed)
    prompter = Prompter(student.processor, load_prompts(config.prompt), config.routing)
    data = load_data(config.data, config.seed, rows)
    prepared = prepare(data, [(i, i) for i in range(rows)], prompter, config, Counter())
    own = written(student, prepared, STUDENT, prompter, config)
    rollouts = own.pop("rollouts")
    print(json.dumps({"student writes": own}, indent=1), flush=True)
    some = list(zip(prepared, rollouts, strict=True))[:16]
    print(json.dumps({"pulled": pulled(student, some, prompter, config)}, indent=1), flush=True)
    with TeacherWeights.of_run(student, config.routing, config.teacher).model(student, TEACHER):
        told = written(student, prepared, TEACHER, prompter, config)
    print(json.dumps({"fallback teacher writes": told}, indent=1), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
