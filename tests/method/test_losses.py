"""Divergences, clips and weights are compared with definitions in plain Python."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vigos_cli.config.schema import CHOICES
from vigos_cli.method import losses
from vigos_cli.method.losses import (
    CLIPS,
    DIVERGENCES,
    OF_SAMPLED_TOKEN,
    WITHOUT_TEACHER,
    DivergenceSpec,
    TokenStats,
    score,
    score_target,
)
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
    DivergenceSpec("forward_kl", top_k=3, tail="bucket"),
    DivergenceSpec("forward_kl", top_k=3, tail="renormalise", temperature=1.3),
    DivergenceSpec("forward_kl", top_k=2, top_k_of="student", tail="bucket"),
    DivergenceSpec("forward_kl", top_k=2, top_k_of="student", tail="renormalise"),
    DivergenceSpec("forward_kl", top_k=V, tail="bucket"),
    DivergenceSpec("forward_kl", top_k=V + 5, tail="renormalise"),
    DivergenceSpec("reverse_kl", top_k=3, tail="bucket", temperature=0.8),
    DivergenceSpec("reverse_kl", top_k=2, top_k_of="student", tail="renormalise"),
    DivergenceSpec("jsd", top_k=2, top_k_of="student", tail="bucket"),
    DivergenceSpec("jsd", top_k=3, tail="renormalise", beta=0.2),
    DivergenceSpec("jsd", beta=0),
    DivergenceSpec("jsd", beta=1, top_k=2, top_k_of="student"),
    DivergenceSpec("skew_kl", top_k=4, tail="bucket"),
    DivergenceSpec("sampled"),
    DivergenceSpec("sampled", temperature=1.4, top_k=1),
    DivergenceSpec("cross_entropy"),
    DivergenceSpec("advantage"),
    DivergenceSpec("advantage", advantage=0.3, temperature=1.2, top_k=1),
]
KL_LIKE = [spec for spec in SPECS if spec.divergence not in OF_SAMPLED_TOKEN]


def name_of(spec: DivergenceSpec) -> str:
    parts = [spec.divergence, spec.clip, f"t{spec.temperature}", f"b{spec.beta}", f"a{spec.alpha}"]
    return "-".join([*parts, f"k{spec.top_k}", spec.top_k_of, spec.tail])


# ---- the definitions in Python floats, for one token at a time


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    top = max(logits)
    e = [math.exp((x - top) / temperature) for x in logits]
    return [x / sum(e) for x in e]


def kl_summands(a: list[float], b: list[float]) -> list[float]:
    return [x * math.log(x / y) if x > 0 else 0.0 for x, y in zip(a, b, strict=True)]


def chosen(p: list[float], q: list[float], spec: DivergenceSpec) -> tuple[list[float], list[float]]:
    """The probabilities that are compared if `top_k` is set."""
    by = q if spec.top_k_of == "teacher" else p
    kept = sorted(range(len(q)), key=lambda v: -by[v])[: spec.top_k]
    a, b = [p[v] for v in kept], [q[v] for v in kept]
    if spec.tail == "renormalise":
        return [x / sum(a) for x in a], [x / sum(b) for x in b]
    if len(kept) < len(q):
        rest = [v for v in range(len(q)) if v not in kept]
        return [*a, sum(p[v] for v in rest)], [*b, sum(q[v] for v in rest)]
    return a, b


def plain_summands(p: list[float], q: list[float], y: int, spec: DivergenceSpec) -> list[float]:
    if spec.top_k is not None and spec.divergence.endswith(("kl", "jsd")):
        p, q = chosen(p, q, spec)
    match spec.divergence:
        case "forward_kl":
            return kl_summands(q, p)
        case "reverse_kl":
            return kl_summands(p, q)
        case "jsd" if spec.beta in (0, 1):  # the ends are the two KLs
            return kl_summands(p, q) if spec.beta else kl_summands(q, p)
        case "jsd":
            m = [spec.beta * b + (1 - spec.beta) * a for a, b in zip(p, q, strict=True)]
            halves = zip(kl_summands(q, m), kl_summands(p, m), strict=True)
            return [spec.beta * a + (1 - spec.beta) * b for a, b in halves]
        case "skew_kl":
            return kl_summands(q, [spec.alpha * b + (1 - spec.alpha) * a for a, b in zip(p, q, strict=True)])
        case "sampled":
            return [math.log(p[y] / q[y])]
        case "cross_entropy":
            return [-math.log(p[y])]
        case "advantage":
            return [-spec.advantage * math.log(p[y])]
    raise AssertionError(spec.divergence)


def plain_value(student: list[float], teacher: list[float], y: int, spec: DivergenceSpec) -> float:
    p, q = softmax(student, spec.temperature), softmax(teacher, spec.temperature)
    summands = plain_summands(p, q, y, spec)
    if spec.clip == "entry":
        return sum(min(x, spec.clip_value) for x in summands)
    if spec.clip == "both":
        return max(-spec.clip_value, min(sum(summands), spec.clip_value))
    return sum(summands) if spec.clip == "none" else min(sum(summands), spec.clip_value)


def differences(f: Callable[[list[float]], float], at: list[float], step: float = 1e-5) -> list[float]:
    def moved(i: int, by: float) -> float:
        return f([x + by * (i == j) for j, x in enumerate(at)])

    return [(moved(i, step) - moved(i, -step)) / (2 * step) for i in range(len(at))]


def plain_gradient(student: list[float], teacher: list[float], y: int, spec: DivergenceSpec) -> list[float]:
    if spec.divergence == "sampled":  # the advantage as a constant, times the gradient of log p(y)
        p, q = softmax(student, spec.temperature), softmax(teacher, spec.temperature)
        cost = math.log(p[y] / q[y])
        if spec.clip == "both":
            cost = max(-spec.clip_value, min(cost, spec.clip_value))
        elif spec.clip != "none" and cost > spec.clip_value:
            cost = spec.clip_value if spec.clip == "scale" else 0.0
        return [cost * ((v == y) - p[v]) / spec.temperature for v in range(len(p))]
    if spec.clip in ("scale", "both"):
        free = replace(spec, clip="none")
        value = plain_value(student, teacher, y, free)
        size = abs(value) if spec.clip == "both" else value
        shrink = min(1.0, spec.clip_value / size) if size > 0 else 1.0
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
    return None if spec.divergence in WITHOUT_TEACHER else teacher_NV


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
        plain = softmax(row[0], 1.0)[row[2]]
        assert stats.student_logp_N[i].item() == pytest.approx(math.log(plain))
        told = 0.0 if spec.divergence in WITHOUT_TEACHER else math.log(q[row[2]])
        assert stats.teacher_logp_N[i].item() == pytest.approx(told)
        summands = plain_summands(p, q, row[2], spec)
        clipped = {
            "none": False,
            "token": free > LIMIT,
            "scale": free > LIMIT,
            "both": abs(free) > LIMIT,
            "entry": any(x > LIMIT for x in summands),
        }
        assert bool(stats.clipped_N[i]) == clipped[clip]
        silent = {"token": free > LIMIT, "entry": all(x > LIMIT for x in summands)}.get(clip, False)
        assert bool(stats.silent_N[i]) == silent
        if silent:
            assert not grad_NV[i].any()
    if clip != "none" and spec.divergence not in WITHOUT_TEACHER:
        assert 0 < stats.clipped_N.sum() < len(y)  # some tokens are clipped and some are not


@pytest.mark.parametrize("clip", ["none", "token", "entry"])
@pytest.mark.parametrize("spec", KL_LIKE, ids=name_of)
def test_gradcheck(spec: DivergenceSpec, clip: str):
    spec = replace(spec, clip=clip)
    student, teacher, y = draw(4)
    assert torch.autograd.gradcheck(lambda x: score(x, teacher, y, spec)[0], student.requires_grad_())


def test_divergences_and_clips_are_those_of_the_config():
    assert {*DIVERGENCES} == {*CHOICES["loss.divergence"], *WITHOUT_TEACHER}
    assert CHOICES["loss.invalid"] == CHOICES["loss.divergence"]
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

    def value(name: str, **options: float | str) -> float:
        return score(student, teacher, y, DivergenceSpec(name, **options))[0].item()  # pyright: ignore

    full = value("forward_kl")
    assert value("skew_kl", alpha=alpha) <= min(-math.log(alpha), full) + 1e-5
    for of in ("teacher", "student"):
        for name, whole in {
            "forward_kl": full,
            "reverse_kl": value("reverse_kl"),
            "jsd": value("jsd"),
        }.items():
            buckets = [value(name, top_k=k, top_k_of=of) for k in range(1, V + 2)]
            assert buckets == sorted(buckets) or buckets == pytest.approx(sorted(buckets), abs=1e-5)
            assert buckets[-1] == pytest.approx(whole, abs=1e-5)


def test_scaled_jsd_approaches_both_kls_as_beta_nears_0_and_1():
    student, teacher, y = (x[:8] for x in draw())  # very different teachers converge later
    for beta, end in [(1e-6, "forward_kl"), (1 - 1e-6, "reverse_kl")]:
        near = score(student, teacher, y, DivergenceSpec("jsd", beta=beta))[0] / 1e-6
        limit = score(student, teacher, y, DivergenceSpec(end))[0]
        torch.testing.assert_close(near, limit, rtol=1e-3, atol=1e-6)
        assert torch.equal(score(student, teacher, y, DivergenceSpec("jsd", beta=round(beta)))[0], limit)


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


def test_both_clamps_the_log_ratio_of_a_sampled_token():
    """ViCuR's case: the token y = 0 has the ratio 8 to 1, 1 to 8, and 5 to 6, with the limit log 2.

    The gradient of log p(y) is 1 - p(y) at y, so at p(y) = 8/9, 1/9, 5/11 it is 1/9, 8/9, 6/11.
    """
    p = torch.tensor([[8 / 9, 1 / 9], [1 / 9, 8 / 9], [5 / 11, 6 / 11]], dtype=torch.float64)
    q = torch.tensor([[1 / 9, 8 / 9], [8 / 9, 1 / 9], [6 / 11, 5 / 11]], dtype=torch.float64)
    spec = DivergenceSpec("sampled", clip="both", clip_value=math.log(2))
    cost_N, grad_NV, stats = cost_and_gradient(p.log(), q.log(), torch.zeros(3, dtype=torch.long), spec)
    assert cost_N.tolist() == pytest.approx([0.693147, -0.693147, -0.182322], abs=1e-6)
    assert grad_NV[:, 0].tolist() == pytest.approx(
        [0.693147 / 9, -0.693147 * 8 / 9, -0.182322 * 6 / 11], abs=1e-6
    )
    assert stats.clipped_N.tolist() == [True, True, False]
    assert not stats.silent_N.any()


def test_a_fixed_advantage_needs_no_teacher():
    """p(y) = 1/4 has log p(y) = -1.386294; A = -0.5 lowers it, and A = 1 is cross-entropy."""
    student, y = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64), torch.tensor([0])
    cost_N, grad_NV, stats = cost_and_gradient(student, None, y, DivergenceSpec("advantage"))
    assert cost_N.tolist() == pytest.approx([-0.693147], abs=1e-6)
    assert grad_NV.tolist() == [pytest.approx([0.375, -0.375])]  # a step down the gradient lowers y's logit
    assert stats.teacher_logp_N.tolist() == [0]
    up = cost_and_gradient(student, None, y, DivergenceSpec("advantage", advantage=1.0))
    likelihood = cost_and_gradient(student, None, y, DivergenceSpec("cross_entropy"))
    assert torch.equal(up[0], likelihood[0]) and torch.equal(up[1], likelihood[1])
    with pytest.raises(AssertionError, match="needs a teacher"):
        score(student, None, y, DivergenceSpec("sampled"))


def test_a_divergence_is_chosen_on_the_entries_of_one_side():
    """With k = 1 the teacher chooses the last entry of q = (.1, .3, .6), the student the first of p."""
    p, q = (torch.tensor([x], dtype=torch.float64).log() for x in ([0.6, 0.3, 0.1], [0.1, 0.3, 0.6]))
    # two entries each: (.1, .9) against (.6, .4), and (.6, .4) against (.1, .9)
    of_teacher = 0.6 * math.log(0.6 / 0.1) + 0.4 * math.log(0.4 / 0.9)
    of_student = 0.1 * math.log(0.1 / 0.6) + 0.9 * math.log(0.9 / 0.4)
    for of, expected in [("teacher", of_teacher), ("student", of_student)]:
        spec = DivergenceSpec("forward_kl", top_k=1, top_k_of=of)
        assert score(p, q, torch.tensor([0]), spec)[0].item() == pytest.approx(expected)
        alone = replace(spec, tail="renormalise")  # one entry of probability 1 on both sides
        assert score(p, q, torch.tensor([0]), alone)[0].item() == 0


def finite_on_zeros(spec: DivergenceSpec) -> bool:
    """Whether `targets.check` lets this divergence have a target with zeros."""
    renormalised = spec.top_k is not None and spec.top_k_of == "student" and spec.tail == "renormalise"
    return spec.divergence != "reverse_kl" and spec.beta != 1 and not renormalised


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("spec", list(filter(finite_on_zeros, KL_LIKE)), ids=name_of)
def test_an_entry_outside_the_support_costs_what_a_tiny_probability_costs(spec: DivergenceSpec, clip: str):
    """A target with zeros has no NaN, and is the limit of targets without zeros."""
    spec = replace(spec, clip=clip, clip_value=LIMIT)
    student, teacher, y = draw()
    zero, tiny = teacher.clone(), teacher.clone()
    zero[:, 1:4:2], tiny[:, 1:4:2] = -math.inf, -500.0 - teacher[:, 1:4:2].abs()
    results = []
    for target in (zero, tiny):
        student = student.detach().requires_grad_()
        cost_N, stats = score_target(student, target.log_softmax(-1), y, spec)
        results.append((cost_N.detach(), torch.autograd.grad(cost_N.sum(), student)[0], stats))
    (cost_N, grad_NV, stats), (near_N, near_NV, near_stats) = results
    torch.testing.assert_close(cost_N, near_N)
    torch.testing.assert_close(grad_NV, near_NV)
    torch.testing.assert_close(stats.divergence_N, near_stats.divergence_N)
    assert torch.equal(stats.clipped_N, near_stats.clipped_N)
    outside = (y == 1) | (y == 3)
    assert 0 < outside.sum() < len(y)
    assert stats.teacher_logp_N.isneginf().tolist() == outside.tolist()


def test_a_target_of_log_probabilities_is_compared_like_logits():
    student, teacher, y = draw()
    spec = DivergenceSpec("jsd", temperature=1.7, top_k=3)
    cost_N, stats = score(student, teacher, y, spec)
    same_N, same_stats = score_target(student, (teacher / 1.7).log_softmax(-1), y, spec)
    assert torch.equal(cost_N, same_N)
    assert torch.equal(stats.teacher_logp_N, same_stats.teacher_logp_N)


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
        ("jsd", {"beta": -0.1}),
        ("jsd", {"beta": 1.1}),
        ("skew_kl", {"alpha": 0.0}),
        ("skew_kl", {"alpha": 1.0}),
        ("reverse_kl", {"top_k": 0}),
        ("forward_kl", {"temperature": 0.0}),
        ("forward_kl", {"clip": "token", "clip_value": 0.0}),
    ],
)
def test_options_out_of_range_are_one_line(name: str, options: dict):
    with pytest.raises(ConfigError, match=rf"^loss\.{[*options][-1]} must .*$") as caught:
        DivergenceSpec(name, **options)
    assert "\n" not in str(caught.value)


def test_options_that_the_divergence_does_not_read_are_not_checked():
    DivergenceSpec("forward_kl", beta=-1.0, alpha=0.0, clip="none", clip_value=0.0)
