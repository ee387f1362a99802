"""The memory estimate follows its formula and the config."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import distill_config, make_student

from vigos_cli.method.loss_chunk import loss_bytes
from vigos_cli.models.memory_plan import estimate_memory, picture_bytes, row_tokens, shape_of
from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.plan_report import print_plan, suggestion


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


@pytest.mark.slow
def test_every_part_of_the_estimate_grows_with_its_settings(shape):
    def parts(*overrides: str):
        return estimate_memory(distill_config(*overrides), shape)

    base = parts()
    assert parts("adapter=qlora").weights < base.weights
    assert parts("trainer.micro_batch=64").learn > 1.9 * (base.learn - base_fixed(shape))
    assert parts("rollout.batch=16").rollout < base.rollout
    assert parts("bench.batch=16").evaluation < base.evaluation < parts("bench.max_new_tokens=192").evaluation
    assert parts("rollout.max_new_tokens=192").learn > base.learn
    assert parts("trainer.gradient_checkpointing=true").learn < base.learn
    eight_bit, full = parts("trainer.optimizer=paged_adamw_8bit").optimizer, base.optimizer
    assert full - eight_bit == 6 * shape.adapter_weights


def base_fixed(shape) -> float:
    """The part of the training memory that does not grow with the number of rows."""
    return 2 * shape.hidden * shape.mlp * 4 + loss_bytes(shape.vocabulary, 64, sides=2, device="cuda")


def test_a_budget_of_tokens_is_estimated_as_the_rows_that_fill_it(shape):
    config = distill_config("trainer.batch=64", "rollout.max_new_tokens=3000")

    def learn(rows: int = 1, tokens: int | None = None) -> float:
        trainer = replace(config.trainer, micro_batch=rows, micro_tokens=tokens)
        return estimate_memory(replace(config, trainer=trainer), shape).learn

    row, picture = row_tokens(config, shape), picture_bytes(shape, 4)
    short = 4 * row // (row - 3000)  # prompts that fit, if their answers are short
    assert short > 8 and learn(tokens=4 * row) - learn(4) == pytest.approx((short - 4) * picture)
    assert learn(4) < learn(tokens=4 * row + row // 2) < learn(5) + short * picture
    assert learn(tokens=1) == learn(1), "a row is never split"
    assert learn(tokens=10**9) == learn(64), "no more than the batch"


@pytest.mark.slow
def test_a_smaller_budget_of_tokens_is_suggested(shape, capsys):
    few = ("trainer.gradient_checkpointing=true", "rollout.batch=1", "bench.batch=1")
    row = row_tokens(distill_config(), shape)
    config = distill_config(*few, f"trainer.micro_tokens={32 * row}")

    def room(tokens: int) -> float:
        milder = replace(config, trainer=replace(config.trainer, micro_tokens=tokens))
        return (estimate_memory(milder, shape).peak / GIB + 1e-6) / 0.95

    assert suggestion(config, shape, room(16 * row)) == f"try trainer.micro_tokens={16 * row}"
    assert suggestion(config, shape, room(row)) == f"try trainer.micro_tokens={row}"
    print_plan(config)
    assert f"learn, micro-batch of {32 * row:,} tokens" in capsys.readouterr().out


def test_if_it_does_not_fit_the_smallest_change_is_suggested(shape, capsys):
    config = distill_config(
        "trainer.micro_batch=32",
        "trainer.gradient_checkpointing=true",
        "rollout.batch=1",
        "bench.batch=1",
    )
    needed = estimate_memory(config, shape).peak / GIB
    milder = replace(config, trainer=replace(config.trainer, micro_batch=1))
    room = (estimate_memory(milder, shape).peak / GIB + 1e-6) / 0.95
    assert room < needed
    assert suggestion(config, shape, room) == "try trainer.micro_batch=1"
    assert "smaller model" in suggestion(config, shape, 0.1)
    assert print_plan(config)
    assert "rtx4090" in capsys.readouterr().out


def test_a_large_evaluation_is_the_peak_and_is_suggested_to_be_smaller(shape):
    config = distill_config(
        "bench.batch=4096", "trainer.gradient_checkpointing=true", "trainer.micro_batch=1"
    )
    found = estimate_memory(config, shape)
    assert found.peak > found.context + found.weights + found.optimizer + found.evaluation
    assert found.evaluation > 10 * max(found.learn, found.rollout)
    smaller = replace(
        config, bench=replace(config.bench, batch=16), rollout=replace(config.rollout, batch=16)
    )
    room = (estimate_memory(smaller, shape).peak / GIB + 1e-6) / 0.95
    assert suggestion(config, shape, room) == "try rollout.batch=16 bench.batch=16"


@pytest.mark.slow
def test_the_plan_says_which_precision_a_card_without_bfloat16_gets(capsys):
    print_plan(distill_config("card=t4"))
    assert "bfloat16" not in capsys.readouterr().out
    for dtype, said in (("auto", "uses float16 there"), ("bfloat16", "use model.dtype=auto")):
        print_plan(distill_config("card=t4", f"model.dtype={dtype}"))
        assert "t4 does not compute in bfloat16: " in (shown := capsys.readouterr().out) and said in shown
        print_plan(distill_config("card=l4", f"model.dtype={dtype}"))
        assert "bfloat16" not in capsys.readouterr().out
