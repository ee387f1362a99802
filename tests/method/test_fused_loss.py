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
from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import CLIPS, DIVERGENCES, DivergenceSpec, TokenStats, score

N, H, V = 11, 5, 23
Data = tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]
SPECS = [
    DivergenceSpec(name, clip=clip, temperature=1.3, top_k=4, beta=0.3)
    for name in DIVERGENCES
    for clip in CLIPS
]


def name_of(spec: DivergenceSpec) -> str:
    return f"{spec.divergence}-{spec.clip}"


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
    if spec.divergence == "cross_entropy":
        teacher_NH = None
    return student_NH, teacher_NH, head_VH, sampled_N, weight_N


@pytest.mark.parametrize("chunk", [1, 3, N, N + 7])
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_fused_loss_equals_plain_loss(spec: DivergenceSpec, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fused, "TILE", 2 * V)  # two rows per tile
    data = inputs_for(spec)
    loss, grad_NH, stats = run(*data, spec, chunk=chunk, scale=3.0)
    plain_loss, plain_grad_NH, plain_stats = plain(*data, spec)
    same(loss, plain_loss, summed=plain_stats.divergence_N)
    same(grad_NH, 3 * plain_grad_NH)
    same_stats(stats, plain_stats)
    if spec.clip != "none" and spec.divergence != "cross_entropy":
        assert 0 < stats.clipped_N.sum() < N


@pytest.mark.parametrize("spec", SPECS[:: len(CLIPS)], ids=name_of)
def test_bias_of_the_head(spec: DivergenceSpec):
    data, bias_V = inputs_for(spec), torch.linspace(-1, 1, V)
    loss, grad_NH, _ = run(*data, spec, chunk=4, bias_V=bias_V)
    plain_loss, plain_grad_NH, plain_stats = plain(*data, spec, bias_V)
    same(loss, plain_loss, summed=plain_stats.divergence_N)
    same(grad_NH, plain_grad_NH)


@pytest.mark.parametrize("spec", SPECS[:: len(CLIPS)], ids=name_of)
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


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
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


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
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
        patch.setattr(fused, "TILE", rows * V + 1)
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
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_no_tensor_is_larger_than_a_chunk(
    spec: DivergenceSpec, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fused, "HEAD_ROWS", 4)
    data = inputs_for(spec, n=16, dtype=dtype)
    with Largest() as seen:
        run(*data, replace(spec, top_k=2), chunk=2)
    sides = 1 if data[1] is None else 2
    head = V * H if dtype == torch.float32 else 0  # a view of the head, no copy in another dtype
    assert seen.numel <= max(2 * sides * V, 16 * H, head)


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
fused_loss(*data, DivergenceSpec("jsd"), chunk=32)[0].backward()
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
