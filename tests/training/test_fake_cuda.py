"""Every part of a step works on a device that is not the CPU, and computes the same there.

No GPU is needed: `fake_device` has tensors that say they are on one. A tensor that is made on the wrong
device fails a test here.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import distill_config, make_student
from fake_device import Elsewhere, fake_device, moved
from two_dtypes import a_batch, one_step, rollouts_of, written_turns

from vigos_cli.analysis.token_scores import score_tokens, student_divergence, teacher_logprobs
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
from vigos_cli.method import fused_loss as fused_loss_module
from vigos_cli.method.fused_loss import fused_loss
from vigos_cli.method.losses import DIVERGENCES, WITHOUT_TEACHER, DivergenceSpec
from vigos_cli.models import student as student_module
from vigos_cli.supervision import loss_calls
from vigos_cli.supervision.contexts import supervise_all
from vigos_cli.supervision.hidden_states import hidden_states, predicting_states, teacher_states
from vigos_cli.supervision.loss_calls import Reading, read_teachers, score_call
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.training import step
from vigos_cli.training.step import weigh_terms

CUDA = "cuda:0"


@pytest.fixture(scope="module")
def on_cpu():
    return make_student()


@pytest.fixture(scope="module")
def on_cuda():
    return moved(make_student(), CUDA)


def rows_of(student, *overrides):
    prompter, _, config = a_batch(student, *overrides)
    rollouts = rollouts_of(student, written_turns(student, *overrides), *overrides)[1:3]
    return weigh_terms(supervise_all(rollouts, prompter, config), config)[0]


@pytest.fixture(scope="module")
def rows(on_cpu):
    """A valid and an invalid turn with their teachers' contexts; images are on the CPU, as in training."""
    rows = rows_of(on_cpu)
    assert [row.segments.valid for row in rows] == [True, False]
    return rows


def weights() -> TeacherWeights:
    return TeacherWeights.at_start(distill_config().routing)


def tokens_of(rows, name):
    return [(b, i) for b, row in enumerate(rows) for i in row.tokens_of(name)]


def calls_of(student, rows):
    """The losses of a step on these rows, without their gradient."""
    config = distill_config()
    hidden_BTH = hidden_states(student, STUDENT, rows)
    teachers = read_teachers(student, rows, weights())
    read = Reading(rows, hidden_BTH, teachers, {}, student, config)
    return [score_call(call, read) for call in loss_calls.loss_calls(rows, config.routing, config.loss)]


def same(there: torch.Tensor, here: torch.Tensor) -> None:
    assert isinstance(there, Elsewhere) and there.device == torch.device(CUDA)
    torch.testing.assert_close(there.on_cpu, here)


def test_the_fake_device_has_the_rules_of_a_gpu():
    with fake_device():
        x = torch.tensor([1.0, 2.0], device=CUDA)
        here = torch.ones(2)
        for mix in (lambda: x + here, lambda: here * x, lambda: torch.cat([x, here]), lambda: x.dot(here)):
            with pytest.raises(RuntimeError, match="cuda:0 and cpu"):
                mix()
        with pytest.raises((TypeError, RuntimeError)):
            x.numpy()
        assert (x * torch.tensor(2.0)).tolist() == [2, 4]  # a number may come from the CPU
        assert x[torch.tensor([1])].tolist() == [2] and x[[0]].tolist() == [1]  # and so may an index
        assert x.cpu().numpy().tolist() == [1, 2] and float(x.sum()) == 3
        assert torch.zeros(1).device.type == "cpu" and torch.zeros(1, device=CUDA).device.type == "cuda"
        assert x.new_zeros(1).device == x.to(torch.float16).device == torch.zeros_like(x).device == x.device


@pytest.mark.slow
def test_student_and_teachers_read_their_contexts(on_cpu, on_cuda, rows):
    found = []
    for student in (on_cpu, on_cuda):
        with fake_device(), torch.no_grad():
            hidden_BTH = hidden_states(student, STUDENT, rows)
            states = [predicting_states(hidden_BTH, STUDENT, rows, tokens_of(rows, "reasoning"))]
            states += [
                teacher_states(student, name, rows, tokens_of(rows, name), weights())
                for name in ("perception", "reasoning", "fallback")
            ]
            found.append([hidden_BTH, *states])
    for here, there in zip(*found, strict=True):
        same(there, here)
    assert on_cuda.adapter_state().keys() == on_cpu.adapter_state().keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_the_loss_is_computed_on_its_device(divergence, dtype):
    """The gradient is part of the whole step below."""
    found = []
    for device in ("cpu", CUDA):
        with fake_device(), torch.no_grad():
            sampled_N = torch.tensor([3, 1, 4, 1, 5, 9, 2], device=device)
            weight_N = torch.full((7,), 0.5, device=device)
            draws = torch.Generator().manual_seed(0)
            student_NH, teacher_NH, head_VH = (
                torch.randn(n, 8, generator=draws).to(device, dtype) for n in (len(sampled_N),) * 2 + (700,)
            )
            spec = DivergenceSpec(divergence, clip="token")
            teacher = None if divergence in WITHOUT_TEACHER else teacher_NH
            loss, stats = fused_loss(student_NH, teacher, head_VH, sampled_N, weight_N, spec, chunk=5)
            found.append((loss, stats.divergence_N, stats.student_logp_N, stats.silent_N))
    for here, there in zip(*found, strict=True):
        same(there, here)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [Sampling(3, temperature=0), Sampling(3, temperature=1.1, top_p=0.95, top_k=20), Sampling(3)],
    ids=["greedy", "paper", "plain"],
)
def test_the_sampler_draws_the_same_tokens(on_cpu, on_cuda, rows, sampling):
    requests = [Request(row.rollout.sample_id, row.rollout.prompt) for row in rows]
    found = []
    for student in (on_cpu, on_cuda):
        with fake_device():
            job = SamplingJob(requests, sampling, ("test",), batch=2)
            found.append([rollout.ids for rollout in roll_out(student, job)])
    assert found[0] == found[1] and all(found[0])


@pytest.mark.slow
def test_the_diagnostics_score_tokens(on_cpu, on_cuda, rows):
    config = distill_config()
    found = []
    for student in (on_cpu, on_cuda):
        with fake_device():
            found.append(
                (
                    score_tokens(student, rows, weights(), config),
                    teacher_logprobs(student, rows, weights()),
                    student_divergence(student, rows, rows),
                )
            )
    scores, logprobs, divergence = zip(*found, strict=True)
    for here, there in zip(*scores, strict=True):
        for a, b in zip(here, there, strict=True):
            assert b.teacher == a.teacher and b.student == pytest.approx(a.student, rel=1e-5)
            assert [(x.clipped, x.silent) for x in b.seen] == [(x.clipped, x.silent) for x in a.seen]
            values = ([x.divergence for x in score.seen] for score in (a, b))
            assert next(values) == pytest.approx(next(values), rel=1e-4, abs=1e-6)
    for here, there in zip(*logprobs, strict=True):
        assert there == pytest.approx(here, rel=1e-5, abs=1e-6)
    for here, there in zip(*divergence, strict=True):
        assert there == pytest.approx(here, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("teacher=ema",), ("routing=sft",)], ids=["base", "ema", "sft"])
def test_a_whole_step_computes_the_same_gradient(on_cpu, settings, monkeypatch):
    """On a fake `meta` device, where the backward pass, the clip of the norm and the optimizer run too.

    A factor other than 1 lets the gradients be divided, as for a float16 model.
    """
    monkeypatch.setattr(step, "gradient_scale", lambda *_: 4.0)
    turns = written_turns(on_cpu)
    here = one_step(on_cpu, turns, *settings)
    with fake_device():
        there = one_step(moved(make_student(), "meta"), turns, *settings)
    assert there.loss == pytest.approx(here.loss, rel=1e-5) and there.loss > 0
    assert there.line["grad_norm"] == pytest.approx(here.line["grad_norm"], rel=1e-4)
    for name, value in there.gradient.items():
        assert isinstance(value, Elsewhere)
        rounding = 1e-5 * float(here.gradient[name].abs().max())
        torch.testing.assert_close(value.on_cpu, here.gradient[name], rtol=1e-3, atol=rounding)


class WithoutDevice:
    """`torch` with constructors that ignore `device`, as if a line of the source had left it out."""

    def __getattr__(self, name: str):
        made = getattr(torch, name)
        if name not in ("tensor", "zeros", "empty"):
            return made
        return lambda *args, device=None, **options: made(*args, **options)


@pytest.mark.slow
@pytest.mark.parametrize("module", [loss_calls, fused_loss_module, student_module])
def test_a_constructor_without_its_device_fails(on_cuda, rows, module, monkeypatch):
    """An index is no such case: on a GPU too it may come from the CPU, so `predicting_states` would go on."""
    if module is student_module:
        on_cuda = replace(on_cuda, device=torch.device("cpu"))  # it makes its tensors there, then moves them
    else:
        monkeypatch.setattr(module, "torch", WithoutDevice())
    with fake_device(), torch.no_grad(), pytest.raises(RuntimeError, match="cuda:0"):
        calls_of(on_cuda, rows)
