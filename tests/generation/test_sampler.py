"""Samples follow the distribution and do not depend on the batch."""

from collections import Counter

import numpy as np
import pytest
import torch
from conftest import distill_config

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import question_rows
from vigos_cli.generation.keyed_choice import KeyedChoice, Sampling, sample_tokens
from vigos_cli.generation.sampler import Request, SamplingJob, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.utils import rng

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])


def frequencies(sampling: Sampling, n: int = 20_000) -> np.ndarray:
    noise = torch.from_numpy(rng.uniforms("test", count=n))
    chosen = sample_tokens(LOGITS.expand(n, -1), noise, sampling)
    return np.bincount(chosen.numpy(), minlength=5) / n


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_distribution(temperature):
    expected = (LOGITS / temperature).softmax(-1).numpy()
    found = frequencies(Sampling(1, temperature=temperature))
    assert np.abs(found - expected).max() < 0.015


def test_top_k_keeps_k_tokens_in_proportion():
    found = frequencies(Sampling(1, top_k=2))
    expected = LOGITS[:2].softmax(-1).numpy()
    assert found[2:].sum() == 0
    assert np.abs(found[:2] - expected).max() < 0.015


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    p = LOGITS.softmax(-1)  # .64 .24 .09 .03 .004
    assert (frequencies(Sampling(1, top_p=float(p[0]) - 0.01)) > 0).tolist() == [True] + [False] * 4
    assert (frequencies(Sampling(1, top_p=float(p[0]) + 0.01)) > 0).tolist() == [True, True] + [False] * 3


def test_banned_tokens_are_never_chosen():
    scores = torch.tensor([[5.0, 1.0, 0.0]])
    greedy = KeyedChoice(None, Sampling(1, temperature=0), banned=[0], rows=1)
    assert greedy.choose(scores.clone(), 0).tolist() == [1]
    for noise in (0.0, 0.3, 0.9999999):
        drawn = KeyedChoice(torch.tensor([[noise]]), Sampling(1), banned=[0, 1], rows=1)
        assert drawn.choose(scores.clone(), 0).tolist() == [2]


def test_noise_depends_on_every_part_of_its_key():
    keys = [(seed, kind, s, d) for seed in (0, 1) for kind in "ab" for s in "xy" for d in (0, 1)]
    firsts = Counter(rng.uniforms(*key, count=1)[0] for key in keys)
    assert len(firsts) == len(keys)


def requests(tiny, n: int) -> list[Request]:
    config = distill_config()
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    return [
        Request(sample.id, prompter.render(STUDENT, images, question=sample.question), draw)
        for sample in question_rows("validation", n)
        for images in [prompter.encode(sample.images)]
        for draw in (0, 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 2.5])  # high enough for different samples of this model
def test_samples_do_not_depend_on_the_batch_size(tiny, temperature):
    sampling = Sampling(96, temperature=temperature, top_p=0.95, top_k=20)
    asked = requests(tiny, 3)
    one, three, sixteen = (
        roll_out(tiny, SamplingJob(asked, sampling, key=(0,), batch=n)) for n in (1, 3, 16)
    )
    assert [r.ids for r in one] == [r.ids for r in three] == [r.ids for r in sixteen]
    if temperature:
        assert any(a.ids != b.ids for a, b in zip(one[::2], one[1::2], strict=True)), (
            "two draws of an item differ"
        )
    else:
        assert all(a.ids == b.ids for a, b in zip(one[::2], one[1::2], strict=True))


def test_a_rollout_ends_with_its_end_of_turn_token_or_at_the_limit(tiny):
    for limit in (5, 96):
        for rollout in roll_out(tiny, SamplingJob(requests(tiny, 1), Sampling(limit), key=(0,), batch=8)):
            stops = [i for i, token in enumerate(rollout.ids) if token in tiny.stop_ids]
            assert rollout.finished == bool(stops)
            assert stops in ([], [len(rollout.ids) - 1])
            assert len(rollout.ids) == limit or rollout.finished
            assert len(rollout.ends) == len(rollout.prompt.prefill) + len(rollout.ids)
            assert rollout.ends[-1] == len(rollout.text)
