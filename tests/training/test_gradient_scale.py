"""A model in float16 has the gradient of the same model in float32, for any weight of the tokens."""

from __future__ import annotations

from math import log2
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import distill_config, make_student, with_effect
from twins import save_twin

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.pretrained import pick_dtype
from vigos_cli.supervision.batches import Batches
from vigos_cli.training import step
from vigos_cli.training.gradient_scale import HEAVIEST, gradient_scale
from vigos_cli.training.learner import make_learner

TURNS = (" A red cube. </description> <think> It is red. </think> \\boxed{red}", " A red cube.")  # valid, not
WEIGHTS = ("description_weight", "reasoning_weight", "invalid_weight")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_twin("qwen2vl", tmp_path_factory.mktemp("twin"))


@pytest.fixture(autouse=True)
def same_rollouts(monkeypatch):
    """Valid and invalid turns in alternation, the same for every precision."""

    def sample(student: Any, prepared: Any, *rest: Any) -> Any:
        turns = [student.tokenizer(turn, add_special_tokens=False)["input_ids"] for turn in TURNS]
        return [
            (item, as_rollout(student, Request(item.key, item.prompt), turns[i % 2]))
            for i, item in enumerate(prepared)
        ]

    monkeypatch.setattr(step, "sample_rollouts", sample)


def gradient(folder: Any, dtype: str, weight: float = 1.0) -> dict[str, torch.Tensor]:
    """The gradient of one step, divided by `weight`, the weight of every loss."""
    words = [f"model.path={folder}", f"model.dtype={dtype}", "trainer.batch=4", "trainer.max_grad_norm=1e9"]
    config = distill_config(*words, "adapter.dropout=0", *(f"loss.{name}={weight}" for name in WEIGHTS))
    student = make_student(*words, "adapter.dropout=0")
    with_effect(student, 0.02)  # lora_B is zero at first, and then lora_A would have no gradient
    prompter = Prompter(student.processor, config.prompt, config.routing)
    line = step.train_step(
        make_learner(student, config), Batches(PriorWorld(size=8), prompter, config), prompter, config
    )
    assert line["valid_rate"] == 0.5 and "counts/step_not_finite" not in line
    assert all(value.dtype == value.grad.dtype == torch.float32 for value in student.adapter.values())
    return {name: value.grad / weight for name, value in student.adapter.items()}


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The norm of the difference, relative to that of `a`."""
    norms = [sum(float((x**2).sum()) for x in part) for part in ([a[n] - b[n] for n in a], a.values())]
    return (norms[0] / norms[1]) ** 0.5


@pytest.mark.slow
def test_float16_has_the_gradient_of_float32_for_any_weight_of_the_tokens(folder, monkeypatch):
    exact = gradient(folder, "float32")
    for weight in (1.0, 1e-7):
        assert difference(exact, gradient(folder, "float16", weight)) < 0.1
    monkeypatch.setattr(step, "gradient_scale", lambda *_: 1.0)
    assert difference(exact, gradient(folder, "float16", 1e-7)) > 0.5, "without the scale it is lost"


@pytest.mark.parametrize("weight", [2.0, 0.3, 1 / 16_000])
def test_only_float16_is_scaled_and_by_a_power_of_two(weight):
    row: Any = SimpleNamespace(terms=[SimpleNamespace(weight=weight), SimpleNamespace(weight=weight / 9)])
    for dtype in (torch.float32, torch.bfloat16):
        assert gradient_scale([row], dtype) == 1
    scale = gradient_scale([row], torch.float16)
    assert log2(scale).is_integer() and HEAVIEST / 2 < scale * weight <= HEAVIEST
    assert gradient_scale([], torch.float16) == 1


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_the_precision_follows_the_card(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_dtype("auto", torch.device("cuda")) is expected
    assert pick_dtype("bfloat16", torch.device("cuda")) is torch.bfloat16
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
