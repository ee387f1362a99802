"""The gradient that is written out is the one that autograd computes, in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_losses import LIMIT, SPECS, draw, name_of, teacher_for

from vigos_cli.method.loss_gradient import SLOPES, score_and_gradient
from vigos_cli.method.losses import CLIPS, DivergenceSpec, score, score_target

WRITTEN_OUT = [spec for spec in SPECS if spec.divergence in SLOPES]


def by_autograd(student, spec, weight, scored):
    leaf = student.clone().requires_grad_()
    cost, stats = scored(leaf, spec)
    return cost.detach(), stats, torch.autograd.grad(cost @ weight, leaf)[0]


def check(found, expected, within: float) -> None:
    cost, stats, grad = found
    right_cost, right_stats, right_grad = expected
    assert torch.allclose(cost, right_cost, rtol=within, atol=within)
    assert torch.allclose(grad, right_grad, rtol=within, atol=within)
    for name in ("divergence_N", "student_logp_N", "teacher_logp_N"):
        assert torch.allclose(getattr(stats, name), getattr(right_stats, name), rtol=within, atol=within)
    assert stats.clipped_N.equal(right_stats.clipped_N) and stats.silent_N.equal(right_stats.silent_N)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_it_is_the_gradient_of_the_definition(spec: DivergenceSpec, clip: str):
    spec = replace(spec, clip=clip, clip_value=LIMIT)
    student, teacher, y = draw(n=24)
    weight = torch.linspace(0.1, 2.0, len(y), dtype=torch.float64)
    plain = teacher_for(spec, teacher)
    found = score_and_gradient(student, plain, y, weight, spec)
    check(found, by_autograd(student, spec, weight, lambda x, s: score(x, plain, y, s)), 1e-12)
    cost, _, none = score_and_gradient(student, plain, y, weight, spec, wanted=False)
    assert none is None and cost.equal(found[0])


@pytest.mark.parametrize("clip", ["none", "token", "entry", "scale"])
@pytest.mark.parametrize(
    "spec",
    [
        DivergenceSpec("forward_kl"),
        DivergenceSpec("jsd", beta=0.5, temperature=1.3),
        DivergenceSpec("jsd", beta=0.1, top_k=3),
        DivergenceSpec("skew_kl", alpha=0.1),
        DivergenceSpec("forward_kl", top_k=2, tail="renormalise"),
    ],
    ids=name_of,
)
def test_a_target_with_a_support_has_zeros(spec: DivergenceSpec, clip: str):
    spec = replace(spec, clip=clip, clip_value=LIMIT)
    student, teacher, y = draw(n=24)
    logq = teacher.masked_fill(teacher < teacher.median(-1, keepdim=True).values, -math.inf).log_softmax(-1)
    weight = torch.linspace(0.1, 2.0, len(y), dtype=torch.float64)
    found = score_and_gradient(student, None, y, weight, spec, logq_NV=logq)
    check(found, by_autograd(student, spec, weight, lambda x, s: score_target(x, logq, y, s)), 1e-12)


@pytest.mark.parametrize("spec", WRITTEN_OUT, ids=name_of)
def test_tokens_of_which_both_sides_are_sure_give_finite_numbers(spec: DivergenceSpec):
    """In float32 the probabilities of most entries are exactly zero."""
    student = torch.tensor([[0.0, -400.0, -300.0, -900.0, -800.0, -500.0]] * 3)
    teacher = torch.tensor([[-400.0, 0.0, -300.0, -900.0, -800.0, -500.0], [0.0] * 6, [300.0] + [-300.0] * 5])
    y, weight = torch.tensor([0, 1, 2]), torch.ones(3)
    found = score_and_gradient(student, teacher, y, weight, spec)
    assert found[2] is not None and found[2].isfinite().all() and found[0].isfinite().all()
    check(found, by_autograd(student, spec, weight, lambda x, s: score(x, teacher, y, s)), 1e-4)


def test_a_divergence_without_slopes_is_differentiated():
    assert set(SLOPES) == {"forward_kl", "reverse_kl", "jsd", "skew_kl"}
    student, teacher, y = draw()
    weight = torch.ones(len(y), dtype=torch.float64)
    grad = score_and_gradient(student, teacher, y, weight, DivergenceSpec("sampled"))[2]
    assert grad is not None and grad.abs().max() > 0
