"""One step of training, from a batch of samples to the optimizer step and its report.

    batch -> rollouts -> segments and supervision -> teachers -> student -> loss -> backward -> step -> report

The loss is normalised over the optimizer batch of all processes, so neither the micro-batch nor the number
of processes changes the gradient. Every random draw depends on the step alone, so a resumed run repeats it
exactly.

Shapes: B rows of a micro-batch, T tokens, H hidden width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import torch

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import DistillRun
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.term_weights import term_counts, token_weights
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.even_passes import even_batches, zero_loss
from vigos_cli.supervision.hidden_states import hidden_states, supervised_tokens
from vigos_cli.supervision.loss_calls import Reading, loss_calls, read_teachers, score_call
from vigos_cli.supervision.micro_batches import micro_batches
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.supervision.token_selection import select_tokens
from vigos_cli.training.gradient_scale import divide_gradients, gradient_scale
from vigos_cli.training.learner import Learner
from vigos_cli.training.schedule import learning_rate, total_steps
from vigos_cli.training.step_report import StepReport
from vigos_cli.utils import process_group, rng


def train_step(learner: Learner, batches: Batches, prompter: Prompter, config: DistillRun) -> dict[str, Any]:
    """Take one optimizer step; return its line of metrics.jsonl."""
    student, step, report = learner.student, learner.step, StepReport(learner, config.routing)
    size, tokens = config.trainer.micro_batch, config.trainer.micro_tokens

    with learner.timed("rollout"):
        prepared, counts = batches.at(step)
        rollouts = sample_rollouts(student, prepared, prompter, config, step, learner.engine)
        rows = supervise_all(rollouts, prompter, config)
    with learner.timed("teachers"):
        rows = select_tokens(
            student, rows, learner.teachers, config.routing, micro_batch=size, micro_tokens=tokens
        )
    rows, divisors = weigh_terms(rows, config)
    scale = gradient_scale(rows, student.base.dtype)

    learner.optimizer.zero_grad(set_to_none=True)
    with rng.torch_seed(config.seed, "dropout", step, process_group.rank()):
        for micro in even_batches(student, micro_batches(rows, size, tokens), []):
            with learner.timed("teachers"):
                teachers = read_teachers(student, micro, learner.teachers)
            with learner.timed("learn"):
                student.net.train()  # dropout of the adapter; the base has none
                hidden_BTH = hidden_states(student, STUDENT, micro, supervised_tokens(micro))
                heads = learner.teachers.heads(teachers)
                read = Reading(micro, hidden_BTH, teachers, heads, student, config)
                loss = zero_loss(hidden_BTH, idle=not micro)
                for call in loss_calls(micro, config.routing, config.loss):
                    with learner.timed("loss"):  # its time is also part of "learn"
                        part, stats = score_call(call, read)
                    loss = loss + part
                    report.add(call, float(part.detach()), stats, micro)
                (loss * scale).backward()
                student.net.eval()

    with learner.timed("learn"):
        parameters = list(student.adapter.values())
        divide_gradients(parameters, scale)
        process_group.sum_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.trainer.max_grad_norm))
        lr = learning_rate(config.trainer, step, total_steps(config, len(batches.data)))
        if not divisors:  # no token of the batch has a teacher
            counts["step_without_supervision"] += process_group.rank() == 0
        elif not isfinite(norm):  # NaN or infinite: the adapter stays as it is
            counts["step_not_finite"] += process_group.rank() == 0
        else:
            learner.update(lr)
    learner.step += 1
    return report.line(prepared, rows, counts, lr=lr, grad_norm=norm)


def weigh_terms(rows: Sequence[Supervised], config: DistillRun) -> tuple[list[Supervised], Counter[str]]:
    """Set the weight of each term to what one of its tokens counts in the loss (eq. 18-21).

    Also return the divisors of the means, summed over all processes; empty if no token is supervised.
    """
    terms, rules = [row.terms for row in rows], supervision_rules(config.routing)
    sampled = [len(row.rollout.ids) for row in rows]
    divisors = process_group.sum_counts(term_counts(terms, config.loss.reduction, sampled))
    weights = token_weights(terms, rules, config.loss, divisors)
    weighted = [
        replace(row, terms=tuple(replace(t, weight=w) for t, w in zip(row.terms, of_row, strict=True)))
        for row, of_row in zip(rows, weights, strict=True)
    ]
    return weighted, divisors
