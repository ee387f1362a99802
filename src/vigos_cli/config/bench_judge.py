"""The groups `bench` and `judge`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_server, check_share
from vigos_cli.utils.errors import ConfigError


@dataclass
class BenchTask:
    """One benchmark of a run."""

    path: str | None = None  # a file or folder with the benchmark's columns, instead of the hub
    split: str | None = None  # the benchmark's own when null; priorworld: heldout or validation
    revision: str | None = None  # hub commit or tag; when null the newest, which scores.json names
    limit: int | None = None  # the first so many items; null: all, or as many as the run's own `limit`
    rows: int = 60  # priorworld: question rows, three pictures each
    seed: int = 0  # priorworld: which rows

    def __post_init__(self) -> None:
        check_at_least(1, rows=self.rows, limit=self.limit)


@dataclass
class BenchConfig:
    """What is measured, and how answers are sampled."""

    tasks: dict[str, BenchTask] = field(default_factory=dict)  # benchmark name -> its settings
    path: str | None = None  # the only benchmark's data: a file or folder with its columns
    scorer: str = "ours"  # ours, or official: the benchmark's own rule where the two differ
    samples: int = 5  # answers sampled per item, besides the greedy one
    temperature: float = 1.0  # of those samples
    top_p: float = 0.9  # of those samples
    top_k: int = 20  # of those samples
    max_new_tokens: int = 4096  # length limit of an answer
    batch: int = 32  # rows generated at once
    seed: int = 42  # of those samples

    def __post_init__(self) -> None:
        check_choice("bench.scorer", self.scorer)
        check_at_least(0, bench__samples=self.samples, bench__top_k=self.top_k)
        check_positive(bench__temperature=self.temperature, bench__top_p=self.top_p)
        check_share(bench__top_p=self.top_p)
        check_at_least(1, bench__max_new_tokens=self.max_new_tokens, bench__batch=self.batch)


@dataclass
class JudgeConfig:
    """A language model that grades answers beside the rules; their verdicts stay as they are."""

    name: str = "none"  # none, or openai: any server that speaks OpenAI's chat completions
    url: str = "https://api.openai.com/v1"  # the server's address, without /chat/completions
    model: str = ""  # the judge, as the server calls it
    key_env: str | None = "OPENAI_API_KEY"  # the environment variable that holds the key; null: send none
    options: dict[str, Any] = field(default_factory=dict)  # sent along: temperature, max_tokens, ...
    concurrency: int = 8  # questions that are open at a time
    timeout: float = 60.0  # seconds for one request
    patience: float = 180.0  # seconds for one verdict, with its retries and the waits between them

    def __post_init__(self) -> None:
        check_choice("judge.name", self.name)
        check_at_least(1, judge__concurrency=self.concurrency)
        check_positive(judge__timeout=self.timeout, judge__patience=self.patience)
        if self.name == "none":
            return
        if not self.model:
            raise ConfigError("judge.model is missing: the judge, as the server calls it")
        check_server("judge", self.url, self.key_env)
