"""The groups `data`, `prompt` and `rollout`."""

from __future__ import annotations

from dataclasses import dataclass, field

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_server, check_share
from vigos_cli.utils.errors import ConfigError

_PATHS = {"jsonl": "a JSON lines or parquet file, or a folder", "hub": "a hub id such as OWNER/NAME"}


@dataclass
class DataConfig:
    """Where training samples come from."""

    name: str = "priorworld"  # priorworld, vision_sr1, jsonl, hub
    path: str | None = None  # a JSON lines or parquet file, a folder, or a hub id
    revision: str | None = None  # hub commit or tag
    split: str = "train"  # split of a hub data set
    size: int = 4096  # priorworld: pictures in the training split
    conflict: float = 0.5  # priorworld: share of training pictures that contradict the usual look
    wrong_reference: float = 0.0  # priorworld: share of training samples whose reference is wrong
    columns: dict[str, str] = field(default_factory=dict)  # our name -> the file's name, where they differ

    def __post_init__(self) -> None:
        check_at_least(1, data__size=self.size)
        check_share(data__conflict=self.conflict, data__wrong_reference=self.wrong_reference)
        if self.wrong_reference and self.name != "priorworld":
            raise ConfigError(f"data.wrong_reference: only priorworld can make them up, not {self.name}")
        if self.name in ("jsonl", "hub") and not self.path:
            raise ConfigError(f"data.path is missing: data={self.name} reads {_PATHS[self.name]}")


@dataclass
class PromptConfig:
    """The instructions, in our own words; {question} and {reference} are filled in as plain text."""

    name: str = "vigos"  # the option's name, used in reports
    path: str | None = None  # a YAML file with any of the keys below, replacing them
    structured: str = ""  # student: describe, think, answer
    plain: str = ""  # student of vanilla OPSD: think, answer
    perception: str = ""  # perception teacher: empty, the image alone
    reasoning: str = ""  # reasoning teacher: question and reference, think, answer
    reference: str = ""  # reference teacher: question and reference, the full format
    prefill_structured: str = "<description>"  # head of the structured student's turn
    prefill_plain: str = "<think>"  # head of the plain student's turn


@dataclass
class RolloutConfig:
    """How completions are sampled while learning, and by which engine, then and in evaluations."""

    name: str = "hf"  # engine: hf (in process), openai (any such server; for vigos eval), vllm (over HTTP)
    temperature: float = 1.1  # sampling temperature
    top_p: float = 0.95  # nucleus; 1 keeps all
    top_k: int = 20  # most likely tokens kept; 0 keeps all
    n: int = 1  # rollouts per prompt; trainer.batch is a multiple of it
    max_new_tokens: int = 4096  # length limit of a completion
    batch: int = 32  # hf: rows generated at once
    url: str = "http://localhost:8000/v1"  # openai, vllm: the server's address
    model: str | None = None  # openai, vllm: the model, as the server calls it; null: as model.path does
    key_env: str | None = None  # openai, vllm: the environment variable that holds the server's key, if any
    concurrency: int = 32  # openai, vllm: requests that are open at a time
    timeout: float = 600.0  # openai, vllm: seconds for one request
    patience: float = 1800.0  # openai, vllm: seconds for one completion, with its retries and their waits
    prefill: str = "auto"  # openai: continue the pre-filled turn, where the server can (auto), always or none

    def __post_init__(self) -> None:
        check_choice("rollout.name", self.name)
        check_choice("rollout.prefill", self.prefill)
        check_positive(rollout__temperature=self.temperature, rollout__top_p=self.top_p)
        check_share(rollout__top_p=self.top_p)
        check_at_least(0, rollout__top_k=self.top_k)
        check_at_least(1, rollout__n=self.n, rollout__batch=self.batch)
        check_at_least(1, rollout__max_new_tokens=self.max_new_tokens, rollout__concurrency=self.concurrency)
        check_positive(rollout__timeout=self.timeout, rollout__patience=self.patience)
        if self.name != "hf":
            check_server("rollout", self.url, self.key_env)

    def needs_tokens(self, command: str) -> None:
        """A command that learns from tokens, or looks at them, cannot use an engine that gives text alone."""
        if self.name == "openai":
            raise ConfigError(
                f"rollout=openai: vigos {command} needs token ids, which such a server does not give; "
                "rollout=hf samples in process, rollout=vllm over HTTP"
            )
