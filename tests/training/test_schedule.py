"""The number of steps of a run, and the learning rate of each step."""

from dataclasses import replace

import pytest
from conftest import distill_config

from vigos_cli.training.schedule import learning_rate, total_steps


def test_steps_and_learning_rates():
    config = distill_config("trainer.steps=null", "trainer.batch=8")
    assert total_steps(config, 80) == 10
    settings = replace(config.trainer, lr=1.0, warmup=4)
    rates = [learning_rate(replace(settings, schedule="linear"), step, 14) for step in range(14)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.1)
    cosine = [learning_rate(replace(settings, schedule="cosine"), step, 14) for step in range(14)]
    assert cosine[9] == pytest.approx(0.5)
    assert learning_rate(replace(settings, schedule="constant"), 13, 14) == 1.0
