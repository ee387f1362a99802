"""The interface of an engine, which samples rollouts, and the function that chooses one.

>>> engine = engine_of(config, student)
>>> job = SamplingJob(requests, Sampling(64, temperature=0), key=("bench", 42), batch=32)
>>> rollouts = engine.roll_out(job)

    hf        transformers' generate in process; a sample does not depend on its batch
    vllm      a vLLM server; sends and receives token ids, and uploads the adapter
    openai    any server with chat completions; returns only text, so only for `vigos eval`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from vigos_cli.config.schema import DistillRun, RunConfig
from vigos_cli.generation.sampler import SamplingJob, roll_out
from vigos_cli.models.pretrained import resolve_path
from vigos_cli.models.student import Student
from vigos_cli.types import Rollout


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


def engine_of(config: RunConfig, student: Student) -> Engine:
    """The engine of a run that loads the model's weights (`rollout=hf` or `vllm`)."""
    if config.rollout.name == "hf":
        return InProcess(student)
    assert config.rollout.name == "vllm", "rollout=openai has no student, see generation.chat"
    from vigos_cli.generation.vllm import VllmEngine

    learns = isinstance(config, DistillRun)
    return VllmEngine(student, config.rollout, served_name(config), Path(config.out), learns=learns)


def served_name(config: RunConfig) -> str:
    """The name of the model on the server: `rollout.model`, or the path of the model."""
    return config.rollout.model or resolve_path(config.model.path)
