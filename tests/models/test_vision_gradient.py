"""No gradient is computed in the frozen vision tower, even if libraries install hooks that require it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import distill_config, make_student
from torch import Tensor
from twins import FAMILIES, save_twin

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.models import base_cache
from vigos_cli.models.adapter_layers import language_model
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.supervision.batches import Batches
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step

SMALL = ("trainer.batch=2", "trainer.micro_batch=2", "rollout.max_new_tokens=60", "adapter.r=4")
PRECISIONS = {
    "float32": (),
    "bfloat16": ("model.dtype=bfloat16",),
    "nf4": ("adapter=qlora",),
    "nf4_bfloat16": ("adapter=qlora", "model.dtype=bfloat16"),
}
CHECKPOINTED = "trainer.gradient_checkpointing=true"


def step(student: Student, config: Any) -> dict[str, Tensor]:
    """The adapter's gradient after one step."""
    prompter = Prompter(student.processor, config.prompt, config.routing)
    train_step(make_learner(student, config), Batches(PriorWorld(size=8), prompter, config), prompter, config)
    return {name: p.grad.clone() for name, p in student.adapter.items() if p.grad is not None}


def tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if hasattr(output, "values") else output if isinstance(output, tuple) else ()
    return [tensor for value in values for tensor in tensors(value)]


@contextmanager
def differentiated(student: Student) -> Iterator[set[str]]:
    """The names of modules outside the language model whose output required a gradient inside the block."""
    decoder, found, hooks = language_model(student.base), set[str](), []
    for name, module in student.base.named_modules():
        if name in ("", "model") or name == decoder or name.startswith((f"{decoder}.", "lm_head")):
            continue

        def note(module: Any, inputs: Any, output: Any, name: str = name) -> None:
            if any(tensor.requires_grad for tensor in tensors(output)):
                found.add(name)

        hooks.append(module.register_forward_hook(note))
    assert hooks
    yield found
    for hook in hooks:
        hook.remove()


def hooked(student: Student) -> list[str]:
    """Modules with a hook of transformers or PEFT that makes their output require a gradient."""
    return [
        name
        for name, module in student.base.named_modules()
        for hook in module._forward_hooks.values()
        if "require_grad" in getattr(hook, "__name__", "")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_activation_of_a_picture_requires_a_gradient(precision, checkpointed):
    overrides = (*SMALL, *PRECISIONS[precision], *((CHECKPOINTED,) if checkpointed else ()))
    config = distill_config(*overrides)
    gradients, student = [], make_student(*overrides)
    for run in range(2):  # the second run reuses the base of the first
        student = make_student(*overrides) if run else student
        with differentiated(student) as found:
            gradients.append(step(student, config))
        assert not found and not hooked(student)
        base_cache.keep(student.release(), student.processor, config.model, config.adapter)
        assert not student.base.get_encoder(modality="image")._forward_hooks, "a hook was not removed"
    base = student.base
    assert make_student(*overrides).base is base
    first, second = gradients
    assert any(bool(gradient.any()) for gradient in first.values())
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_gradient_equals_that_with_the_libraries_hooks(precision):
    overrides = (*SMALL, *PRECISIONS[precision], CHECKPOINTED)
    config = distill_config(*overrides)
    plain = step(make_student(*overrides), config)
    student = make_student(*overrides)
    assert student.vision_guard
    student.vision_guard.remove()
    student.base.enable_input_require_grads()
    with differentiated(student) as found:
        with_hooks = step(
            student, replace(config, trainer=replace(config.trainer, gradient_checkpointing=False))
        )
    assert found, "with the hooks, pictures are differentiated"
    assert plain.keys() == with_hooks.keys()
    scale = max(float(gradient.abs().max()) for gradient in plain.values())
    tolerance = scale * (1e-5 if "bfloat16" not in precision else 0.02)  # bfloat16 has 8 bits of precision
    for name, gradient in plain.items():
        torch.testing.assert_close(gradient, with_hooks[name], atol=tolerance, rtol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_require_no_gradient_in_any_family(name, tmp_path):
    config = distill_config(f"model.path={save_twin(name, tmp_path / name)}", *SMALL, CHECKPOINTED)
    student = load_student(config.model, config.adapter)
    with differentiated(student) as found:
        step(student, config)
    assert not found and not hooked(student)


def test_a_remaining_hook_of_a_library_is_an_error():
    config = distill_config(*SMALL)
    student = replace(make_student(*SMALL), pictures=None)  # else only the sampler would use the tower
    student.base.enable_input_require_grads()
    with pytest.raises(AssertionError, match="frozen vision tower"):
        step(student, config)


@pytest.mark.slow
def test_a_trained_vision_tower_gets_gradients():
    overrides = (*SMALL, CHECKPOINTED, "adapter.vision=true", "adapter.targets=[q_proj,qkv,fc1]")
    student = make_student(*overrides)
    gradient = step(student, distill_config(*overrides))
    vision = [g for name, g in gradient.items() if "visual" in name and "lora_B" in name]
    assert vision and all(bool(g.any()) for g in vision)
