"""Logits are computed in float32 without a float32 copy of the whole output head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import make_student
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.generation import vllm_check
from vigos_cli.method import fused_loss as fused
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.models.model_checks import check_head
from vigos_cli.types import Prompt

IDS = tuple(range(20, 60))
PROMPT = Prompt(STUDENT, IDS, ())


class LargestFloat32(TorchDispatchMode):
    """Record the size of the largest float32 tensor that an operation returns, views excluded."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor) and x.dtype == torch.float32:
                self.numel = max(self.numel, x.untyped_storage().nbytes() // 4)
        return out


@pytest.fixture(scope="module")
def student() -> Any:
    return make_student("model.dtype=bfloat16")


def score_tokens(student: Any) -> Any:
    hidden_NH = student.hidden(student.batch([IDS], [PROMPT]))[0]
    return fused.token_log_probs(hidden_NH, student.head_VH, torch.tensor(IDS), -hidden_NH)


def compute_the_loss(student: Any) -> Any:
    hidden_NH = student.hidden(student.batch([IDS], [PROMPT]))[0]
    ids_N = torch.tensor(IDS)
    data = (hidden_NH, hidden_NH, student.head_VH, ids_N, torch.ones(len(IDS)))
    return fused.fused_loss(*data, DivergenceSpec("forward_kl"), chunk=16)


CALLERS: dict[str, Callable[[Any], Any]] = {
    "token scores": score_tokens,
    "the canary": lambda student: vllm_check.student_logprobs(student, PROMPT, "live", range(len(IDS) - 1)),
    "the check of the head": check_head,
    "the loss": compute_the_loss,
}


@torch.no_grad()
@pytest.mark.parametrize("caller", CALLERS)
def test_no_caller_copies_the_whole_head(caller: str, student: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fused, "HEAD_ROWS", 64)
    with LargestFloat32() as seen:
        CALLERS[caller](student)
    assert seen.numel < student.head_VH.numel()


@torch.no_grad()
def test_token_log_probs_are_those_of_float64(student: Any):
    hidden_NH = torch.randn(len(IDS), student.head_VH.shape[1], generator=torch.Generator().manual_seed(0))
    hidden_NH = hidden_NH.bfloat16()
    other_NH = hidden_NH * (torch.arange(len(IDS)) % 2 * 2 - 1)[:, None]  # every second one is the same
    logp, kl, differ = fused.token_log_probs(hidden_NH, student.head_VH, torch.tensor(IDS), other_NH, chunk=7)
    head_VH = student.head_VH.double()
    log_NV, other_NV = ((side.double() @ head_VH.T).log_softmax(-1) for side in (hidden_NH, other_NH))
    expected = log_NV[range(len(IDS)), list(IDS)]
    torch.testing.assert_close(logp, expected.float(), atol=1e-4, rtol=1e-5)
    expected = (log_NV.exp() * (log_NV - other_NV)).sum(-1)
    torch.testing.assert_close(kl, expected.float(), atol=1e-4, rtol=1e-5)
    assert differ.tolist() == [i % 2 == 0 for i in range(len(IDS))]


@torch.no_grad()
def test_the_vllm_checks_log_probabilities_are_those_of_float64(student: Any):
    """The product was once rounded to bfloat16, which changes a log-probability by hundredths of a nat."""
    keep = range(len(IDS) - 1)
    hidden_NH = student.hidden(student.batch([IDS], [PROMPT]))[0, list(keep)]
    log_NV = (hidden_NH.double() @ student.head_VH.double().T).log_softmax(-1)
    got = vllm_check.student_logprobs(student, PROMPT, "live", keep)
    expected = log_NV[keep, [IDS[i + 1] for i in keep]]
    torch.testing.assert_close(got, expected.float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_project_multiplies_in_float32(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fused, "HEAD_ROWS", 5)
    draw = torch.Generator().manual_seed(0)
    hidden_NH = torch.randn(7, 16, generator=draw).to(dtype).requires_grad_()
    head_VH, bias_V = torch.randn(23, 16, generator=draw).to(dtype), torch.randn(23, generator=draw)
    expected = (hidden_NH.double() @ head_VH.double().T).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, biased = fused.project(hidden_NH, head_VH), fused.project(hidden_NH, head_VH, bias_V)
    assert plain.dtype == torch.float32 and not plain.requires_grad
    torch.testing.assert_close(plain.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(biased.double(), expected + bias_V, atol=1e-5, rtol=1e-5)
    out_NV = torch.empty(9, 23)
    assert fused.project(hidden_NH, head_VH, out_NV=out_NV[2:]).data_ptr() == out_NV[2:].data_ptr()
    assert torch.equal(out_NV[2:], plain)
    empty = torch.tensor([], dtype=torch.long)
    assert [len(part) for part in fused.token_log_probs(hidden_NH[:0], head_VH, empty)] == [0, 0, 0]
