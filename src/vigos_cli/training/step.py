"""One step of training, from a batch of samples to the optimizer step and its report.

    batch -> rollouts -> segments and supervision -> teachers -> student -> loss -> backward -> step -> report

The loss is normalised over the optimizer batch of all processes, so neither the micro-batch nor the number
of processes changes the gradient. Every random draw depends on the step alone, so a resumed run repeats it
exactly.

Shapes: B rows of a micro-batch, T tokens, N supervised tokens of one teacher in it, H hidden width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from vigos_cli.config.schema import DistillRun, LossConfig
from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.term_weights import term_counts, token_weights
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.contexts import Supervised, supervise_all, supervised_tokens
from vigos_cli.supervision.hidden_states import hidden_states, predicting_states, teacher_states
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.training.gradient_scale import divide_gradients, gradient_scale
from vigos_cli.training.learner import Learner
from vigos_cli.training.schedule import learning_rate, total_steps
from vigos_cli.training.step_report import StepReport
from vigos_cli.types import Role
from vigos_cli.utils import process_group, rng


def train_step(learner: Learner, batches: Batches, prompter: Prompter, config: DistillRun) -> dict[str, Any]:
    """Take one optimizer step; return its line of metrics.jsonl."""
    student, step, report = learner.student, learner.step, StepReport(learner)

    with learner.timed("rollout"):
        prepared, counts = batches.at(step)
        rollouts = sample_rollouts(student, prepared, prompter, config, step, learner.engine)
        rows = supervise_all(rollouts, prompter, config)
    rows, divisors = weigh_terms(rows, config.loss)
    scale = gradient_scale(rows, student.base.dtype)

    learner.optimizer.zero_grad(set_to_none=True)
    with rng.torch_seed(config.seed, "dropout", step, process_group.rank()):
        for micro in micro_batches(rows, config.trainer.micro_batch):
            roles = sorted({term.role for row in micro for term in row.terms})
            with learner.timed("teachers"):
                teachers_NH = {
                    role: teacher_states(student, role, micro, config.teacher.weights, learner.ema)
                    for role in roles
                    if role is not Role.TARGET  # text to imitate has no teacher
                }
            with learner.timed("learn"):
                student.net.train()  # dropout of the adapter; the base has none
                hidden_BTH = hidden_states(student, Role.STUDENT, micro)
                loss = hidden_BTH.new_zeros((), dtype=torch.float32)
                for role in roles:
                    sampled_N, weight_N = _sampled_and_weight(micro, role, student.device)
                    with learner.timed("loss"):  # its time is also part of "learn"
                        part, stats = fused_loss(
                            predicting_states(hidden_BTH, Role.STUDENT, micro, role),
                            teachers_NH.get(role),
                            student.head_VH,
                            sampled_N,
                            weight_N,
                            DivergenceSpec.from_config(config.loss, role),
                            chunk=config.loss.chunk,
                        )
                    loss = loss + part
                    report.add(role, float(part.detach()), stats, micro)
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
            learner.update(lr, config.teacher.ema_decay)
    learner.step += 1
    return report.line(prepared, rows, counts, lr=lr, grad_norm=norm)


def weigh_terms(rows: Sequence[Supervised], loss: LossConfig) -> tuple[list[Supervised], Counter[str]]:
    """Set the weight of each term to what one of its tokens counts in the loss (eq. 18-21).

    Also return the divisors of the terms, summed over all processes; empty if no token is supervised.
    """
    terms = [row.terms for row in rows]
    divisors = process_group.sum_counts(term_counts(terms, loss.reduction))
    weights = token_weights(terms, loss, divisors)
    weighted = [
        replace(row, terms=tuple(replace(t, weight=w) for t, w in zip(row.terms, of_row, strict=True)))
        for row, of_row in zip(rows, weights, strict=True)
    ]
    return weighted, divisors


def micro_batches(rows: Sequence[Supervised], size: int) -> list[list[Supervised]]:
    """Group the rows that have a term by length, longest first, so that a lack of memory shows at once."""
    taught = sorted((row for row in rows if row.terms), key=lambda row: -row.length)
    return [taught[i : i + size] for i in range(0, len(taught), size)]


def _sampled_and_weight(
    micro: Sequence[Supervised], role: Role, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The ids (N,) and the weights (N,) of the tokens that `role` supervises."""
    tokens = supervised_tokens(micro, role)
    sampled_N = torch.tensor([micro[b].rollout.ids[i] for b, i, _ in tokens], device=device)
    return sampled_N, torch.tensor([term.weight for _, _, term in tokens], device=device)
