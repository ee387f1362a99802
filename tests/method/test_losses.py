"""Divergences, clips and weights are compared with definitions in plain Python."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise, starmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vigos_cli.config.schema import CHOICES, LossConfig
from vigos_cli.method import losses
from vigos_cli.method.losses import (
    CLIPS,
    DIVERGENCES,
    DivergenceSpec,
    TokenStats,
    score,
)
from vigos_cli.method.term_weights import term_counts, term_name, token_weights
from vigos_cli.types import Kind, Role, Term
from vigos_cli.utils.errors import ConfigError

V, LIMIT = 6, 0.02
SPECS = [
    DivergenceSpec("forward_kl"),
    DivergenceSpec("forward_kl", temperature=0.7),
    DivergenceSpec("reverse_kl"),
    DivergenceSpec("reverse_kl", temperature=1.6),
    DivergenceSpec("jsd", beta=0.1),
    DivergenceSpec("jsd", beta=0.5),
    DivergenceSpec("jsd", beta=0.9, temperature=2.0),
    DivergenceSpec("skew_kl", alpha=0.1),
    DivergenceSpec("skew_kl", alpha=0.7, temperature=0.5),
    DivergenceSpec("topk_kl", top_k=3, tail="bucket"),
    DivergenceSpec("topk_kl", top_k=3, tail="renormalise", temperature=1.3),
    DivergenceSpec("topk_kl", top_k=V, tail="bucket"),
    DivergenceSpec("topk_kl", top_k=V + 5, tail="renormalise"),
    DivergenceSpec("sampled"),
    DivergenceSpec("sampled", temperature=1.4),
    DivergenceSpec("cross_entropy"),
]
KL_LIKE = [spec for spec in SPECS if spec.divergence not in ("sampled", "cross_entropy")]


def name_of(spec: DivergenceSpec) -> str:
    parts = [spec.divergence, spec.clip, f"t{spec.temperature}", f"b{spec.beta}", f"a{spec.alpha}"]
    return "-".join([*parts, f"k{spec.top_k}", spec.tail])


# ---- the definitions in Python floats, for one token at a time


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    top = max(logits)
    e = [math.exp((x - top) / temperature) for x in logits]
    return [x / sum(e) for x in e]


def kl_summands(a: list[float], b: list[float]) -> list[float]:
    return [x * math.log(x / y) if x > 0 else 0.0 for x, y in zip(a, b, strict=True)]


def plain_summands(p: list[float], q: list[float], y: int, spec: DivergenceSpec) -> list[float]:
    match spec.divergence:
        case "forward_kl":
            return kl_summands(q, p)
        case "reverse_kl":
            return kl_summands(p, q)
        case "jsd":
            m = [spec.beta * b + (1 - spec.beta) * a for a, b in zip(p, q, strict=True)]
            halves = zip(kl_summands(q, m), kl_summands(p, m), strict=True)
            return [spec.beta * a + (1 - spec.beta) * b for a, b in halves]
        case "skew_kl":
            return kl_summands(q, [spec.alpha * b + (1 - spec.alpha) * a for a, b in zip(p, q, strict=True)])
        case "topk_kl":
            kept = sorted(range(len(q)), key=lambda v: -q[v])[: spec.top_k]
            a, b = [p[v] for v in kept], [q[v] for v in kept]
            if spec.tail == "renormalise":
                a, b = [x / sum(a) for x in a], [x / sum(b) for x in b]
            elif len(kept) < len(q):
                rest = [v for v in range(len(q)) if v not in kept]
                a, b = [*a, sum(p[v] for v in rest)], [*b, sum(q[v] for v in rest)]
            return kl_summands(b, a)
        case "sampled":
            return [math.log(p[y] / q[y])]
        case "cross_entropy":
            return [-math.log(p[y])]
    raise AssertionError(spec.divergence)


def plain_value(student: list[float], teacher: list[float], y: int, spec: DivergenceSpec) -> float:
    p, q = softmax(student, spec.temperature), softmax(teacher, spec.temperature)
    summands = plain_summands(p, q, y, spec)
    if spec.clip == "entry":
        return sum(min(x, spec.clip_value) for x in summands)
    return sum(summands) if spec.clip == "none" else min(sum(summands), spec.clip_value)


def differences(f: Callable[[list[float]], float], at: list[float], step: float = 1e-5) -> list[float]:
    def moved(i: int, by: float) -> float:
        return f([x + by * (i == j) for j, x in enumerate(at)])

    return [(moved(i, step) - moved(i, -step)) / (2 * step) for i in range(len(at))]


def plain_gradient(student: list[float], teacher: list[float], y: int, spec: DivergenceSpec) -> list[float]:
    if spec.divergence == "sampled":  # the advantage as a constant, times the gradient of log p(y)
        p, q = softmax(student, spec.temperature), softmax(teacher, spec.temperature)
        cost = math.log(p[y] / q[y])
        if spec.clip != "none" and cost > spec.clip_value:
            cost = spec.clip_value if spec.clip == "scale" else 0.0
        return [cost * ((v == y) - p[v]) / spec.temperature for v in range(len(p))]
    if spec.clip == "scale":
        free = replace(spec, clip="none")
        value = plain_value(student, teacher, y, free)
        shrink = min(1.0, spec.clip_value / value) if value > 0 else 1.0
        return [shrink * g for g in plain_gradient(student, teacher, y, free)]
    return differences(lambda x: plain_value(x, teacher, y, spec), student)


# ---- divergences and clips


def draw(n: int = 12, v: int = V, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 1.5):
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(n, v, generator=g, dtype=torch.float64) * spread
    # Teachers from nearly equal to very different, so that each clip sees tokens below and above its limit.
    far = torch.logspace(-2, 0.9, n, dtype=torch.float64)[:, None]
    teacher = student + far * torch.randn(n, v, generator=g, dtype=torch.float64)
    return student.to(dtype), teacher.to(dtype), torch.randint(v, (n,), generator=g)


def cost_and_gradient(student_NV: Tensor, teacher_NV: Tensor | None, y_N: Tensor, spec: DivergenceSpec):
    student_NV = student_NV.detach().requires_grad_()
    cost_N, stats = score(student_NV, teacher_NV, y_N, spec)
    (grad_NV,) = torch.autograd.grad(cost_N.sum(), student_NV)
    return cost_N.detach(), grad_NV, stats


def teacher_for(spec: DivergenceSpec, teacher_NV: Tensor) -> Tensor | None:
    return None if spec.divergence == "cross_entropy" else teacher_NV


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_value_and_gradient_are_those_of_the_definition(spec: DivergenceSpec, clip: str):
    spec = replace(spec, clip=clip, clip_value=LIMIT)
    student, teacher, y = draw()
    cost_N, grad_NV, stats = cost_and_gradient(student, teacher_for(spec, teacher), y, spec)
    for i in range(len(y)):
        row = student[i].tolist(), teacher[i].tolist(), int(y[i])
        free = plain_value(*row, replace(spec, clip="none"))
        assert cost_N[i].item() == pytest.approx(plain_value(*row, spec), abs=1e-10)
        assert grad_NV[i].tolist() == pytest.approx(plain_gradient(*row, spec), abs=1e-8)
        assert stats.divergence_N[i].item() == pytest.approx(free, abs=1e-10)
        p, q = softmax(row[0], spec.temperature), softmax(row[1], spec.temperature)
        assert stats.student_logp_N[i].item() == pytest.approx(math.log(p[row[2]]))
        told = 0.0 if spec.divergence == "cross_entropy" else math.log(q[row[2]])
        assert stats.teacher_logp_N[i].item() == pytest.approx(told)
        summands = plain_summands(p, q, row[2], spec)
        clipped = {
            "none": False,
            "token": free > LIMIT,
            "scale": free > LIMIT,
            "entry": any(x > LIMIT for x in summands),
        }
        assert bool(stats.clipped_N[i]) == clipped[clip]
        silent = {"token": free > LIMIT, "entry": all(x > LIMIT for x in summands)}.get(clip, False)
        assert bool(stats.silent_N[i]) == silent
        if silent:
            assert not grad_NV[i].any()
    if clip != "none" and spec.divergence != "cross_entropy":
        assert 0 < stats.clipped_N.sum() < len(y)  # some tokens are clipped and some are not


@pytest.mark.parametrize("clip", ["none", "token", "entry"])
@pytest.mark.parametrize("spec", KL_LIKE, ids=name_of)
def test_gradcheck(spec: DivergenceSpec, clip: str):
    spec = replace(spec, clip=clip)
    student, teacher, y = draw(4)
    assert torch.autograd.gradcheck(lambda x: score(x, teacher, y, spec)[0], student.requires_grad_())


def test_divergences_and_clips_are_those_of_the_config():
    assert {*DIVERGENCES} == {*CHOICES["loss.segment"], "cross_entropy"}
    assert {*DIVERGENCES} == {*CHOICES["loss.reference"], "cross_entropy"}
    assert {*CLIPS} == {*CHOICES["loss.clip"]}


def test_example_of_the_module():
    assert doctest.testmod(losses).failed == 0
    assert doctest.testmod(losses).attempted > 0


def rows(v: int = V):
    logit = st.floats(-12, 12, width=32)
    return st.lists(st.lists(logit, min_size=v, max_size=v), min_size=2, max_size=2)


@given(rows())
@settings(max_examples=60, deadline=None)
def test_divergences_are_zero_at_equality_and_never_negative(pair: list[list[float]]):
    student, teacher = (torch.tensor([row]) for row in pair)
    y = torch.tensor([0])
    for spec in KL_LIKE:
        assert score(student, teacher, y, spec)[0].item() >= -1e-5
        cost_N, grad_NV, _ = cost_and_gradient(student, student, y, spec)
        assert cost_N.item() == pytest.approx(0, abs=1e-5)
        assert grad_NV.abs().max().item() == pytest.approx(0, abs=1e-5)


@given(rows(), st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_jsd_is_symmetric_at_a_half_and_bounded(pair: list[list[float]], beta: float):
    student, teacher = (torch.tensor([row]) for row in pair)
    y = torch.tensor([0])

    def jsd(a: Tensor, b: Tensor, beta: float) -> float:
        return score(a, b, y, DivergenceSpec("jsd", beta=beta))[0].item()

    assert jsd(student, teacher, 0.5) == pytest.approx(jsd(teacher, student, 0.5), abs=1e-5)
    assert jsd(student, teacher, 0.5) <= math.log(2) + 1e-6
    assert jsd(student, teacher, beta) == pytest.approx(jsd(teacher, student, 1 - beta), abs=1e-5)
    entropy = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
    assert jsd(student, teacher, beta) <= entropy + 1e-6


@given(rows(), st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_bounds_of_skew_and_bucket(pair: list[list[float]], alpha: float):
    student, teacher = (torch.tensor([row]) for row in pair)
    y = torch.tensor([0])

    def value(name: str, **options: float) -> float:
        return score(student, teacher, y, DivergenceSpec(name, **options))[0].item()  # pyright: ignore

    full = value("forward_kl")
    assert value("skew_kl", alpha=alpha) <= min(-math.log(alpha), full) + 1e-5
    buckets = [value("topk_kl", top_k=k) for k in range(1, V + 2)]
    assert buckets == sorted(buckets) or buckets == pytest.approx(sorted(buckets), abs=1e-5)
    assert buckets[-1] == pytest.approx(full, abs=1e-5)


def test_scaled_jsd_approaches_both_kls_as_beta_nears_0_and_1():
    student, teacher, y = (x[:8] for x in draw())  # very different teachers converge later
    for beta, end in [(1e-6, "forward_kl"), (1 - 1e-6, "reverse_kl")]:
        near = score(student, teacher, y, DivergenceSpec("jsd", beta=beta))[0] / 1e-6
        limit = score(student, teacher, y, DivergenceSpec(end))[0]
        torch.testing.assert_close(near, limit, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_sampled_is_reverse_kl_on_average(temperature: float):
    student, teacher, _ = draw(5)
    full, full_grad, _ = cost_and_gradient(
        student,
        teacher,
        torch.zeros(5, dtype=torch.long),
        DivergenceSpec("reverse_kl", temperature=temperature),
    )
    p = (student / temperature).softmax(-1)
    value, grad = torch.zeros_like(full), torch.zeros_like(full_grad)
    for y in range(V):
        spec = DivergenceSpec("sampled", temperature=temperature)
        cost_N, grad_NV, _ = cost_and_gradient(student, teacher, torch.full((5,), y), spec)
        value += p[:, y] * cost_N
        grad += p[:, y, None] * grad_NV
    torch.testing.assert_close(value, full)
    torch.testing.assert_close(grad, full_grad)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_extreme_logits_stay_finite(spec: DivergenceSpec, clip: str):
    spec = replace(spec, clip=clip)
    student = torch.tensor([[1e4, -1e4, 0, 0, 0, 0], [-1e4, 1e4, 0, 0, 0, 0], [1e4] * 6, [0, 1, 0, 0, 0, 0]])
    for teacher in (student, student.flip(0), -student, torch.zeros(4, V)):
        for y in (0, 1):
            cost_N, grad_NV, stats = cost_and_gradient(
                student, teacher_for(spec, teacher), torch.full((4,), y), spec
            )
            for x in (cost_N, grad_NV, stats.divergence_N, stats.student_logp_N, stats.teacher_logp_N):
                assert x.isfinite().all()


def test_statistics_carry_no_gradient():
    student, teacher, y = draw(3)
    _, stats = score(student.requires_grad_(), teacher.requires_grad_(), y, DivergenceSpec("jsd"))
    assert not any(x.requires_grad for x in (stats.divergence_N, stats.student_logp_N, stats.teacher_logp_N))
    both = TokenStats.empty(6, torch.device("cpu"))
    both.put(slice(0, 3), stats)
    both.put(slice(3, 6), stats)
    for field in fields(TokenStats):
        once_N, twice_N = getattr(stats, field.name), getattr(both, field.name)
        assert twice_N.dtype == (torch.bool if once_N.dtype == torch.bool else torch.float32)
        assert twice_N.tolist() == pytest.approx(once_N.tolist() * 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jsd", {"beta": 0.0}),
        ("jsd", {"beta": 1.0}),
        ("skew_kl", {"alpha": 0.0}),
        ("skew_kl", {"alpha": 1.0}),
        ("topk_kl", {"top_k": 0}),
        ("forward_kl", {"temperature": 0.0}),
        ("forward_kl", {"clip": "token", "clip_value": 0.0}),
    ],
)
def test_options_out_of_range_are_one_line(name: str, options: dict):
    with pytest.raises(ConfigError, match=rf"^loss\.{[*options][-1]} must .*$") as caught:
        DivergenceSpec(name, **options)
    assert "\n" not in str(caught.value)


def test_options_that_the_divergence_does_not_read_are_not_checked():
    DivergenceSpec("forward_kl", beta=0.0, alpha=0.0, top_k=0, clip="none", clip_value=0.0)


def test_spec_of_a_role():
    loss = LossConfig(segment="jsd", reference="topk_kl", clip="entry", clip_value=0.3, temperature=2.0)
    loss = replace(loss, beta=0.2, alpha=0.3, top_k=7, tail="renormalise")
    for role in (Role.PERCEPTION, Role.REASONING, Role.PRIVILEGED):
        assert DivergenceSpec.from_config(loss, role) == DivergenceSpec(
            "jsd", "entry", 0.3, 2.0, 0.2, 0.3, 7, "renormalise"
        )
    assert DivergenceSpec.from_config(loss, Role.REFERENCE).divergence == "topk_kl"
    target = DivergenceSpec.from_config(loss, Role.TARGET)
    assert (target.divergence, target.clip, target.temperature) == ("cross_entropy", "none", 1.0)


# ---- weights

P, R, F, O, T = Role.PERCEPTION, Role.REASONING, Role.REFERENCE, Role.PRIVILEGED, Role.TARGET  # noqa: E741
CELLS = {  # (role, kind) -> the term it is counted in
    (P, Kind.DESCRIPTION): "description",
    (R, Kind.DESCRIPTION): "description",
    (P, Kind.REASONING): "reasoning",
    (R, Kind.REASONING): "reasoning",
    (R, Kind.ANSWER): "reasoning",
    (P, Kind.INVALID): "description",
    (R, Kind.INVALID): "reasoning",
    (R, Kind.DELIMITERS): "reasoning",
    (P, Kind.DELIMITERS): "description",
    (R, Kind.END): "reasoning",
    (F, Kind.INVALID): "reference",
    (F, Kind.DESCRIPTION): "reference",
    (O, Kind.DESCRIPTION): "privileged",
    (O, Kind.ANSWER): "privileged",
    (O, Kind.INVALID): "privileged",
    (T, Kind.DESCRIPTION): "target",
    (T, Kind.END): "target",
}
SCALES = {"description": 0.5, "reasoning": 3.0, "reference": 2.0, "privileged": 1.0, "target": 1.0}
LOSS = LossConfig(description_weight=0.5, reasoning_weight=3.0, reference_weight=2.0)


@pytest.mark.parametrize(("cell", "name"), CELLS.items(), ids=lambda x: str(x))
def test_each_cell_belongs_to_its_term(cell: tuple[Role, Kind], name: str):
    assert term_name(Term(*cell, tokens=(0,))) == name


def test_the_student_cannot_be_a_teacher():
    with pytest.raises(AssertionError, match="student teaches nothing"):
        term_name(Term(Role.STUDENT, Kind.END, (0,)))


def terms():
    return st.builds(
        lambda cell, n, weight: Term(*cell, tokens=tuple(range(n)), weight=weight),
        st.sampled_from([*CELLS]),
        st.integers(0, 5),
        st.sampled_from([1.0, 0.5, 2.0]),
    )


def batches():
    return st.lists(st.lists(terms(), max_size=4), max_size=6)


def plain_loss(batch: list[list[Term]], costs: list[list[list[float]]], reduction: str) -> float:
    """Eq. 18-21 implemented literally: a mean per term, over tokens or over rollouts."""
    total = 0.0
    for name, scale in SCALES.items():
        by_rollout = [
            [
                (term.weight * cost)
                for term, term_costs in zip(rollout, rollout_costs, strict=True)
                if CELLS[term.role, term.kind] == name
                for cost in term_costs
            ]
            for rollout, rollout_costs in zip(batch, costs, strict=True)
        ]
        active = [xs for xs in by_rollout if xs]
        if reduction == "rollout" and active:
            total += scale * sum(sum(xs) / len(xs) for xs in active) / len(active)
        elif active:
            total += scale * sum(map(sum, active)) / sum(map(len, active))
    return total


@pytest.mark.parametrize("reduction", CHOICES["loss.reduction"])
@given(batch=batches(), data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_split_of_the_batch_has_the_same_weighted_sum(reduction: str, batch, data):
    loss = replace(LOSS, reduction=reduction)
    costs = [
        [[math.sin(7 * i + 3 * j + k) for k in t.tokens] for j, t in enumerate(r)]
        for i, r in enumerate(batch)
    ]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(batch)), max_size=3)))
    parts = [*starmap(slice, pairwise([0, *cuts, len(batch)]))]
    counts = sum((term_counts(batch[part], reduction) for part in parts), start=term_counts([], reduction))
    assert counts == term_counts(batch, reduction)
    total = 0.0
    for part in parts:
        weights = token_weights(batch[part], loss, counts)
        for rollout_weights, rollout_costs in zip(weights, costs[part], strict=True):
            for weight, term_costs in zip(rollout_weights, rollout_costs, strict=True):
                total += weight * sum(term_costs)
    assert total == pytest.approx(plain_loss(batch, costs, reduction), abs=1e-12)


def test_terms_are_counted_in_tokens_or_in_rollouts():
    batch = [
        [Term(P, Kind.DESCRIPTION, (0, 1)), Term(R, Kind.REASONING, (2, 3, 4)), Term(R, Kind.ANSWER, (5,))],
        [Term(F, Kind.INVALID, (0, 1, 2))],
        [Term(P, Kind.DESCRIPTION, (0,)), Term(R, Kind.REASONING, ())],
    ]
    assert term_counts(batch, "term_tokens") == {"description": 3, "reasoning": 4, "reference": 3}
    assert term_counts(batch, "rollout") == {"description": 2, "reasoning": 1, "reference": 1}
    weights = token_weights(batch, LOSS, term_counts(batch, "term_tokens"))
    assert weights == [[0.5 / 3, 3 / 4, 3 / 4], [2 / 3], [0.5 / 3, 0.0]]
    rollout = token_weights(batch, replace(LOSS, reduction="rollout"), term_counts(batch, "rollout"))
    assert rollout == [[0.5 / 4, 3 / 4, 3 / 4], [2 / 3], [0.5 / 2, 0.0]]
