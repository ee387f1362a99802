"""Each step reports how far the sampler's log-probabilities are from the trainer's, and warns once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import distill_config, make_student, with_effect

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.engine import InProcess
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches
from vigos_cli.training import sampler_gap
from vigos_cli.training.learner import make_learner
from vigos_cli.training.sampler_gap import GapWatch, whole_gap
from vigos_cli.training.step import train_step
from vigos_cli.types import Rollout
from vigos_cli.utils import process_group

SMALL = ("trainer.batch=4", "rollout.max_new_tokens=60")


def one_line(student, *overrides: str, engine=None):
    """The report of one step."""
    config = distill_config(*SMALL, *overrides)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    learner.engine = engine
    return train_step(learner, Batches(PriorWorld(size=64), prompter, config), prompter, config)


class Other(InProcess):
    """Samples from the base in place of the student."""

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        with self.student.weights("initial"):
            return roll_out(self.student, job)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_in_process_and_in_float32_there_is_no_gap_but_rounding(temperature):
    student = with_effect(make_student(), 0.1)  # so that it is unsure, and its numbers have digits to round
    line = one_line(student, f"loss.temperature={temperature}", "loss.divergence=reverse_kl")
    assert line["sampler_gap/tokens"] == line["supervised_tokens"] > 50
    assert 0 < line["sampler_gap/mean"] <= line["sampler_gap/max"] < 1e-4


@pytest.mark.slow
def test_a_sampler_with_other_weights_shows():
    student = with_effect(make_student(), 0.1)
    line = one_line(student, engine=Other(student))
    assert line["sampler_gap/mean"] > 0.01 and line["sampler_gap/max"] > 0.2


def test_the_samplers_numbers_are_before_temperature_and_cuts_and_belong_to_the_sampled_tokens(tiny):
    config = distill_config()
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    requests = [
        Request(sample.id, prompter.render(STUDENT, images, question=sample.question))
        for sample in list(PriorWorld(size=3))
        for images in [prompter.encode(sample.images)]
    ]
    sampling, lowest = Sampling(24, temperature=8.0, top_p=0.95, top_k=20), 0.0
    rollouts = roll_out(tiny, SamplingJob(requests, sampling, key=(0,), batch=2, log_probs=True))
    for rollout in rollouts:
        prompt = rollout.prompt
        with torch.no_grad():
            hidden = tiny.hidden(tiny.batch([(*prompt.ids, *rollout.ids)], [prompt]))[0]
        log_p = (hidden @ tiny.head_VH.T).float().log_softmax(-1)
        first = len(prompt.ids) - 1
        plain = [float(log_p[first + i, token]) for i, token in enumerate(rollout.ids)]
        assert list(rollout.log_p) == pytest.approx(plain, abs=1e-4)
        lowest = min(lowest, *plain)
    assert lowest < -0.5, "some token was not the most likely one"


def test_nobody_pays_for_log_probabilities_that_were_not_asked_for(tiny):
    config = distill_config()
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    sample = next(iter(PriorWorld(size=1)))
    prompt = prompter.render(STUDENT, prompter.encode(sample.images), question=sample.question)
    (rollout,) = roll_out(tiny, SamplingJob([Request("a", prompt)], Sampling(4), key=(0,), batch=1))
    assert rollout.ids and rollout.log_p == ()


@pytest.mark.slow
def test_completions_that_were_not_sampled_have_no_gap():
    assert not [key for key in one_line(make_student(), "routing=sft") if key.startswith("sampler_gap")]


def test_processes_are_put_together(monkeypatch):
    gap = sampler_gap.SamplerGap()
    gap._sum, gap._most, gap._tokens = 1.0, 0.5, 10
    monkeypatch.setattr(process_group, "gather", lambda mine: [mine, (5.0, 0.9, 20), (0.0, 0.0, 0)])
    assert gap.figures() == pytest.approx(
        {"sampler_gap/mean": 0.2, "sampler_gap/max": 0.9, "sampler_gap/tokens": 30}
    )


def line(step: int, mean: float | None, most: float = 1.0, tokens: int = 10):
    found = {"sampler_gap/mean": mean, "sampler_gap/max": most, "sampler_gap/tokens": tokens}
    return {"step": step} | ({} if mean is None else found)


def test_the_figures_of_a_run_weigh_its_tokens():
    assert whole_gap([line(1, 0.1, 0.3, 30), line(2, None), line(3, 0.5, 0.2, 10)]) == pytest.approx(
        {"mean": 0.2, "max": 0.3, "tokens": 40}
    )
    assert whole_gap([line(1, None)]) is None


VLLM = ("rollout=vllm", "model.dtype=float32")


@pytest.mark.parametrize(
    "overrides, reason",
    [
        (("adapter=qlora", "rollout=vllm"), "4-bit"),
        (VLLM, "vllm serve --dtype"),
        (("model.dtype=bfloat16",), "model.dtype=float32"),
        (("model.dtype=float32",), "report"),
    ],
)
def test_one_warning_names_the_likely_reason(overrides, reason, capsys):
    watch = GapWatch(distill_config(*overrides), [line(1, 0.01)])
    for step, mean in ((2, 0.04), (3, None), (4, 0.06), (5, 0.5)):
        watch.warn(line(step, mean))
    (said,) = capsys.readouterr().err.splitlines()
    assert "step 4" in said and "0.06 nats" in said and reason in said


@pytest.mark.slow
def test_a_resumed_run_does_not_repeat_the_warning_and_dropout_gives_none(capsys):
    GapWatch(distill_config(), [line(1, 0.06)]).warn(line(2, 0.07))
    config = distill_config()
    GapWatch(replace(config, adapter=replace(config.adapter, dropout=0.1))).warn(line(1, 0.06))
    assert not capsys.readouterr().err
