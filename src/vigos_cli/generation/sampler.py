"""Sample completions from the student.

The engine is transformers' own `generate`, run greedily, with a logits processor that has already made the
choice: it draws each token by inverting the distribution's sum at a number fixed beforehand for (seed,
sample, draw, position). So what is drawn does not depend on the batch a row happens to be in. Nothing in
the checkpoint's generation config changes what is drawn, except the tokens that end a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from vigos_cli.generation.job_progress import JobProgress
from vigos_cli.method.decode import Decoder
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt, Rollout
from vigos_cli.utils import rng


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


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


class KeyedChoice(LogitsProcessor):
    """Leaves one token possible: the one drawn, or the most likely.

    With `log_probs`, `log_p_TB` collects their log-probabilities, before temperature and cuts.
    """

    def __init__(
        self,
        noise_BT: Tensor | None,
        sampling: Sampling,
        banned: Sequence[int],
        prompt_width: int,
        *,
        log_probs: bool = False,
    ):
        self.noise_BT, self.sampling, self.banned = noise_BT, sampling, list(banned)
        self.prompt_width, self.log_probs = prompt_width, log_probs
        self.log_p_TB: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Scores (B, V) -> the same with one finite entry a row."""
        scores = scores.float()
        sums_B1 = scores.logsumexp(-1, keepdim=True) if self.log_probs else None
        scores[:, self.banned] = -torch.inf
        if self.noise_BT is None:
            chosen = scores.argmax(-1)
        else:
            chosen = sample_tokens(
                scores, self.noise_BT[:, input_ids.shape[1] - self.prompt_width], self.sampling
            )
        if sums_B1 is not None:
            self.log_p_TB.append((scores.gather(1, chosen[:, None]) - sums_B1)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


def sample_tokens(logits_BV: Tensor, noise_B: Tensor, sampling: Sampling) -> Tensor:
    """Draw one token a row: temperature, then top-k, then top-p, as the engines of others do."""
    k = min(sampling.top_k or logits_BV.shape[-1], logits_BV.shape[-1])
    top_BK, ids_BK = (logits_BV / sampling.temperature).topk(k, dim=-1)
    p_BK = top_BK.softmax(-1)
    if sampling.top_p < 1:  # keep a token while those before it hold less than top_p
        p_BK = p_BK.masked_fill(p_BK.cumsum(-1) - p_BK >= sampling.top_p, 0.0)
    sums_BK = p_BK.double().cumsum(-1)
    threshold_B1 = noise_B[:, None].double() * sums_BK[:, -1:]
    position_B = (sums_BK <= threshold_B1).sum(-1).clamp(max=k - 1)
    return ids_BK.gather(1, position_B[:, None])[:, 0]


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
        for i, (ids, log_p) in zip(rows, _generate(student, job, rows, progress), strict=True):
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


def _generate(
    student: Student, job: SamplingJob, rows: Sequence[int], progress: JobProgress
) -> list[tuple[tuple[int, ...], list[float]]]:
    """Sample these rows of the job as one batch; return their ids and log-probabilities (or [])."""
    requests, sampling = [job.requests[i] for i in rows], job.sampling
    prompts = [request.prompt for request in requests]
    inputs = student.batch([prompt.ids for prompt in prompts], prompts, pad_left=True)
    width = inputs["input_ids"].shape[1]
    noise_BT = None
    if sampling.temperature > 0:
        noises = [
            rng.uniforms(*job.key, r.sample_id, r.draw, count=sampling.max_new_tokens) for r in requests
        ]
        noise_BT = torch.from_numpy(np.stack(noises)).to(student.device)
    choice = KeyedChoice(noise_BT, sampling, student.banned_ids, width, log_probs=job.log_probs)
    with without_generation_config(student.base):
        output = student.base.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                eos_token_id=sorted(student.stop_ids),
                pad_token_id=student.tokenizer.pad_token_id,
                use_cache=True,
            ),
            logits_processor=LogitsProcessorList(
                [choice, progress.inside(width, student.stop_ids, sampling.max_new_tokens)]
            ),
        )
    turns = [until_stop(row, student.stop_ids) for row in output[:, width:].tolist()]
    if not job.log_probs:
        return [(ids, []) for ids in turns]
    log_p_BT = torch.stack(choice.log_p_TB, dim=1).tolist()
    return [(ids, log_p[: len(ids)]) for ids, log_p in zip(turns, log_p_BT, strict=True)]


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
