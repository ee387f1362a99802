"""Trainer and vLLM server on one card: the plan, the share for the server, and what does not fit."""

from __future__ import annotations

import re

import pytest
from conftest import distill_config

from vigos_cli.config.compose import job
from vigos_cli.config.schema import CARDS
from vigos_cli.models import plan_report
from vigos_cli.models.memory_plan import estimate_memory, shape_of
from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.plan_report import print_plan, suggestion
from vigos_cli.models.server_memory import (
    estimate_server,
    fits_beside,
    served_rank,
    share_for_server,
    trainer_beside_server,
)
from vigos_cli.utils.errors import UserError

SERVE = ("rollout=vllm", "rollout.serve=true")
CARD = CARDS["rtx4090"] * GIB


@pytest.fixture(scope="module")
def qwen():
    return shape_of(distill_config("model=qwen2vl", *SERVE))


@pytest.mark.slow
def test_qwen2vl_and_its_server_fit_a_card_of_24_gb(qwen, capsys, monkeypatch):
    monkeypatch.setattr(plan_report, "shape_of", lambda _: qwen)
    config = distill_config("model=qwen2vl", *SERVE, "card=rtx4090")
    assert print_plan(config)
    said = capsys.readouterr().out
    (share,) = re.findall(r"gpu-memory-utilization (0\.\d\d)", said)
    server = estimate_server(config, qwen, CARD)
    outside = trainer_beside_server(config, qwen) + server.check
    assert server.share < float(share) * CARD  # the server has room for its rows
    assert float(share) * CARD + outside < CARD  # and leaves the trainer its own
    assert "trainer: learn" in said and "server: keys and values, 32 rows" in said
    assert not re.search("│ rollout|│ evaluation", said)


@pytest.mark.slow
def test_a_smaller_run_is_suggested_if_both_do_not_fit(capsys):
    config = distill_config("model=qwen3vl_4b", *SERVE, "card=rtx4090")
    shape = shape_of(config)
    assert not fits_beside(config, shape, CARD)
    said = suggestion(config, shape, CARDS["rtx4090"])
    assert said == "try model.max_prompt=4096 rollout.concurrency=8"
    smaller = distill_config("model=qwen3vl_4b", *SERVE, *said.removeprefix("try ").split())
    assert fits_beside(smaller, shape, CARD)
    large = distill_config("model=qwen3vl_8b", *SERVE)
    assert "rollout=hf" in suggestion(large, shape_of(large), CARDS["rtx4090"])


@pytest.mark.slow
def test_a_run_whose_server_does_not_fit_is_refused_with_what_to_change(qwen):
    config = distill_config("model=qwen2vl", *SERVE)
    whole = share_for_server(config, qwen, total=CARD, room=CARD)
    beside = share_for_server(config, qwen, total=CARD, room=CARD - 4 * GIB)
    assert whole - beside == pytest.approx(4 * GIB / CARD, abs=0.011)  # another program has 4 GiB
    with pytest.raises(UserError, match=r"can be used: use a smaller rollout.concurrency"):
        share_for_server(config, qwen, total=CARD, room=CARD - 9 * GIB)
    assert share_for_server(config, qwen, total=200 * GIB, room=200 * GIB) == 0.9


@pytest.mark.slow
def test_every_part_of_the_servers_estimate_follows_its_settings(qwen):
    def parts(*overrides: str):
        return estimate_server(distill_config("model=qwen2vl", *SERVE, *overrides), qwen, CARD)

    base = parts()
    four_bit = parts("rollout.serve_flags=[--quantization,bitsandbytes]").weights
    assert base.weights - four_bit == pytest.approx((2 - 0.516) * qwen.decoder_weights)
    assert parts("adapter.r=65").adapters == pytest.approx(base.adapters * 128 / 64, rel=0.05)
    assert parts("rollout.concurrency=64").cache == pytest.approx(2 * base.cache)
    assert parts("rollout.concurrency=1", "model.max_prompt=9000").cache == pytest.approx(
        (9000 + 1024) * qwen.keys_and_values * 2
    )
    assert parts("model.dtype=float32").weights == 2 * base.weights


def test_without_training_the_trainers_part_is_smaller(qwen):
    train = distill_config("model=qwen2vl", *SERVE)
    ask = job("eval", ["model=qwen2vl", *SERVE, "out=x"])
    found = estimate_memory(train, qwen)
    assert trainer_beside_server(train, qwen) < found.peak  # that samples in process
    assert found.weights < trainer_beside_server(ask, qwen) < trainer_beside_server(train, qwen)


def test_the_rank_on_the_server_is_the_next_one_that_vllm_has():
    assert [served_rank(r) for r in (1, 8, 9, 64, 257, 512)] == [8, 8, 16, 64, 320, 512]
    with pytest.raises(UserError, match=r"adapter\.r=513"):
        served_rank(513)
