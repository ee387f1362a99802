"""`rollout=vllm`: sample on a vLLM server that reads and returns token ids.

    images    -> /v1/chat/completions/render   the server's processor returns features and placeholder tokens
    token ids -> /inference/v1/generate        our ids with these features; returns the sampled ids
    adapter   -> /v1/load_lora_adapter         after each change of the weights, under a new name

vLLM's chat route would tokenise the text again, and its completions route accepts no images. Here the model
reads our token ids, image placeholders included (vllm_protocol lists what is checked). Each request has its
own seed and one completion, so a sample does not depend on other requests. Before sampling under changed
weights, the server's log-probabilities are compared with those computed here (vllm_check).

It has been run against vLLM 0.32 (CPU build). The tests use a small HTTP server in place of vLLM.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from vigos_cli.config.schema import RolloutConfig
from vigos_cli.generation import vllm_check, vllm_protocol
from vigos_cli.generation.concurrent_requests import ask_all
from vigos_cli.generation.job_progress import JobProgress
from vigos_cli.generation.sampler import Request, SamplingJob, as_rollout
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt, Rollout
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.server import RequestRefused, Server, key_from_environment


class VllmEngine:
    """The engine of `rollout=vllm`; see `Engine`.

    If the run trains (`learns`), the adapter is uploaded from the start, although it is still zero.
    """

    def __init__(self, student: Student, config: RolloutConfig, model: str, out: Path, *, learns: bool):
        self._student, self._config, self._model, self._learns = student, config, model, learns
        self._key = key_from_environment("rollout", config)
        self._served = (out / "served").resolve()  # the server reads adapters from here
        self._slots = frozenset(student.banned_ids)
        if process_group.rank() == 0:  # remove the adapters of a run that was killed
            shutil.rmtree(self._served, ignore_errors=True)
        self._name = model  # the name under which the server has the current weights
        self._version: tuple[float, ...] = ()  # identifies the current weights

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """Sample on the server with the current adapter; see `Engine`."""
        self._serve_current_weights(job.requests)
        rollouts: dict[int, Rollout] = {}
        progress = JobProgress()

        async def ask(server: Server, rows: list[tuple[int, Request]]) -> None:
            features = await vllm_protocol.image_features(server, self._model, rows[0][1].prompt, self._slots)

            async def complete(i: int, request: Request) -> None:
                params = self._params(request, job)
                try:
                    reply = await vllm_protocol.generate(server, self._name, request.prompt, features, params)
                except RequestRefused as error:
                    raise RequestRefused(error.status, f"{error} to item {request.sample_id}") from None
                ids = vllm_protocol.completion_ids(reply, self._student.stop_ids, self._slots)
                log_p = vllm_protocol.completion_log_probs(reply, ids) if job.log_probs else ()
                rollouts[i] = as_rollout(self._student, request, ids, log_p)
                progress.finished(rollouts[i])
                if job.done:
                    job.done(i, rollouts[i])

            await asyncio.gather(*(complete(i, request) for i, request in rows))

        # All draws of an item go together: its images are encoded once, and their features freed afterwards.
        draws_of = groupby(enumerate(job.requests), lambda row: id(row[1].prompt.images))
        ask_all(self._config, self._key, [list(rows) for _, rows in draws_of], ask)
        return [rollouts[i] for i in range(len(job.requests))]

    def facts(self) -> dict[str, Any]:
        """Server and model, and whether an adapter was used."""
        facts = {"name": "vllm", "url": self._config.url, "model": self._model}
        return {**facts, "adapter": not self._zero()}

    def close(self) -> None:
        """Unload the adapter; if the server is gone, remove only the folder."""
        if process_group.rank() == 0 and self._name != self._model:
            try:
                ask_all(self._config, self._key, [self._name], self._unload)
            except UserError:
                shutil.rmtree(self._served, ignore_errors=True)

    def _params(self, request: Request, job: SamplingJob) -> dict[str, Any]:
        sampling = job.sampling
        params: dict[str, Any] = {
            "n": 1,
            "seed": job.server_seed(request),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "repetition_penalty": 1.0,  # else the server takes it from the generation config
            "stop_token_ids": sorted(self._student.stop_ids),
            "logit_bias": {str(i): -100.0 for i in sorted(self._slots)},
        }
        if job.log_probs:
            params["logprobs"] = 0  # of the sampled token alone
        if sampling.temperature > 0:
            params |= {"top_p": sampling.top_p, "top_k": sampling.top_k or -1}
        return params

    def _serve_current_weights(self, requests: Sequence[Request]) -> None:
        """Upload the adapter if it has changed. The first process does it for all."""
        version = tuple(
            torch.stack([p.detach().double().square().sum() for p in self._student.adapter.values()]).tolist()
        )
        if version == self._version:
            return
        failure = ""
        if process_group.rank() == 0:
            try:
                prompt = requests[0].prompt if requests else None
                ask_all(self._config, self._key, [prompt], self._upload)
            except UserError as error:
                failure = str(error)
        self._name, failure = process_group.gather((self._name, failure))[0]
        if failure:
            raise UserError(failure)
        self._version = version

    def _zero(self) -> bool:
        """Whether the adapter has no effect, as before training."""
        return not any(bool(p.any()) for name, p in self._student.adapter.items() if "lora_B" in name)

    async def _upload(self, server: Server, prompt: Prompt | None) -> None:
        """Upload the current adapter under a new name, since servers cache by name, and check it."""
        zero, old, name = self._zero(), self._name, self._model
        if self._learns or not zero:
            name = f"vigos-{uuid4().hex[:12]}"
            folder = self._served / name
            self._student.net.save_pretrained(str(folder), safe_serialization=True)
            await vllm_protocol.load_lora(server, name, folder)
        self._name = name
        if prompt:
            try:
                features = await vllm_protocol.image_features(server, self._model, prompt, self._slots)
                base = await vllm_protocol.prompt_logprobs(server, self._model, prompt, features)
                live = base if zero else await vllm_protocol.prompt_logprobs(server, name, prompt, features)
                vllm_check.check_weights(self._student, prompt, base, live, zero=zero)
            except UserError:
                if name != self._model:
                    await self._unload(server, name)
                raise
        if old != self._model:
            await self._unload(server, old)

    async def _unload(self, server: Server, name: str) -> None:
        await vllm_protocol.unload_lora(server, name)
        shutil.rmtree(self._served / name, ignore_errors=True)
        if self._served.is_dir() and not any(self._served.iterdir()):
            self._served.rmdir()
