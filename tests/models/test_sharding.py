"""A split model: what is sent to the other processes, and what a run with such a model cannot do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import distill_config
from torch import nn

from vigos_cli.models.memory_plan import estimate_memory, shape_of
from vigos_cli.models.plan_report import suggestion
from vigos_cli.models.sharding import send_tensors, whole
from vigos_cli.utils.errors import ConfigError

SHARD = "trainer.shard=fsdp2"


class Tied(nn.Module):
    """A weight with two names, a buffer that is not saved, and a tensor that is only an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(4, 2), nn.Linear(2, 4, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("frequencies", torch.ones(3), persistent=False)
        self.original = self.frequencies
        self.other = torch.zeros(2)


def test_tied_weights_stay_tied_and_no_tensor_is_left_behind():
    module = Tied()
    before = {name: value.clone() for name, value in module.named_parameters()}
    old = {id(t) for t in (module.embedding.weight, module.frequencies, module.other)}
    send_tensors(module.modules(), torch.device("cpu"))
    assert module.head.weight is module.embedding.weight and module.original is module.frequencies
    assert old.isdisjoint(id(t) for t in (module.embedding.weight, module.frequencies, module.other))
    assert {name: value.tolist() for name, value in before.items()} == {
        name: value.tolist() for name, value in module.named_parameters()
    }
    assert not module.head.weight.requires_grad


def test_a_tensor_that_is_not_split_is_whole():
    tensor = torch.ones(2)
    assert whole(tensor) is tensor


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ((), "cannot sample in process, because each new token would send all weights"),
        (("trainer.dry_run=true",), "trainer.dry_run samples in process, which trainer.shard=fsdp2 cannot"),
        (("adapter=qlora", "rollout=vllm"), "trainer.shard=fsdp2 cannot split 4-bit weights"),
    ],
)
def test_what_a_split_model_cannot_do_is_refused(overrides, says, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=says) as error:
        distill_config(SHARD, *overrides)
    assert "\n" not in str(error.value)
    distill_config(SHARD, "rollout=vllm")


@pytest.mark.slow
def test_one_process_splits_nothing():
    distill_config(SHARD)  # not refused: the model is whole
    distill_config(SHARD, "trainer.dry_run=true")


def test_the_plan_divides_the_layers_among_the_processes(monkeypatch):
    config = distill_config(SHARD, "rollout=vllm", "model.dtype=float32")
    shape = replace(shape_of(config), layers=80)

    def weights(processes: int) -> float:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        return estimate_memory(config, shape).weights

    alone, two, eight, many = map(weights, (1, 2, 8, 80))
    assert alone > two > eight > many > 4 * shape.other_weights
    config.trainer.shard = "none"
    assert weights(8) == alone


def test_the_plan_does_not_suggest_4_bit_weights_for_a_split_model():
    config = distill_config(SHARD, "rollout=vllm")
    said = suggestion(config, replace(shape_of(config), decoder_weights=10**12), 24)
    assert "larger card" in said
