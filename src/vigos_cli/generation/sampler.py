"""Sample completions from the student.

A batch is sampled by our own loop (`decode_loop`), or by transformers' `generate` for a model that the loop
does not serve. Both take the tokens that `keyed_choice` chooses, so what is drawn does not depend on the
batch a row happens to be in. Nothing in the checkpoint's generation config changes what is drawn, except the
tokens that end a turn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList

from vigos_cli.generation.decode_loop import can_decode, decode
from vigos_cli.generation.job_progress import JobProgress
from vigos_cli.generation.keyed_choice import ChoiceProcessor, KeyedChoice, Sampling
from vigos_cli.method.decode import Decoder
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt, Rollout
from vigos_cli.utils import process_group, rng


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw. Two requests with the same key, sample and draw get the same noise."""

    sample_id: str
    prompt: Prompt
    draw: int = 0


@dataclass(frozen=True, slots=True)
class SamplingJob:
    """Requests to sample together; `Engine.roll_out` returns one rollout for each, in their order."""

    requests: Sequence[Request]
    sampling: Sampling
    key: tuple[object, ...]  # the random numbers are a hash of this key, the sample and the draw
    batch: int  # sequences generated at once in process; a server chooses its own batches
    done: Callable[[int, Rollout], object] | None = None  # called with each rollout when it is ready
    log_probs: bool = False  # fill `Rollout.log_p`

    def server_seed(self, request: Request) -> int:
        """The seed that a server gets for one request."""
        return rng.key(*self.key, request.sample_id, request.draw) % 2**31


@torch.no_grad()
def roll_out(student: Student, job: SamplingJob) -> list[Rollout]:
    """One rollout a request, in their order; rows of similar prompt length are generated together.

    `done` is told each as soon as its batch is.
    """
    requests = job.requests
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt.ids))
    rollouts: dict[int, Rollout] = {}
    progress = JobProgress()
    for start in range(0, len(order), job.batch):
        rows = order[start : start + job.batch]
        for i, (ids, log_p) in zip(rows, _sample_batch(student, job, rows, progress), strict=True):
            rollouts[i] = as_rollout(student, requests[i], ids, log_p)
            progress.finished(rollouts[i])
            if job.done:
                job.done(i, rollouts[i])
    return [rollouts[i] for i in range(len(requests))]


def as_rollout(
    student: Student, request: Request, ids: Sequence[int], log_p: Sequence[float] = ()
) -> Rollout:
    """Decode sampled ids into a rollout; `log_p` are the sampler's log-probabilities, if they are known."""
    text, ends = decoder(student.tokenizer).decode((*request.prompt.prefill, *ids))
    return Rollout(
        sample_id=request.sample_id,
        draw=request.draw,
        prompt=request.prompt,
        ids=tuple(ids),
        text=text,
        ends=ends,
        finished=bool(ids) and ids[-1] in student.stop_ids,
        log_p=tuple(log_p),
    )


@lru_cache(maxsize=4)
def decoder(tokenizer: Any) -> Decoder:
    """One decoder a tokenizer: it remembers the bytes of every token it has met."""
    return Decoder(tokenizer)


def _sample_batch(
    student: Student, job: SamplingJob, rows: Sequence[int], progress: JobProgress
) -> list[tuple[tuple[int, ...], list[float]]]:
    """Sample these rows of the job as one batch; return their ids and log-probabilities (or [])."""
    requests, most = [job.requests[i] for i in rows], job.sampling.max_new_tokens
    noise_BT = None
    if job.sampling.temperature > 0:
        noises = [rng.uniforms(*job.key, r.sample_id, r.draw, count=most) for r in requests]
        noise_BT = torch.from_numpy(np.stack(noises)).to(student.device)
    choice = KeyedChoice(noise_BT, job.sampling, student.banned_ids, rows=len(rows), log_probs=job.log_probs)
    sample = _decode if can_decode(student) else _generate
    turns = [
        until_stop(ids, student.stop_ids)
        for ids in sample(student, [request.prompt for request in requests], choice, most, progress)
    ]
    log_p = choice.log_p() if job.log_probs else [[]] * len(turns)
    return [(ids, values[: len(ids)]) for ids, values in zip(turns, log_p, strict=True)]


def _decode(
    student: Student, prompts: Sequence[Prompt], choice: KeyedChoice, most: int, progress: JobProgress
) -> list[list[int]]:
    """Sample with our own loop, which reads the prompt of several draws once."""
    place: dict[int, int] = {}
    draws = [place.setdefault(id(prompt), len(place)) for prompt in prompts]
    unique = list({id(prompt): prompt for prompt in prompts}.values())
    count = progress.inside(0, student.stop_ids, most)
    return decode(student, unique, draws, choice, most=most, watch=count.count)


def _generate(
    student: Student, prompts: Sequence[Prompt], choice: KeyedChoice, most: int, progress: JobProgress
) -> list[list[int]]:
    """Sample with transformers' `generate`."""
    _say_once(type(student.base).__name__)
    inputs = student.batch([prompt.ids for prompt in prompts], prompts, pad_left=True)
    width = inputs["input_ids"].shape[1]
    with without_generation_config(student.base):
        output = student.base.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=sorted(student.stop_ids),
                pad_token_id=student.tokenizer.pad_token_id,
                use_cache=True,
            ),
            logits_processor=LogitsProcessorList(
                [ChoiceProcessor(choice, width), progress.inside(width, student.stop_ids, most)]
            ),
        )
    return output[:, width:].tolist()


@cache
def _say_once(model: str) -> None:
    if process_group.rank() == 0:
        print(f"rollout: {model} is sampled with transformers' generate, which is slower", file=sys.stderr)


@contextmanager
def without_generation_config(base: Any) -> Iterator[None]:
    """Hide the checkpoint's generation config from `generate` inside the block.

    transformers fills every setting that the caller leaves out from `base.generation_config`. A repetition
    penalty, a suppressed token or a number of beams from there would change the distribution that is sampled
    from, while the loss scores the plain one.
    """
    own = base.generation_config
    base.generation_config = GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = own


def until_stop(ids: Sequence[int], stop_ids: frozenset[int]) -> tuple[int, ...]:
    """The ids up to the first that ends the turn, with it; all where none does."""
    for i, token in enumerate(ids):
        if token in stop_ids:
            return tuple(ids[: i + 1])
    return tuple(ids)
