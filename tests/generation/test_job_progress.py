"""A sampling job reports its tokens inside a batch, and changes no token by it."""

from __future__ import annotations

import pytest
import torch

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.generation import job_progress
from vigos_cli.generation.job_progress import count_tokens
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out


def test_tokens_count_up_to_the_end_of_each_turn():
    ids_BT = torch.tensor([[5, 6, 7, 8], [5, 2, 0, 0], [2, 2, 2, 2]])
    assert count_tokens(ids_BT, [2], 8) == (4 + 2 + 1, 0.5 + 1 + 1)
    assert count_tokens(ids_BT[:, :0], [2], 8) == (0, 0.0)


@pytest.fixture
def jobs(tiny):
    from PIL import Image

    from vigos_cli.config.compose import job
    from vigos_cli.method.prompts import Prompter

    config = job("distill", ["out=unused"])
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    images = prompter.encode([Image.new("RGB", (84, 84), "red")], ())
    prompt = prompter.render(STUDENT, images, question="What colour is it?")
    requests = [Request(str(i), prompt) for i in range(5)]
    return lambda: SamplingJob(requests, Sampling(24), ("test",), batch=2)


@pytest.mark.slow
def test_a_job_reports_inside_its_batches_and_in_total_what_it_sampled(tiny, jobs, monkeypatch):
    told: list[tuple[int, float]] = []
    monkeypatch.setattr(job_progress, "sampled", lambda tokens, answers: told.append((tokens, answers)))
    monkeypatch.setattr(job_progress, "PAUSE", 0.0)
    often = roll_out(tiny, jobs())
    tokens = sum(len(rollout.ids) for rollout in often)
    assert len(told) > tokens / 2 / 5, "it reports inside a batch, not only at its end"
    assert all(t >= 0 and a >= 0 for t, a in told)
    assert sum(t for t, _ in told) == tokens and sum(a for _, a in told) == pytest.approx(5)
    told.clear()
    monkeypatch.setattr(job_progress, "PAUSE", 1e9)
    assert [rollout.ids for rollout in roll_out(tiny, jobs())] == [rollout.ids for rollout in often]
    assert len(told) == 5, "one report for each finished rollout"
