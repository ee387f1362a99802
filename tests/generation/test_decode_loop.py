"""The decoding loop draws the tokens that transformers' `generate` draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from conftest import distill_config, make_student, with_effect
from twins import FAMILIES, picture, save_twin

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation import decode_loop, sampler
from vigos_cli.generation.decode_loop import GrowingLayer, can_decode, lean_adapter
from vigos_cli.generation.keyed_choice import Sampling
from vigos_cli.generation.sampler import Request, SamplingJob, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.types import Rollout

SERVED = [name for name in FAMILIES if name != "qwen35"]  # its linear attention has another kind of cache


ROWS = (
    (picture(84, 84, 1),),
    (picture(40, 120, 2),),
    (picture(84, 56, 3), picture(56, 56, 4)),
    (),
)


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Callable[[str], tuple[Student, list[Request]]]:
    """A twin with an adapter, and three draws of each of four prompts."""

    def load(name: str) -> tuple[Student, list[Request]]:
        run = distill_config("model.path=FOLDER", "adapter.r=4")
        run = replace(run, model=replace(run.model, path=str(save_twin(name, tmp_path_factory.mktemp(name)))))
        student = with_effect(load_student(run.model, run.adapter, seed=0))
        made = Prompter(student.processor, run.prompt, run.routing)
        prompts = [
            made.render(STUDENT, made.encode(row), question=f"What {i}?") for i, row in enumerate(ROWS)
        ]
        return student, [Request(str(i), p, draw) for i, p in enumerate(prompts) for draw in range(3)]

    return cache(load)


@pytest.fixture(scope="module")
def requests(tiny) -> list[Request]:
    """Two draws of each of five prompts of PriorWorld."""
    config = distill_config()
    made = Prompter(tiny.processor, config.prompt, config.routing)
    return [
        Request(sample.id, prompt, draw)
        for sample in list(PriorWorld(size=5))
        for prompt in [made.render(STUDENT, made.encode(sample.images), question=sample.question)]
        for draw in range(2)
    ]


def both(student: Student, asked: list[Request], sampling: Sampling, patch: Any) -> tuple[list[Rollout], ...]:
    """The rollouts of the loop and of `generate`."""
    job = SamplingJob(asked, sampling, key=(0,), batch=32, log_probs=True)
    with patch.context() as inside:
        inside.setattr(sampler, "can_decode", lambda student: False)
        theirs = roll_out(student, job)
    with patch.context() as inside:
        inside.setattr(sampler, "_generate", None)
        return roll_out(student, job), theirs


def check(ours: list[Rollout], theirs: list[Rollout]) -> None:
    assert [r.ids for r in ours] == [r.ids for r in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine.log_p == pytest.approx(yours.log_p, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.1])
@pytest.mark.parametrize("name", SERVED)
def test_every_family_draws_the_same_tokens(name, temperature, twin, monkeypatch):
    student, asked = twin(name)
    ours, theirs = both(student, asked, Sampling(12, temperature, 0.95, 20), monkeypatch)
    check(ours, theirs)
    if temperature:
        assert len({r.ids for r in ours}) > 8, "the draws of a prompt differ"


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), ("adapter=qlora",), ("model.dtype=bfloat16",)], ids=str)
def test_turns_of_different_lengths_leave_the_batch(overrides, requests, monkeypatch):
    student, kept = with_effect(make_student(*overrides), 0.02), []
    keep = GrowingLayer.keep
    monkeypatch.setattr(GrowingLayer, "keep", lambda self, rows: kept.append(len(rows)) or keep(self, rows))
    ours, theirs = both(student, requests, Sampling(96, 1.3, 0.95, 20), monkeypatch)
    check(ours, theirs)
    assert len({len(r.ids) for r in ours}) > 2 and all(r.finished for r in ours)
    assert kept and max(kept) < len(requests)


@pytest.mark.slow
def test_buffers_grow(requests, monkeypatch):
    monkeypatch.setattr(decode_loop, "ROOM", 5)
    ours, theirs = both(with_effect(make_student(), 0.02), requests, Sampling(40), monkeypatch)
    check(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["initial", "ema"])
def test_a_teachers_weights_are_used_inside_their_block(weights, requests, monkeypatch):
    student = with_effect(make_student(), 0.05)
    kept = {name: p.detach() * (0.0 if "lora_B" in name else 1.0) for name, p in student.adapter.items()}
    plain, _ = both(student, requests, Sampling(40), monkeypatch)
    with student.weights(weights, kept):
        ours, theirs = both(student, requests, Sampling(40), monkeypatch)
    check(ours, theirs)
    assert [r.ids for r in ours] != [r.ids for r in plain]


def test_the_prompt_of_several_draws_is_read_once(requests, monkeypatch, tiny):
    read = []
    whole = decode_loop.read_prompts
    monkeypatch.setattr(
        decode_loop, "read_prompts", lambda s, prompts: read.append(len(prompts)) or whole(s, prompts)
    )
    roll_out(tiny, SamplingJob(requests, Sampling(4), key=(0,), batch=32))
    assert read == [5]


def test_the_layers_of_the_adapter_are_as_before_after_the_block(tiny):
    before = [module.forward for module in tiny.net.modules()]
    with pytest.raises(RuntimeError), lean_adapter(tiny):
        assert [module.forward for module in tiny.net.modules()] != before
        raise RuntimeError
    assert [module.forward for module in tiny.net.modules()] == before
    assert not any("forward" in vars(module) for module in tiny.net.modules())


@pytest.mark.parametrize(
    "kinds, window, served",
    [
        (["full_attention"] * 4, 4096, True),  # the window of a configuration that does not use it
        (["full_attention", "sliding_attention"] * 2, 4096, False),
        (None, 4096, False),
        (None, None, True),
    ],
)
def test_a_model_with_a_sliding_window_is_not_served(kinds, window, served, tiny, monkeypatch):
    text = tiny.base.config.get_text_config()
    monkeypatch.setattr(text, "layer_types", kinds)
    monkeypatch.setattr(text, "sliding_window", window)
    assert can_decode(tiny) is served


def test_a_family_with_another_cache_is_sampled_by_generate_and_a_line_says_so_once(twin, capsys):
    sampler._say_once.cache_clear()
    student, asked = twin("qwen35")
    assert not can_decode(student) and can_decode(twin("qwen2vl")[0])
    for _ in range(2):
        assert len(roll_out(student, SamplingJob(asked, Sampling(4), key=(0,), batch=32))) == len(asked)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "generate" in line]
    assert "Qwen3_5" in line
