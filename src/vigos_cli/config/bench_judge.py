"""The groups `bench` and `judge`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vigos_cli.config.checks import check_at_least, check_choice, check_positive, check_server, check_share
from vigos_cli.utils.errors import ConfigError


@dataclass
class BenchTask:
    """The settings of one benchmark."""

    path: str | None = None  # a file or folder with the benchmark's columns; null: from the hub
    hub: str | None = None  # id of the data set on the Hugging Face hub; null where there is none
    config: str | None = None  # config of the hub data set; several are joined by + and read in that order
    split: str | None = None  # split, several joined by +; null: train; priorworld: heldout or validation
    revision: str | None = None  # commit or tag on the hub; null: the newest, recorded in scores.json
    licence: str | None = None  # licence of the data as its card states it; null: not known
    limit: int | None = None  # use only this many items, the first ones; null: the run's `limit`
    rows: int = 60  # priorworld: questions, each with three pictures; holdout: rows held back
    seed: int = 0  # priorworld: seed of the pictures

    def __post_init__(self) -> None:
        check_at_least(1, rows=self.rows, limit=self.limit)


@dataclass
class BenchConfig:
    """The benchmarks, and how answers are sampled."""

    tasks: dict[str, BenchTask] = field(default_factory=dict)  # name of a benchmark -> its settings
    path: str | None = None  # with one benchmark: a file or folder with its columns
    scorer: str = "ours"  # ours, or official: the benchmark's own rule, where it differs from ours
    samples: int = 5  # number of sampled answers per item, in addition to the greedy answer
    temperature: float = 1.0  # sampling temperature
    top_p: float = 0.9  # nucleus sampling; 1 keeps all tokens
    top_k: int = 20  # number of most probable tokens kept; 0 keeps all
    max_new_tokens: int = 4096  # greatest number of sampled tokens
    batch: int = 32  # number of rows generated at once
    seed: int = 42  # seed of the sampled answers
    share: float = 0.1  # holdout: largest share of a training run, which may lower its rows; 1: no limit

    def __post_init__(self) -> None:
        check_choice("bench.scorer", self.scorer)
        check_at_least(0, bench__samples=self.samples, bench__top_k=self.top_k)
        check_positive(bench__temperature=self.temperature, bench__top_p=self.top_p, bench__share=self.share)
        check_share(bench__top_p=self.top_p, bench__share=self.share)
        check_at_least(1, bench__max_new_tokens=self.max_new_tokens, bench__batch=self.batch)


@dataclass
class JudgeConfig:
    """A language model that grades answers in addition to the rules, whose verdicts do not change."""

    name: str = "none"  # none, or openai: any server with OpenAI's chat completions
    url: str = "https://api.openai.com/v1"  # address of the server, without /chat/completions
    model: str = ""  # the server's name for the judge model
    key_env: str | None = "OPENAI_API_KEY"  # environment variable with the key; null: send no key
    options: dict[str, Any] = field(default_factory=dict)  # more fields of the request: temperature, ...
    concurrency: int = 8  # number of requests at the same time
    timeout: float = 60.0  # seconds until a request is given up
    patience: float = 180.0  # seconds for one verdict, retries and waits included

    def __post_init__(self) -> None:
        check_choice("judge.name", self.name)
        check_at_least(1, judge__concurrency=self.concurrency)
        check_positive(judge__timeout=self.timeout, judge__patience=self.patience)
        if self.name == "none":
            return
        if not self.model:
            raise ConfigError("judge.model is missing: set it to the server's name for the judge model")
        check_server("judge", self.url, self.key_env)
