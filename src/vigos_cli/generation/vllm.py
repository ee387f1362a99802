"""`rollout=vllm`: sample on a vLLM server that reads and returns token ids.

    ids and images -> /inference/v1/generate      returns the sampled ids
    adapter        -> /v1/load_lora_adapter       after each change of the weights, under a new name

vLLM's chat route would tokenise the text again, and its completions route accepts no images. Here the model
reads our token ids, image placeholders included (vllm_protocol lists what is checked, and the two ways in
which images are sent). Each request has its own seed and one completion, so a sample does not depend on
other requests. Before sampling under changed weights, the server's log-probabilities are compared with those
computed here (vllm_check).

It has been run against vLLM 0.32 (CPU build). The tests use a small HTTP server in place of vLLM.
"""

from __future__ import annotations

import asyncio
import json
import shutil
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
from vigos_cli.generation.vllm_protocol import OtherPrompt, Shown
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt, Rollout
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import write_json
from vigos_cli.utils.server import RequestRefused, Server, key_from_environment

FILE = "engine.json"  # how pictures are sent; read again by a resumed run that has nothing left to ask
# Families (`model_type`) of which vLLM loads no adapter, and those of which an image ends it (the generate
# route drops the mask that says which tokens of the image are slots).
NO_ADAPTER = frozenset(("llava_onevision",))
NO_IMAGES = frozenset(("smolvlm", "idefics2", "idefics3"))


class VllmEngine:
    """The engine of `rollout=vllm`; see `Engine`.

    If the run trains (`learns`), the adapter is uploaded from the start, although it is still zero.
    """

    def __init__(self, student: Student, config: RolloutConfig, model: str, out: Path, *, learns: bool):
        self._student, self._config, self._model, self._learns = student, config, model, learns
        self._key = key_from_environment("rollout", config)
        self._served = (out / "served").resolve()  # the server reads adapters from here
        self._file = out / FILE
        self._pictures = ""  # how they are sent: content_parts or features; empty: not decided yet
        self._slots = frozenset(student.banned_ids)
        self._vocabulary: int = student.base.config.get_text_config().vocab_size
        if process_group.rank() == 0:  # remove the adapters of a run that was killed
            shutil.rmtree(self._served, ignore_errors=True)
        self._name = model  # the name under which the server has the current weights
        self._version: tuple[float, ...] = ()  # identifies the current weights
        family = student.base.config.model_type
        if family in NO_ADAPTER and (learns or not self._zero()):
            raise UserError(
                f"rollout=vllm: vLLM loads no LoRA adapter for {family} models: use rollout=hf, or evaluate "
                "a merged model (vigos merge)"
            )

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """Sample on the server with the current adapter; see `Engine`."""
        pictured = next((request.prompt for request in job.requests if request.prompt.images), None)
        family = self._student.base.config.model_type
        if pictured and family in NO_IMAGES:
            raise UserError(
                f"rollout=vllm: an image ends the server of a {family} model, because vLLM's generate route "
                "drops the mask of the image's tokens: use rollout=hf, or rollout=openai for vigos eval"
            )
        self._serve_current_weights(pictured or next((request.prompt for request in job.requests), None))
        if pictured and not self._pictures:  # the first process had no picture to try it with
            ask_all(self._config, self._key, [pictured], self._base_logprobs)
        rollouts: dict[int, Rollout] = {}
        progress = JobProgress()

        async def ask(server: Server, rows: list[tuple[int, Request]]) -> None:
            shown = await self._shown(server, rows[0][1].prompt)

            async def complete(i: int, request: Request) -> None:
                params = self._params(request, job)
                try:
                    reply = await vllm_protocol.generate(server, self._name, request.prompt, shown, params)
                except RequestRefused as error:
                    raise RequestRefused(error.status, f"{error} to item {request.sample_id}") from None
                ids = vllm_protocol.completion_ids(
                    reply,
                    self._student.stop_ids,
                    self._slots,
                    vocabulary=self._vocabulary,
                    most=job.sampling.max_new_tokens,
                )
                log_p = vllm_protocol.completion_log_probs(reply, ids) if job.log_probs else ()
                rollouts[i] = as_rollout(self._student, request, ids, log_p)
                progress.finished(rollouts[i])
                if job.done:
                    job.done(i, rollouts[i])

            await asyncio.gather(*(complete(i, request) for i, request in rows))

        # All draws of an item go together: its images are encoded once, and freed afterwards.
        draws_of = groupby(enumerate(job.requests), lambda row: id(row[1].prompt.images))
        ask_all(self._config, self._key, [list(rows) for _, rows in draws_of], ask)
        return [rollouts[i] for i in range(len(job.requests))]

    def facts(self) -> dict[str, Any]:
        """Server and model, whether an adapter was used, and how pictures were sent (if any were)."""
        facts = {"name": "vllm", "url": self._config.url, "model": self._model, "adapter": not self._zero()}
        pictures = self._pictures
        if not pictures and self._file.is_file():  # nothing was left to ask
            pictures = json.loads(self._file.read_text()).get("pictures")
        return {**facts, "pictures": pictures} if pictures else facts

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

    def _serve_current_weights(self, prompt: Prompt | None) -> None:
        """Upload the adapter if it has changed. The first process does it for all."""
        version = tuple(
            torch.stack([p.detach().double().square().sum() for p in self._student.adapter.values()]).tolist()
        )
        if version == self._version:
            return
        failure = ""
        ours = self._logprobs_of_split_model(prompt) if self._student.sharded else None
        if process_group.rank() == 0:
            try:
                ask_all(self._config, self._key, [(prompt, ours)], self._upload)
            except UserError as error:
                failure = str(error)
        shared = process_group.gather((self._name, failure, self._pictures))
        self._name, failure, pictures = shared[0]
        self._pictures = pictures or self._pictures
        if failure:
            raise UserError(failure)
        self._version = version

    def _zero(self) -> bool:
        """Whether the adapter has no effect, as before training."""
        return not any(bool(p.any()) for name, p in self._student.adapter.items() if "lora_B" in name)

    def _logprobs_of_split_model(self, prompt: Prompt | None) -> vllm_check.Logprobs | None:
        """The student's side of the check of the first process, for which all processes are needed."""
        first = process_group.rank() == 0
        if not process_group.gather(prompt is not None)[0]:
            return None
        return vllm_check.own_logprobs(self._student, prompt if first else None, zero=self._zero())

    async def _upload(self, server: Server, check: tuple[Prompt | None, vllm_check.Logprobs | None]) -> None:
        """Upload the current adapter under a new name, since servers cache by name, and check it.

        `check` is a prompt, and what is known of the student's log-probabilities of it.
        """
        prompt, ours = check
        zero, old, name = self._zero(), self._name, self._model
        if self._learns or not zero:
            name = f"{vllm_protocol.ADAPTER}{uuid4().hex[:12]}"
            folder = self._served / name
            self._student.net.save_pretrained(str(folder), safe_serialization=True)
            await vllm_protocol.load_lora(server, name, folder)
        self._name = name
        if prompt:
            try:
                shown, base = await self._base_logprobs(server, prompt)
                live = base if zero else await vllm_protocol.prompt_logprobs(server, name, prompt, shown)
                vllm_check.check_weights(self._student, prompt, base, live, zero=zero, ours=ours)
            except UserError:
                if name != self._model:
                    await self._unload(server, name)
                raise
        if old != self._model:
            await self._unload(server, old)

    async def _base_logprobs(self, server: Server, prompt: Prompt) -> tuple[Shown, list[float]]:
        """The prompt as it is sent, and the base's log-probabilities of its tokens.

        The first prompt with images decides for the run how images are sent: as content parts, if the server
        has them and makes of them the tokens that we have.
        """
        first = bool(prompt.images) and not self._pictures
        if first:
            takes = await vllm_protocol.takes_content_parts(server, self._model)
            self._pictures = "content_parts" if takes else "features"
        shown = await self._shown(server, prompt)
        try:
            base = await vllm_protocol.prompt_logprobs(server, self._model, prompt, shown)
        except (OtherPrompt, RequestRefused):
            if not first or self._pictures == "features":
                raise
            self._pictures = "features"
            shown = await self._shown(server, prompt)
            base = await vllm_protocol.prompt_logprobs(server, self._model, prompt, shown)
        if first and process_group.rank() == 0:
            facts = {"name": "vllm", "url": self._config.url, "model": self._model}
            write_json(self._file, {**facts, "pictures": self._pictures})
        return shown, base

    async def _shown(self, server: Server, prompt: Prompt) -> Shown:
        parts = self._pictures == "content_parts"
        return await vllm_protocol.shown_prompt(server, self._model, prompt, self._slots, content_parts=parts)

    async def _unload(self, server: Server, name: str) -> None:
        await vllm_protocol.unload_lora(server, name)
        shutil.rmtree(self._served / name, ignore_errors=True)
        if self._served.is_dir() and not any(self._served.iterdir()):
            self._served.rmdir()
