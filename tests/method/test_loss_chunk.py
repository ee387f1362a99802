"""The chosen chunk keeps to its budget, and the loss is the same with it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fused_loss import Largest

from vigos_cli.method import loss_chunk
from vigos_cli.method.fused_loss import chunk_of, fused_loss, sampled_log_probs, token_log_probs
from vigos_cli.method.loss_chunk import FEWEST, LOGITS, chunk_rows, loss_bytes, tile_rows
from vigos_cli.method.losses import DivergenceSpec


@given(st.integers(100, 300_000), st.integers(1, 8), st.sampled_from(["cpu", "cuda", "meta"]), st.booleans())
def test_the_logits_of_all_sides_keep_to_the_budget(vocabulary, sides, device, half):
    rows = chunk_rows(vocabulary, sides=sides, device=device, half=half)
    assert rows == FEWEST or (rows > FEWEST and 4 * vocabulary * sides * rows <= LOGITS)
    assert rows % FEWEST == 0 and rows <= 1024
    assert rows >= chunk_rows(vocabulary, sides=sides + 1, device=device, half=half)
    assert chunk_rows(vocabulary, sides=sides, device=device, half=True) >= rows
    assert tile_rows(vocabulary, device) >= 1 and 4 * tile_rows(vocabulary, device) * vocabulary <= 2**25


def test_a_half_precision_head_on_a_gpu_is_converted_less_often():
    """By the arithmetic at the head of `loss_chunk`: at 64 tokens an L4 converts for five times as long."""

    def share(rows: int, operations_per_byte: float, sides: int = 2) -> float:
        return 10 * operations_per_byte / ((sides + 1) * rows)

    chosen = chunk_rows(151_936, sides=2, device="cuda", half=True)
    for operations_per_byte in (10, 20, 82, 100):  # A100, H100, RTX 4090, L4
        assert share(chosen, operations_per_byte) < 1
    assert share(64, 10) > 0.5 and share(64, 100) > 5


def test_a_float32_head_on_a_cpu_keeps_to_64_tokens():
    """Runs with the tiny model keep their bytes: no larger chunk was faster."""
    assert all(chunk_rows(V, sides=2, device="cpu", half=False) == 64 for V in (512, 49_280, 151_936))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_with_the_chosen_chunk_is_that_of_64_tokens(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    draws = torch.Generator().manual_seed(0)
    N, V, H = 300, 5000, 64
    student_NH, near_NH, head_VH = (torch.randn(n, H, generator=draws) for n in (N, N, V))
    teacher_NH, head_VH = (student_NH + 0.3 * near_NH).to(dtype), (head_VH / 8).to(dtype)
    sampled_N, weight_N = torch.randint(V, (N,), generator=draws), torch.full((N,), 1 / N)
    monkeypatch.setitem(loss_chunk.MOST, ("cpu", False), 256)  # a chunk that a GPU would have
    assert chunk_of(head_VH, 2) == (256 if dtype == torch.float32 else 512)
    found = []
    for chunk in (None, 64):
        own_NH = student_NH.to(dtype).requires_grad_()
        data = own_NH, teacher_NH, head_VH, sampled_N, weight_N
        loss, _ = fused_loss(*data, DivergenceSpec("forward_kl"), chunk=chunk)
        loss.backward()
        assert own_NH.grad is not None
        found.append((loss.detach(), own_NH.grad.float()))
    (loss, grad_NH), (expected, expected_NH) = found
    assert expected > 0.01
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad_NH, expected_NH, rtol=1e-5, atol=float(1e-6 * expected_NH.abs().max()))


@pytest.mark.parametrize("tokens", [160, 600])
def test_memory_does_not_depend_on_the_number_of_tokens(tokens: int, monkeypatch: pytest.MonkeyPatch):
    V, H = 300, 2
    monkeypatch.setattr(loss_chunk, "LOGITS", 2 * 4 * V * 100)  # 100 tokens of two sides: 64 are chosen
    monkeypatch.setitem(loss_chunk.MOST, ("cpu", False), 1024)
    draws = torch.Generator().manual_seed(0)
    student_NH, teacher_NH, head_VH = (torch.randn(n, H, generator=draws) for n in (tokens, tokens, V))
    sampled_N = torch.zeros(tokens, dtype=torch.long)
    weight_N = torch.ones(tokens)
    with Largest() as seen:
        fused_loss(
            student_NH.requires_grad_(), teacher_NH, head_VH, sampled_N, weight_N, DivergenceSpec("jsd")
        )
        sampled_log_probs({"a": teacher_NH}, head_VH, sampled_N)
        token_log_probs(teacher_NH, head_VH, sampled_N, teacher_NH)
    assert seen.numel == 2 * 64 * V


def test_the_estimate_counts_the_logits_and_one_tile():
    two, three = (loss_bytes(151_936, 384, sides=sides, device="cuda") for sides in (2, 3))
    assert three - two == 4 * 384 * 151_936
    assert (
        loss_bytes(151_936, 384, sides=2, device="cpu")
        < two
        < loss_bytes(151_936, 768, sides=2, device="cuda")
    )
