"""The memory estimate follows its formula and the config; the dry run measures and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import distill_config, make_student

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.memory_plan import estimate_memory, print_plan, shape_of, suggestion
from vigos_cli.models.peak_memory import GIB
from vigos_cli.training.dry_run import dry_run, longest
from vigos_cli.training.learner import make_learner


@pytest.fixture(scope="module")
def shape():
    return shape_of(distill_config("plan=true"))


def test_the_sizes_equal_those_of_the_model(shape):
    student = make_student()
    decoder = student.base.model.language_model
    linear = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)]
    adapted = sum(p.numel() for p in student.adapter.values())
    base = sum(p.numel() for n, p in student.net.named_parameters() if n not in student.adapter)
    assert shape.adapter_weights == adapted
    assert shape.decoder_weights + shape.other_weights == base
    # LoRA's matrices have the rank, 32, as one dimension; those of the base do not.
    assert shape.decoder_weights == sum(m.weight.numel() for m in linear if 32 not in m.weight.shape)
    assert (shape.hidden, shape.layers, shape.mlp) == (128, 4, 256)


def test_every_part_of_the_estimate_grows_with_its_settings(shape):
    def parts(*overrides: str):
        return estimate_memory(distill_config(*overrides), shape)

    base = parts()
    assert parts("adapter=qlora").weights < base.weights
    assert parts("trainer.micro_batch=64").learn > 1.9 * (base.learn - base_fixed(shape))
    assert parts("rollout.batch=16").rollout < base.rollout
    assert parts("rollout.max_new_tokens=192").learn > base.learn
    assert parts("trainer.gradient_checkpointing=true").learn < base.learn
    eight_bit, full = parts("trainer.optimizer=paged_adamw_8bit").optimizer, base.optimizer
    assert full - eight_bit == 6 * shape.adapter_weights


def base_fixed(shape) -> float:
    """The part of the training memory that does not grow with the number of rows."""
    return 2 * shape.hidden * shape.mlp * 4 + 24 * 64 * shape.vocabulary


def test_if_it_does_not_fit_the_smallest_change_is_suggested(shape, capsys):
    config = distill_config(
        "trainer.micro_batch=32", "trainer.gradient_checkpointing=true", "rollout.batch=1"
    )
    needed = estimate_memory(config, shape).peak / GIB
    milder = replace(config, trainer=replace(config.trainer, micro_batch=1))
    room = (estimate_memory(milder, shape).peak / GIB + 1e-6) / 0.95
    assert room < needed
    assert suggestion(config, shape, room) == "try trainer.micro_batch=1"
    assert "smaller model" in suggestion(config, shape, 0.1)
    assert print_plan(config)
    assert "rtx4090" in capsys.readouterr().out


def test_a_dry_run_takes_one_step_with_the_longest_rows(capsys):
    config = distill_config("trainer.batch=4", "rollout.max_new_tokens=24", "trainer.steps=7")
    student = make_student()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    data = PriorWorld(size=12)
    index, tokens = longest(data, prompter, config)
    learner = make_learner(student, config)
    dry_run(learner, data, prompter, config)
    shown = capsys.readouterr().out
    assert f"{tokens} + 24 tokens a row" in shown and "7 steps: at most" in shown
    assert "teachers" in shown and "of which loss" in shown and 0 <= index < 12
    assert learner.counts["length_limit"] == 4
