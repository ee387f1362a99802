"""The fused loss has the value, gradient and statistics of the plain loss, and needs bounded memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise, starmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vigos_cli.method import fused_loss as fused
from vigos_cli.method.fused_loss import fused_loss, sampled_log_probs
from vigos_cli.method.loss_chunk import TILES
from vigos_cli.method.losses import (
    CLIPS,
    DIVERGENCES,
    WITHOUT_TEACHER,
    DivergenceSpec,
    TokenStats,
    score,
    score_target,
)
from vigos_cli.method.targets import Contrast, check, contrast
from vigos_cli.utils.errors import ConfigError

N, H, V = 11, 5, 23
Data = tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]
WHOLE = [DivergenceSpec(name, clip=clip, temperature=1.3, beta=0.3) for name in DIVERGENCES for clip in CLIPS]
K_ENTRIES = [
    DivergenceSpec(name, clip, limit, temperature=1.3, beta=0.3, top_k=4, top_k_of=of, tail=tail)
    for name, limit in {"forward_kl": 0.05, "reverse_kl": 0.05, "jsd": 0.005, "skew_kl": 0.05}.items()
    for clip in ("none", "entry")
    for of, tail in [("teacher", "bucket"), ("student", "bucket"), ("teacher", "renormalise")]
]
SPECS = [*WHOLE, *K_ENTRIES]


def name_of(spec: DivergenceSpec) -> str:
    return f"{spec.divergence}-{spec.clip}" + (f"-{spec.top_k_of}-{spec.tail}" if spec.top_k else "")


def draw(n: int = N, dtype: torch.dtype = torch.float32) -> Data:
    g = torch.Generator().manual_seed(0)
    student_NH = torch.randn(n, H, generator=g)
    far_N1 = torch.logspace(-2, 0, n)[:, None] if n else torch.zeros(0, 1)
    teacher_NH = student_NH + far_N1 * torch.randn(n, H, generator=g)
    head_VH = torch.randn(V, H, generator=g)
    weight_N = torch.rand(n, generator=g)
    sampled_N = torch.randint(V, (n,), generator=g)
    return student_NH.to(dtype), teacher_NH.to(dtype), head_VH.to(dtype), sampled_N, weight_N


def plain(student_NH, teacher_NH, head_VH, sampled_N, weight_N, spec, bias_V=None):
    """The plain loss: all logits at once, in float64, with autograd."""
    student_NH = student_NH.detach().double().requires_grad_()
    head_VH = head_VH.double()
    bias_V = torch.zeros(len(head_VH)).double() if bias_V is None else bias_V.double()
    teacher_NV = None if teacher_NH is None else teacher_NH.double() @ head_VH.T + bias_V
    cost_N, stats = score(student_NH @ head_VH.T + bias_V, teacher_NV, sampled_N, spec)
    loss = cost_N @ weight_N.double()
    (grad_NH,) = torch.autograd.grad(loss, student_NH)
    return loss.detach(), grad_NH, stats


def run(student_NH: Tensor, *rest, scale: float = 1.0, **options) -> tuple[Tensor, Tensor, TokenStats]:
    student_NH = student_NH.detach().requires_grad_()
    loss, stats = fused_loss(student_NH, *rest, **options)
    (grad_NH,) = torch.autograd.grad(loss * scale, student_NH)
    return loss.detach(), grad_NH, stats


def same(
    got: Tensor, expected: Tensor, rtol: float = 1e-5, summed: Tensor | None = None, floor: float = 1e-9
) -> None:
    """Assert equality up to `rtol` of an entry, or up to 1e-5 of the largest entry after a cancellation.

    For a scalar that is the sum of positive and negative entries, `summed` has the entries.
    """
    got, expected = got.double(), expected.double()
    size = (expected if summed is None else summed).abs()
    largest = size.max().item() if size.numel() else 0.0
    torch.testing.assert_close(got, expected, rtol=rtol, atol=1e-5 * largest + floor)


def same_stats(got: TokenStats, expected: TokenStats) -> None:
    for field in fields(TokenStats):
        same(getattr(got, field.name), getattr(expected, field.name))


def inputs_for(spec: DivergenceSpec, n: int = N, dtype: torch.dtype = torch.float32) -> Data:
    student_NH, teacher_NH, head_VH, sampled_N, weight_N = draw(n, dtype)
    if spec.divergence in WITHOUT_TEACHER:
        teacher_NH = None
    return student_NH, teacher_NH, head_VH, sampled_N, weight_N


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_fused_loss_equals_plain_loss(spec: DivergenceSpec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TILES, "cpu", 2 * V)  # two rows per tile
    data = inputs_for(spec)
    plain_loss, plain_grad_NH, plain_stats = plain(*data, spec)
    for chunk in (1, 3, N, N + 7):
        loss, grad_NH, stats = run(*data, spec, chunk=chunk, scale=3.0)
        same(loss, plain_loss, summed=plain_stats.divergence_N)
        same(grad_NH, 3 * plain_grad_NH)
        same_stats(stats, plain_stats)
    if spec.clip != "none" and spec.divergence not in WITHOUT_TEACHER:
        assert 0 < plain_stats.clipped_N.sum() < N


@pytest.mark.parametrize("spec", WHOLE[:: len(CLIPS)], ids=name_of)
def test_bias_of_the_head(spec: DivergenceSpec):
    data, bias_V = inputs_for(spec), torch.linspace(-1, 1, V)
    loss, grad_NH, _ = run(*data, spec, chunk=4, bias_V=bias_V)
    plain_loss, plain_grad_NH, plain_stats = plain(*data, spec, bias_V)
    same(loss, plain_loss, summed=plain_stats.divergence_N)
    same(grad_NH, plain_grad_NH)


@pytest.mark.parametrize("spec", WHOLE[:: len(CLIPS)], ids=name_of)
def test_with_half_precision_inputs_the_loss_is_computed_in_float32(
    spec: DivergenceSpec, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fused, "HEAD_ROWS", 7)
    data = inputs_for(spec, dtype=torch.bfloat16)
    loss, grad_NH, stats = run(*data, spec, chunk=4)
    plain_loss, plain_grad_NH, plain_stats = plain(*data, spec)
    assert grad_NH.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    same(loss, plain_loss, summed=plain_stats.divergence_N)
    same_stats(stats, plain_stats)
    same(grad_NH, plain_grad_NH, rtol=2**-8)  # rounded to bfloat16 once
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under, under_NH, _ = run(*data, spec, chunk=4)
    assert torch.equal(under, loss)
    assert torch.equal(under_NH, grad_NH)


@pytest.mark.parametrize("spec", WHOLE, ids=name_of)
def test_without_gradient_the_numbers_are_the_same(spec: DivergenceSpec, monkeypatch: pytest.MonkeyPatch):
    data = inputs_for(spec)
    loss, _, stats = run(*data, spec, chunk=4)
    with torch.no_grad():
        quiet, quiet_stats = fused_loss(data[0].clone().requires_grad_(), *data[1:], spec, chunk=4)
    assert not quiet.requires_grad
    assert torch.equal(quiet, loss)
    same_stats(quiet_stats, stats)
    monkeypatch.delattr(fused, "_carry")  # the gradient must not be computed
    frozen, _ = fused_loss(*data, spec, chunk=4)
    assert not frozen.requires_grad


@pytest.mark.parametrize("spec", WHOLE, ids=name_of)
def test_without_tokens_the_loss_is_zero_and_has_a_gradient(spec: DivergenceSpec):
    data = inputs_for(spec, n=0)
    loss, grad_NH, stats = run(*data, spec)
    assert loss.item() == 0
    assert grad_NH.shape == (0, H)
    assert all(len(getattr(stats, field.name)) == 0 for field in fields(TokenStats))
    layer = torch.nn.Linear(H, H)
    (fused_loss(layer(data[0]), *data[1:], spec)[0] + 0).backward()
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()


@given(st.lists(st.booleans(), min_size=N, max_size=N), st.sampled_from(SPECS), st.integers(1, N + 3))
@settings(max_examples=40, deadline=None)
def test_a_token_without_weight_has_no_gradient(mask: list[bool], spec: DivergenceSpec, chunk: int):
    student_NH, teacher_NH, head_VH, sampled_N, weight_N = inputs_for(spec)
    mask_N = torch.tensor(mask)
    weight_N = weight_N * mask_N
    loss, grad_NH, stats = run(student_NH, teacher_NH, head_VH, sampled_N, weight_N, spec, chunk=chunk)
    assert not grad_NH[~mask_N].any()
    teacher_NH = None if teacher_NH is None else teacher_NH[mask_N]
    kept = student_NH[mask_N], teacher_NH, head_VH, sampled_N[mask_N], weight_N[mask_N]
    alone, alone_NH, _ = run(*kept, spec, chunk=chunk)
    same(loss, alone, summed=stats.divergence_N)
    same(grad_NH[mask_N], alone_NH, floor=1e-7)  # the gradient of a single token can cancel out


@given(
    st.lists(st.integers(0, N), max_size=4), st.sampled_from(SPECS), st.integers(1, N + 3), st.integers(0, 5)
)
@settings(max_examples=40, deadline=None)
def test_any_split_gives_the_same_gradient_of_the_weights(
    cuts: list[int], spec: DivergenceSpec, chunk: int, rows: int
):
    student_NH, teacher_NH, head_VH, sampled_N, weight_N = inputs_for(spec)
    layer = torch.nn.Linear(H, H).requires_grad_()

    def learn(edges: list[int]) -> Tensor:
        layer.zero_grad()
        for part in starmap(slice, pairwise(edges)):
            teacher = None if teacher_NH is None else teacher_NH[part]
            tokens = layer(student_NH[part]), teacher, head_VH, sampled_N[part], weight_N[part]
            loss, _ = fused_loss(*tokens, spec, chunk=chunk)
            loss.backward()
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TILES, "cpu", rows * V + 1)
        split = learn([0, *sorted(cuts), N])
    same(split, learn([0, N]))


class Largest(TorchDispatchMode):
    """Record the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor):
                self.numel = max(self.numel, x.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.clip == "none"], ids=name_of)
def test_no_tensor_is_larger_than_a_chunk(
    spec: DivergenceSpec, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fused, "HEAD_ROWS", 4)
    data = inputs_for(spec, n=16, dtype=dtype)
    with Largest() as seen:
        run(*data, spec, chunk=2)
    sides = 1 if data[1] is None else 2
    head = V * H if dtype == torch.float32 else 0  # a view of the head, no copy in another dtype
    assert seen.numel <= max(2 * sides * V, 16 * H, head)


# ---- targets of several contexts

CONTRASTS = {
    "two contexts": Contrast("a", "a", "b"),
    "three contexts": Contrast("a", "b", "c", scale=0.3, temperature="after"),
    "floor": Contrast("a", "a", "b", scale=0.5, floor=-2.0),
    "soft": Contrast("a", "b", "c", centre=True, tanh=0.5),
    "support": Contrast("a", "a", "b", support_of="a", exempt=(3, 17)),
    "support of a fourth": Contrast("a", "b", "c", tanh=1.0, support_of="d", temperature="after"),
}
TARGETED = [
    spec
    for spec in SPECS
    if spec.divergence not in WITHOUT_TEACHER and (spec.top_k is None or spec.clip == "none")
]


def accepted(target: Contrast, spec: DivergenceSpec) -> bool:
    try:
        check(target, spec)
    except ConfigError:
        return False
    return True


PAIRS = [(name, spec) for name, target in CONTRASTS.items() for spec in TARGETED if accepted(target, spec)]


def context_states(n: int = N, width: int = H, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    far_N1 = torch.logspace(-2, 0, n)[:, None]
    student_NH = torch.cat([draw(n)[0].float(), torch.zeros(n, width - H)], -1)
    return {
        name: (student_NH + far_N1 * torch.randn(n, width, generator=g)).to(dtype)
        for name in ("a", "b", "c", "d")
    }


def plain_target(
    student_NH: Tensor,
    contexts: dict[str, Tensor],
    head_VH: Tensor,
    sampled_N: Tensor,
    weight_N: Tensor,
    spec: DivergenceSpec,
    target: Contrast,
    own_heads: dict[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor, TokenStats]:
    """The plain loss to a target: all logits at once, in float64, with autograd."""
    student_NH = student_NH.detach().double().requires_grad_()
    heads = dict.fromkeys(contexts, head_VH) | (own_heads or {})
    size = min(len(head_VH), *(len(heads[name]) for name in target.contexts))
    logits = {name: x.double() @ heads[name].double().T[:, :size] for name, x in contexts.items()}
    logq_NV = contrast(logits, target, spec.temperature)
    cost_N, stats = score_target(student_NH @ head_VH.double().T[:, :size], logq_NV, sampled_N, spec)
    loss = cost_N @ weight_N.double()
    (grad_NH,) = torch.autograd.grad(loss, student_NH)
    return loss.detach(), grad_NH, stats


@pytest.mark.parametrize(("name", "spec"), PAIRS, ids=lambda x: x if isinstance(x, str) else name_of(x))
def test_a_target_has_the_plain_loss(name: str, spec: DivergenceSpec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TILES, "cpu", 2 * V)
    student_NH, _, head_VH, sampled_N, weight_N = draw()
    data, target = (student_NH, context_states(), head_VH, sampled_N, weight_N), CONTRASTS[name]
    plain_loss, plain_grad_NH, plain_stats = plain_target(*data, spec, target)
    inside = plain_stats.teacher_logp_N.isfinite()
    assert ("support" in name) == (not inside.all())
    for chunk in (3, N + 7):
        loss, grad_NH, stats = run(*data, spec, chunk=chunk, scale=3.0, target=target)
        same(loss, plain_loss, summed=plain_stats.divergence_N)
        same(grad_NH, 3 * plain_grad_NH)
        assert torch.equal(stats.teacher_logp_N.isfinite(), inside)
        zeros = {"teacher_logp_N": stats.teacher_logp_N.where(inside, 0)}
        same_stats(
            replace(stats, **zeros),
            replace(plain_stats, teacher_logp_N=plain_stats.teacher_logp_N.where(inside, 0)),
        )
    if spec.clip == "none":
        assert plain_grad_NH.abs().amax(-1).gt(1e-6).all()


def test_with_half_precision_contexts_a_target_is_composed_in_float32():
    student_NH, _, head_VH, sampled_N, weight_N = draw(dtype=torch.bfloat16)
    contexts, target = context_states(dtype=torch.bfloat16), CONTRASTS["support"]
    data, spec = (student_NH, contexts, head_VH, sampled_N, weight_N), DivergenceSpec("forward_kl")
    loss, grad_NH, _ = run(*data, spec, chunk=4, target=target)
    plain_loss, plain_grad_NH, plain_stats = plain_target(*data, spec, target)
    same(loss, plain_loss, summed=plain_stats.divergence_N)
    same(grad_NH, plain_grad_NH, rtol=2**-8)


@pytest.mark.parametrize("size", [V - 4, V, V + 6])
def test_another_head_may_have_another_width_and_padding(size: int):
    """A plain teacher, or the contexts of a target, from another model with the same tokenizer."""
    student_NH, _, head_VH, sampled_N, weight_N = draw()
    sampled_N = sampled_N % (V - 4)
    wide, spec = context_states(width=H + 3), DivergenceSpec("jsd", clip="scale")
    other_VH = torch.randn(size, H + 3, generator=torch.Generator().manual_seed(2))
    plain_teacher = Contrast("a", "a", "a", scale=0.0)
    rest = head_VH, sampled_N, weight_N, spec
    expected = plain_target(student_NH, {"a": wide["a"]}, *rest, plain_teacher, {"a": other_VH})
    got = run(student_NH, wide["a"], *rest, chunk=4, teacher_head_VH=other_VH)
    mixed = context_states() | {"b": wide["b"], "c": wide["c"]}
    heads, target = {"b": other_VH, "c": other_VH}, CONTRASTS["three contexts"]
    expected_mixed = plain_target(student_NH, mixed, *rest, target, heads)
    got_mixed = run(student_NH, mixed, *rest, chunk=4, target=target, teacher_head_VH=heads)
    for (loss, grad_NH, stats), (plain_loss, plain_grad_NH, plain_stats) in (
        (got, expected),
        (got_mixed, expected_mixed),
    ):
        same(loss, plain_loss, summed=plain_stats.divergence_N)
        same(grad_NH, plain_grad_NH)
        same_stats(stats, plain_stats)


def test_the_bias_belongs_to_the_students_head():
    student_NH, teacher_NH, head_VH, sampled_N, weight_N = draw()
    assert teacher_NH is not None
    bias_V, spec = torch.linspace(-1, 1, V), DivergenceSpec("forward_kl")
    rest = head_VH, sampled_N, weight_N, spec
    with_bias, _, _ = run(student_NH, teacher_NH, *rest, bias_V=bias_V)
    # The same head as another tensor, with the bias as one more channel of the teacher.
    own_VH, ones_N1 = torch.cat([head_VH, bias_V[:, None]], -1), torch.ones(N, 1)
    own_NH = torch.cat([teacher_NH, ones_N1], -1)
    same(run(student_NH, own_NH, *rest, bias_V=bias_V, teacher_head_VH=own_VH)[0], with_bias)


def test_one_product_for_each_head_and_none_for_contexts_that_are_not_needed(monkeypatch):
    products, original = [], fused.project
    monkeypatch.setattr(fused, "project", lambda *a, **k: products.append(len(a[0])) or original(*a, **k))
    student_NH, _, head_VH, sampled_N, weight_N = draw()
    contexts, target = context_states(), CONTRASTS["three contexts"]
    rest = head_VH, sampled_N, weight_N, DivergenceSpec("forward_kl")
    run(student_NH, contexts, *rest, chunk=N, target=target)
    assert products == [4 * N]  # the student and a, b, c; not d
    products.clear()
    other_VH = head_VH.clone()
    heads = {"b": other_VH, "c": other_VH}
    run(student_NH, contexts, *rest, chunk=N, target=target, teacher_head_VH=heads)
    assert products == [2 * N, 2 * N]


@pytest.mark.parametrize("name", CONTRASTS)
def test_with_a_target_no_tensor_is_larger_than_a_chunk(name: str):
    student_NH, _, head_VH, sampled_N, weight_N = draw(16)
    target = CONTRASTS[name]
    with Largest() as seen:
        run(
            student_NH,
            context_states(16),
            head_VH,
            sampled_N,
            weight_N,
            DivergenceSpec("jsd"),
            chunk=2,
            target=target,
        )
    assert seen.numel <= max(2 * (1 + len(target.contexts)) * V, 16 * H, V * H)


def test_mistakes_with_targets():
    student_NH, _, head_VH, sampled_N, weight_N = draw()
    data = student_NH, context_states(), head_VH, sampled_N, weight_N
    with pytest.raises(ConfigError, match="reverse_kl is infinite"):
        fused_loss(*data, DivergenceSpec("reverse_kl"), target=CONTRASTS["support"])
    far = replace(CONTRASTS["support"], exempt=(2, V))
    with pytest.raises(ConfigError, match=f"^targets: exempt has {V}, but the vocabulary has {V} entries$"):
        fused_loss(*data, DivergenceSpec("forward_kl"), target=far)
    with pytest.raises(AssertionError, match="several contexts need a target"):
        fused_loss(*data, DivergenceSpec("forward_kl"))


# ---- log-probabilities of the sampled tokens


def test_sampled_log_probs_are_those_of_float64():
    _, _, head_VH, token_N, _ = draw()
    contexts = context_states(dtype=torch.bfloat16)
    wide_NH = context_states(width=H + 3)["b"]
    wide_VH = torch.randn(V, H + 3, generator=torch.Generator().manual_seed(2)).bfloat16()
    heads = {"a": head_VH, "b": wide_VH}
    got = sampled_log_probs({"a": contexts["a"], "b": wide_NH}, heads, token_N, temperature=1.7, chunk=4)
    for name, hidden_NH in {"a": contexts["a"], "b": wide_NH}.items():
        log_NV = (hidden_NH.double() @ heads[name].double().T / 1.7).log_softmax(-1)
        same(got[name], log_NV[range(N), token_N])
        assert got[name].dtype == torch.float32
    one_head = sampled_log_probs(contexts, head_VH, token_N)
    logp_N, _, _ = fused.token_log_probs(contexts["a"], head_VH, token_N)
    same(one_head["a"], logp_N)
    assert len(sampled_log_probs({"a": wide_NH[:0]}, wide_VH, token_N[:0])["a"]) == 0


PEAK = """
import torch
from pathlib import Path
from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import DivergenceSpec

N, H, V = 1024, 4, 60_000

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

student_NH = torch.randn(N, H, requires_grad=True)
data = student_NH, torch.randn(N, H), torch.randn(V, H), torch.zeros(N, dtype=torch.long), torch.ones(N)
Path("/proc/self/clear_refs").write_text("5")  # reset VmHWM
before = resident("VmRSS")
fused_loss(*data, DivergenceSpec("jsd"))[0].backward()
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the test reads /proc, which only Linux has")
def test_resident_memory_does_not_grow_with_the_tokens():
    """Measures the memory that the allocator holds, because a fragmented heap once took 3 GB."""
    out = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True)
    assert float(out.stdout) < 250  # MB; usually 150; the logits of all tokens would need 491


def test_a_trainable_head_is_refused():
    data, spec = draw(), DivergenceSpec("forward_kl")
    for x in (data[0], data[2]):
        x.requires_grad_()
    with pytest.raises(AssertionError, match="frozen"):
        fused_loss(*data, spec)
    with torch.no_grad():
        fused_loss(*data, spec)
