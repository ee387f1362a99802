"""What an engine is: requests in, rollouts out, in their order.

>>> engine = engine_of(config, student)
>>> rollouts = engine.roll_out(requests, Sampling(64, temperature=0), key=("bench", 42), batch=32)

    hf        transformers' generate in process; draws do not depend on the batch
    vllm      a vLLM server, token ids in and out; the adapter follows it there
    openai    any server with chat completions: text alone, so for `vigos eval`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from vigos_cli.config.schema import DistillRun, RunConfig
from vigos_cli.generation.sampler import SamplingJob, roll_out
from vigos_cli.models.student import Student
from vigos_cli.types import Rollout


class Engine(Protocol):
    """Where completions come from."""

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """One rollout a request, in their order. The same key, sample and draw get the same noise.

        `batch` is how many rows are generated at once where that is for us to say; `done` is told each
        rollout once it is there, whatever becomes of the others. All processes call it together, each with
        its own requests.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What a reader of the figures must know about the engine; nothing where all is as it always is."""
        ...

    def close(self) -> None:
        """Leave nothing behind on a server."""
        ...


class InProcess:
    """`rollout=hf`: the student's own generate."""

    def __init__(self, student: Student):
        self.student = student

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """See Engine."""
        return roll_out(self.student, job)

    def facts(self) -> dict[str, Any]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to leave."""


def engine_of(config: RunConfig, student: Student) -> Engine:
    """The engine of a run that has its model's weights here."""
    if config.rollout.name == "hf":
        return InProcess(student)
    assert config.rollout.name == "vllm", "rollout=openai has no student, see engines.chat"
    from vigos_cli.generation.vllm import VllmEngine

    learns = isinstance(config, DistillRun)
    return VllmEngine(student, config.rollout, served_name(config), Path(config.out), learns=learns)


def served_name(config: RunConfig) -> str:
    """The model, as the server calls it."""
    from vigos_cli.models.pretrained import resolve_path

    return config.rollout.model or resolve_path(config.model.path)
