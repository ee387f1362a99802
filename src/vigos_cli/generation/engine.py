"""The interface of an engine, which samples rollouts, and the function that chooses one.

>>> engine = engine_of(config, student)
>>> job = SamplingJob(requests, Sampling(64, temperature=0), key=("bench", 42), batch=32)
>>> rollouts = engine.roll_out(job)

    hf        transformers' generate in process; a sample does not depend on its batch
    vllm      a vLLM server, which rollout.serve=true starts; sends and receives token ids, and uploads the
              adapter
    openai    any server with chat completions; returns only text, so only for `vigos eval`
"""

from __future__ import annotations

import shutil
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vigos_cli.config.schema import DistillRun, RunConfig
from vigos_cli.generation.concurrent_requests import stopping_if
from vigos_cli.generation.sampler import SamplingJob, roll_out
from vigos_cli.models.pretrained import resolve_path
from vigos_cli.models.student import Student
from vigos_cli.types import Rollout
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError

if TYPE_CHECKING:
    from vigos_cli.generation.vllm_process import VllmProcess


class Engine(Protocol):
    """Samples completions."""

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """Sample one rollout per request, in their order.

        The same key, sample and draw use the same random numbers. `job.done` is called for each finished
        rollout, even if a later one fails. All processes must call this together, each with its own requests.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Metadata for `scores.json`; empty for the default engine."""
        ...

    def close(self) -> None:
        """Remove what the run has put on a server."""
        ...


class InProcess:
    """`rollout=hf`: transformers' generate in this process."""

    def __init__(self, student: Student):
        self.student = student

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """See `Engine`."""
        return roll_out(self.student, job)

    def facts(self) -> dict[str, Any]:
        """Empty: this is the default engine."""
        return {}

    def close(self) -> None:
        """Nothing to remove."""


class WithServer:
    """`rollout.serve=true`: an engine and the server that was started for it, which ends with it."""

    def __init__(self, engine: Engine, process: VllmProcess, out: Path):
        self._engine, self._process, self._served = engine, process, out / "served"

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """See `Engine`. Raises a UserError at once if the server ends."""
        with stopping_if(self._process.ended):
            return self._engine.roll_out(job)

    def facts(self) -> dict[str, Any]:
        """Those of the engine; the address, which is another one for each start, is left out."""
        return {**self._engine.facts(), "url": "started by the run"}

    def close(self) -> None:
        """End the server; nothing has to be unloaded from it."""
        self._process.close()
        if process_group.rank() == 0:
            shutil.rmtree(self._served, ignore_errors=True)


def engine_of(config: RunConfig, student: Student) -> Engine:
    """The engine of a run that loads the model's weights (`rollout=hf` or `vllm`)."""
    if config.rollout.name == "hf":
        return InProcess(student)
    assert config.rollout.name == "vllm", "rollout=openai has no student, see generation.chat"
    from vigos_cli.generation.vllm import VllmEngine

    learns, rollout, out = isinstance(config, DistillRun), copy(config.rollout), Path(config.out)
    if not rollout.serve:
        return VllmEngine(student, rollout, served_name(config), out, learns=learns)
    process = _start_server(config, student)
    rollout.url = process.url
    return WithServer(VllmEngine(student, rollout, served_name(config), out, learns=learns), process, out)


def _start_server(config: RunConfig, student: Student) -> VllmProcess:
    """Start a vLLM server and wait until it is ready; the first process does it for all."""
    from vigos_cli.generation.server_records import end_orphans
    from vigos_cli.generation.vllm_command import serve_command, serve_environment
    from vigos_cli.generation.vllm_process import VllmProcess, free_port

    process, failure = VllmProcess(free_port(), Path(config.out)), None
    if process_group.rank() == 0:
        try:
            end_orphans()
            command = serve_command(config, student, process.port, process_group.size())
            process.start(command, serve_environment(config, student))
            process.wait_until_ready(config.rollout.patience)
        except UserError as error:
            process.close()
            failure = error
        except BaseException:
            process.close()
            raise
    process.port, failure = process_group.gather((process.port, failure))[0]
    if failure:
        raise failure
    return process


def served_name(config: RunConfig) -> str:
    """The name of the model on the server: `rollout.model`, or the path of the model."""
    return config.rollout.model or resolve_path(config.model.path)
