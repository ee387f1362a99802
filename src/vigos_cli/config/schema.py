"""Every key of the configuration, as plain dataclasses; nothing below this file reads a DictConfig.

One dataclass a Hydra group, one root a command. The comment after a field is its entry in the config
reference (`conf/README.md` is generated from this file). Values live in `conf/<group>/<option>.yaml`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from vigos_cli.utils.errors import ConfigError, nearest

KINDS = ("description", "reasoning", "answer", "delimiters", "end", "invalid")  # rows of a routing table
CELLS = ("none", "perception", "reasoning", "reference", "privileged", "target")  # its cells
CARDS = {  # GiB
    "t4": 16,
    "rtx4080": 16,
    "rtx3090": 24,
    "rtx4090": 24,
    "a10": 24,
    "l4": 24,
    "rtx5090": 32,
    "a6000": 48,
    "l40s": 48,
    "a100_40": 40,
    "a100_80": 80,
    "h100": 80,
    "h200": 141,
}
CHOICES: dict[str, tuple[str, ...]] = {
    "model.dtype": ("auto", "float32", "bfloat16", "float16"),
    "adapter.quantise": ("none", "nf4"),
    "routing.student": ("structured", "plain"),
    **{f"routing.{kind}": CELLS for kind in KINDS},
    "routing.spans": ("paper", "code"),
    "routing.reference_text": ("answer", "solution", "other_answer"),
    "routing.perception_image": ("own", "noise"),
    "routing.completion": ("student", "reference", "two_pass"),
    "loss.segment": ("forward_kl", "reverse_kl", "jsd", "skew_kl", "topk_kl", "sampled"),
    "loss.reference": ("forward_kl", "reverse_kl", "jsd", "skew_kl", "topk_kl", "sampled"),
    "loss.clip": ("none", "token", "entry", "scale"),
    "loss.tail": ("bucket", "renormalise"),
    "loss.reduction": ("term_tokens", "rollout"),
    "teacher.weights": ("base", "ema", "live"),
    "trainer.schedule": ("linear", "cosine", "constant"),
    "trainer.optimizer": ("adamw", "paged_adamw_8bit"),
    "rollout.name": ("hf", "openai", "vllm"),
    "rollout.prefill": ("auto", "continue", "none"),
    "bench.schema": ("own", "plain"),
    "bench.scorer": ("ours", "official"),
    "judge.name": ("none", "openai"),
    "tracking.name": ("jsonl", "wandb", "tensorboard"),
    "tracking.mode": ("online", "offline", "disabled"),
    "diagnostic": ("none", "blind", "blank", "noise", "swap", "description_only"),
    "resume": ("never", "auto"),
    "cells": ("run", "list", "report"),
    "card": tuple(CARDS),
}


# What a changed key means for a run that goes on (resume=auto). The name of a group stands for all its keys.
# A key that stands in neither list makes another run.
SAME_BYTES = (  # the adapter and every response stay the same, byte for byte
    *("out", "resume", "plan", "card", "tracking", "judge", "compare", "bench.scorer"),
    *("rollout.url", "rollout.key_env", "rollout.concurrency", "rollout.timeout", "rollout.patience"),
    *("trainer.checkpoint_every", "trainer.dry_run"),
    *("cells", "label", "reference", "reuse", "palr_rows"),  # of `vigos ablate`: about the sweep, not a cell
)
SAME_UP_TO_ROUNDING = (  # sums are taken in another order; with adapter.dropout other units are dropped
    *("trainer.micro_batch", "rollout.batch", "bench.batch", "loss.chunk", "trainer.gradient_checkpointing"),
)


def on_resume(key: str) -> str:
    """What a change of this dotted key means for a run that goes on.

    One of "same bytes", "same up to rounding" and "another run".
    """
    names = {key, key.split(".")[0]}
    if not names.isdisjoint(SAME_BYTES):
        return "same bytes"
    return "another run" if names.isdisjoint(SAME_UP_TO_ROUNDING) else "same up to rounding"


def may_change(key: str) -> bool:
    """Whether a run that goes on may have another value for this dotted key than it was started with."""
    return on_resume(key) != "another run"


def _choice(key: str, value: str) -> None:
    """A wrong choice is a ConfigError with the nearest right word."""
    if value not in CHOICES[key]:
        raise ConfigError(f"{key}={value}: {nearest(value, CHOICES[key])}one of {', '.join(CHOICES[key])}")


def _at_least(low: float, **values: float | None) -> None:
    """Numbers below `low` are a ConfigError; `__` in a name stands for the dot of its key."""
    for name, value in values.items():
        if value is not None and value < low:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must be at least {low:g}")


def _share(**values: float) -> None:
    """Numbers outside [0, 1] are a ConfigError."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must lie between 0 and 1")


def _positive(**values: float | None) -> None:
    """Numbers that are not above zero are a ConfigError."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name.replace('__', '.')}={value}: must be greater than 0")


def _whole_prompts(batch: int, n: int) -> None:
    """A ConfigError unless a step holds a whole number of prompts, one at least, of `n` rollouts each."""
    if n > batch:
        raise ConfigError(
            f"rollout.n={n} is larger than trainer.batch={batch}, the rollouts of a step, so a step would "
            f"hold no prompt: set trainer.batch={n} or a multiple of it"
        )
    if batch % n:
        raise ConfigError(
            f"trainer.batch={batch} is not a multiple of rollout.n={n}, the rollouts of a prompt, so a step "
            f"would hold only {batch // n * n}: set trainer.batch={batch // n * n} or {(batch // n + 1) * n}"
        )


def _some_weight(loss: LossConfig, routing: RoutingConfig) -> None:
    """A ConfigError where every teacher of the routing has the weight zero."""
    weights = ("description_weight", "reasoning_weight", "reference_weight")
    cells = [getattr(routing, kind) for kind in KINDS]
    roles = {role for cell in cells for role in (cell if isinstance(cell, list) else [cell])}
    if not any(getattr(loss, name) for name in weights) and roles.isdisjoint(("privileged", "target")):
        raise ConfigError(
            f"loss.{', loss.'.join(weights)} are all 0, so nothing is learned: raise one of them"
        )


def _server(group: str, url: str, key_env: str | None) -> None:
    """A server's address and the name of its key's variable, or a ConfigError that shows no key."""
    # What may be a key that was put in the wrong place is not shown again.
    if key_env is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", key_env):
        raise ConfigError(
            f"{group}.key_env is no environment variable's name, such as OPENAI_API_KEY: "
            "name the variable that holds the key, never the key"
        )
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[@?#\s]", url):
        raise ConfigError(f"{group}.url must be http(s)://HOST[:PORT]/PATH, without user, key or query")


@dataclass
class ModelConfig:
    """Which vision-language model learns."""

    name: str = "tiny"  # the option's name, used in reports
    path: str = "builtin:tiny"  # a hub id, a folder with safetensors, or `builtin:tiny`
    revision: str | None = None  # hub commit or tag; the hub's default branch when null
    dtype: str = "auto"  # auto (bfloat16 on CUDA, float32 on the CPU), float32, bfloat16, float16
    attention: str = "sdpa"  # attn_implementation given to transformers
    device: str = "auto"  # auto (CUDA when there is one), cpu, cuda, cuda:1
    max_pixels: int | None = None  # larger images are scaled down to this many pixels
    min_pixels: int | None = None  # smaller images are scaled up to this many pixels
    max_prompt: int = 32768  # a prompt with more tokens is left out and counted

    def __post_init__(self) -> None:
        _choice("model.dtype", self.dtype)
        _positive(model__max_pixels=self.max_pixels, model__min_pixels=self.min_pixels)
        _at_least(1, model__max_prompt=self.max_prompt)
        if not self.path:
            raise ConfigError("model.path is missing: a hub id, a folder with safetensors, or builtin:tiny")


@dataclass
class AdapterConfig:
    """The LoRA weights that train; everything else is frozen."""

    name: str = "lora"  # the option's name, used in reports
    path: str | None = None  # start from (distill) or use (eval, rollout) this saved adapter
    r: int = 64  # rank
    alpha: int = 128  # LoRA alpha; the update is scaled by alpha / r
    dropout: float = 0.05  # dropout on the adapter's input while learning
    targets: list[str] = field(  # names of the linear layers that get an adapter
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    vision: bool = False  # also adapt layers of those names in the vision tower
    quantise: str = "none"  # none, or nf4: 4-bit base weights with double quantisation

    def __post_init__(self) -> None:
        _choice("adapter.quantise", self.quantise)
        _at_least(1, adapter__r=self.r, adapter__alpha=self.alpha)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"adapter.dropout={self.dropout}: must be at least 0 and below 1")
        if not self.targets:
            raise ConfigError("adapter.targets is empty: name at least one linear layer, such as q_proj")


@dataclass
class RoutingConfig:
    """The method: which teacher supervises which kind of token (a cell is a role, a list, or none)."""

    name: str = "vigos"  # the option's name, used in reports
    student: str = "structured"  # structured (describe, think, answer) or plain (think, answer)
    description: Any = "perception"  # teacher of the description's tokens
    reasoning: Any = "reasoning"  # teacher of the rationale's tokens
    answer: Any = "reasoning"  # teacher of the tokens inside the box
    delimiters: Any = "none"  # teacher of tags, `\boxed{` and `}`
    end: Any = "none"  # teacher of the end-of-turn token and of what follows the box
    invalid: Any = "reference"  # teacher of every token of a rollout whose format broke
    spans: str = "paper"  # paper: content tokens only; code: the wider spans of the authors' program
    reasoning_sees_description: bool = True  # the reasoning teacher's prefix holds the student's description
    perception_sees_prefill: bool = True  # the perception teacher's turn starts with the student's pre-fill
    reference_text: str = "answer"  # what the teachers are told: answer, solution, or other_answer (control)
    perception_image: str = "own"  # own, or noise (control): what the perception teacher sees
    completion: str = "student"  # student rollouts; reference (SFT); two_pass (caption pasted, no training)

    def __post_init__(self) -> None:
        for key in ("student", "spans", "reference_text", "perception_image", "completion"):
            _choice(f"routing.{key}", getattr(self, key))
        for kind in KINDS:
            cell = getattr(self, kind)
            for role in cell if isinstance(cell, list) else [cell]:
                _choice(f"routing.{kind}", role)


@dataclass
class LossConfig:
    """How far the student is from its teachers, and how tokens are weighed (eq. 18-21)."""

    name: str = "vigos"  # the option's name, used in reports
    segment: str = "forward_kl"  # divergence on tokens of the segment teachers
    reference: str = "reverse_kl"  # divergence on tokens of the reference teacher
    description_weight: float = 1.0  # weight of the description's term
    reasoning_weight: float = 1.0  # weight of the reasoning and answer term
    reference_weight: float = 2.0  # weight of the reference term
    clip: str = "token"  # none; token or entry: no gradient above clip_value; scale: held, gradient kept
    clip_value: float = 0.05  # nats a token (entry: nats a vocabulary entry); see zero_gradient_rate
    temperature: float = 1.0  # softens both distributions
    beta: float = 0.5  # jsd: weight of the teacher in the mixture
    alpha: float = 0.1  # skew_kl: weight of the teacher mixed into the student
    top_k: int = 64  # topk_kl: entries kept, by the teacher's probability
    tail: str = "bucket"  # topk_kl: the rest as one bucket, or renormalise the kept entries
    reduction: str = "term_tokens"  # one mean per term over the batch's tokens, or a mean per rollout
    chunk: int = 64  # token positions projected to the vocabulary at a time

    def __post_init__(self) -> None:
        for key in ("segment", "reference", "clip", "tail", "reduction"):
            _choice(f"loss.{key}", getattr(self, key))
        _at_least(
            0,
            loss__description_weight=self.description_weight,
            loss__reasoning_weight=self.reasoning_weight,
            loss__reference_weight=self.reference_weight,
        )
        _positive(loss__clip_value=self.clip_value, loss__temperature=self.temperature)
        _share(loss__beta=self.beta, loss__alpha=self.alpha)
        _at_least(1, loss__top_k=self.top_k, loss__chunk=self.chunk)


@dataclass
class TeacherConfig:
    """Whose weights the teachers use."""

    name: str = "base"  # the option's name, used in reports
    weights: str = "base"  # base (adapter off), ema (average of the adapter), live (the current adapter)
    ema_decay: float = 0.999  # ema: share of the old average kept each step

    def __post_init__(self) -> None:
        _choice("teacher.weights", self.weights)
        _share(teacher__ema_decay=self.ema_decay)


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
        _at_least(1, data__size=self.size)
        _share(data__conflict=self.conflict, data__wrong_reference=self.wrong_reference)
        if self.wrong_reference and self.name != "priorworld":
            raise ConfigError(f"data.wrong_reference: only priorworld can make them up, not {self.name}")
        if self.name in ("jsonl", "hub") and not self.path:
            raise ConfigError(f"data.path is missing: data={self.name} reads {_PATHS[self.name]}")


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
        _choice("rollout.name", self.name)
        _choice("rollout.prefill", self.prefill)
        _positive(rollout__temperature=self.temperature, rollout__top_p=self.top_p)
        _share(rollout__top_p=self.top_p)
        _at_least(0, rollout__top_k=self.top_k)
        _at_least(1, rollout__n=self.n, rollout__batch=self.batch)
        _at_least(1, rollout__max_new_tokens=self.max_new_tokens, rollout__concurrency=self.concurrency)
        _positive(rollout__timeout=self.timeout, rollout__patience=self.patience)
        if self.name != "hf":
            _server("rollout", self.url, self.key_env)

    def needs_tokens(self, command: str) -> None:
        """A command that learns from tokens, or looks at them, cannot use an engine that gives text alone."""
        if self.name == "openai":
            raise ConfigError(
                f"rollout=openai: vigos {command} needs token ids, which such a server does not give; "
                "rollout=hf samples in process, rollout=vllm over HTTP"
            )


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
class TrainerConfig:
    """One run of learning."""

    name: str = "default"  # the option's name, used in reports
    steps: int | None = None  # optimizer steps; null for one pass over the data, whole batches only
    batch: int = 32  # rollouts a step, over all processes; a multiple of rollout.n
    micro_batch: int = 1  # rows learned from at once; changes memory and speed, never the gradient
    lr: float = 5e-6  # peak learning rate
    schedule: str = "linear"  # linear, cosine (both to zero), constant
    warmup: int = 0  # steps of linear warm-up
    weight_decay: float = 0.0  # AdamW
    max_grad_norm: float = 0.1  # gradient clipping
    optimizer: str = "adamw"  # adamw, paged_adamw_8bit
    gradient_checkpointing: bool = True  # recompute activations in the backward pass to save memory
    checkpoint_every: int = 50  # steps between checkpoints; the last step always leaves one
    eval_every: int = 0  # steps between greedy evaluations; 0 for before and after only
    dry_run: bool = False  # one step at its largest instead of the run: its memory by phase, its time

    def __post_init__(self) -> None:
        _choice("trainer.schedule", self.schedule)
        _choice("trainer.optimizer", self.optimizer)
        _at_least(1, trainer__steps=self.steps, trainer__checkpoint_every=self.checkpoint_every)
        _at_least(1, trainer__batch=self.batch, trainer__micro_batch=self.micro_batch)
        _at_least(0, trainer__warmup=self.warmup, trainer__weight_decay=self.weight_decay)
        _at_least(0, trainer__eval_every=self.eval_every)
        _positive(trainer__lr=self.lr, trainer__max_grad_norm=self.max_grad_norm)


@dataclass
class BenchTask:
    """One benchmark of a run."""

    path: str | None = None  # a file or folder with the benchmark's columns, instead of the hub
    hub: str | None = None  # id of the data set on the Hugging Face hub; null where there is none
    config: str | None = None  # config of the hub data set; several are joined by + and read in that order
    split: str | None = None  # split, several joined by +; null: train; priorworld: heldout or validation
    revision: str | None = None  # hub commit or tag; null: the newest, which scores.json names
    licence: str | None = None  # licence of the data as its card states it; null: not known
    limit: int | None = None  # number of items, from the first; null: all, or the run's own `limit`
    rows: int = 60  # priorworld: question rows, three pictures each
    seed: int = 0  # priorworld: which rows

    def __post_init__(self) -> None:
        _at_least(1, rows=self.rows, limit=self.limit)


@dataclass
class BenchConfig:
    """What is measured, and how answers are sampled."""

    tasks: dict[str, BenchTask] = field(default_factory=dict)  # benchmark name -> its settings
    path: str | None = None  # the only benchmark's data: a file or folder with its columns
    schema: str = "own"  # own: the benchmark's columns; plain: problem, answer, images (re-packed copies)
    scorer: str = "ours"  # ours, or official: the benchmark's own rule where the two differ
    samples: int = 5  # answers sampled per item, besides the greedy one
    temperature: float = 1.0  # of those samples
    top_p: float = 0.9  # of those samples
    top_k: int = 20  # of those samples
    max_new_tokens: int = 4096  # length limit of an answer
    batch: int = 32  # rows generated at once
    seed: int = 42  # of those samples

    def __post_init__(self) -> None:
        _choice("bench.schema", self.schema)
        _choice("bench.scorer", self.scorer)
        _at_least(0, bench__samples=self.samples, bench__top_k=self.top_k)
        _positive(bench__temperature=self.temperature, bench__top_p=self.top_p)
        _share(bench__top_p=self.top_p)
        _at_least(1, bench__max_new_tokens=self.max_new_tokens, bench__batch=self.batch)


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
    cache: str | None = None  # verdicts that are known, shared by runs; null: judge.jsonl in the run's folder

    def __post_init__(self) -> None:
        _choice("judge.name", self.name)
        _at_least(1, judge__concurrency=self.concurrency)
        _positive(judge__timeout=self.timeout, judge__patience=self.patience)
        if self.name == "none":
            return
        if not self.model:
            raise ConfigError("judge.model is missing: the judge, as the server calls it")
        _server("judge", self.url, self.key_env)


@dataclass
class TrackingConfig:
    """Where metrics go besides metrics.jsonl."""

    name: str = "jsonl"  # jsonl alone, or wandb or tensorboard as well
    project: str = "vigos"  # wandb project
    mode: str = "offline"  # wandb: online, offline, disabled

    def __post_init__(self) -> None:
        _choice("tracking.name", self.name)
        _choice("tracking.mode", self.mode)


@dataclass
class RunConfig:
    """The keys every command shares."""

    seed: int = 0  # of every random draw of the run
    out: str = ""  # the run's folder
    resume: str = "never"  # never: a non-empty `out` is an error; auto: go on from the last checkpoint
    limit: int | None = None  # use only the first so many samples
    model: ModelConfig = field(default_factory=ModelConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)

    def __post_init__(self) -> None:
        _choice("resume", self.resume)
        _at_least(0, seed=self.seed)
        _at_least(1, limit=self.limit)


@dataclass
class RolloutRun(RunConfig):
    """`vigos rollout`."""

    rollouts: str | None = None  # rollout: score an earlier run's rollouts (its folder) under this routing
    looking: bool = False  # rollout: also PALR and visual dependency of each token; doubles the time on a CPU

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        self.rollout.needs_tokens("rollout")
        cells = [getattr(self.routing, kind) for kind in KINDS if kind != "invalid"]
        roles = {role for cell in cells for role in (cell if isinstance(cell, list) else [cell])}
        told = roles & {"reasoning", "reference", "privileged"}
        if self.looking and told and self.routing.reference_text == "solution":
            raise ConfigError(
                "looking=true: wrong answers are no solutions; set routing.reference_text=answer"
            )


@dataclass
class EvalRun(RunConfig):
    """`vigos eval`."""

    bench: BenchConfig = field(default_factory=BenchConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    ids: list[str] = field(default_factory=list)  # eval: only these items
    responses: str | None = None  # eval: grade these JSON lines of id and response; no model is asked
    compare: list[str] = field(default_factory=list)  # eval: two runs to compare, or one to compare with
    diagnostic: str = "none"  # eval: shown for a picture: blind, blank, noise, swap, description_only

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        _choice("diagnostic", self.diagnostic)
        if self.diagnostic != "none" and self.responses is not None:
            raise ConfigError(f"diagnostic={self.diagnostic} asks a model; responses= were answered before")
        if self.diagnostic == "description_only" and self.routing.student != "structured":
            raise ConfigError("diagnostic=description_only: only routing.student=structured describes")
        if self.diagnostic == "description_only" and self.routing.completion == "two_pass":
            raise ConfigError("diagnostic=description_only: routing.completion=two_pass puts another there")
        if self.rollout.name == "openai" and self.responses is None:
            if self.diagnostic == "description_only":
                raise ConfigError("diagnostic=description_only continues tokens: rollout=hf or rollout=vllm")
            if self.routing.completion == "two_pass":
                raise ConfigError("routing.completion=two_pass continues tokens: rollout=hf or rollout=vllm")


@dataclass
class DistillRun(RunConfig):
    """`vigos distill`."""

    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    plan: bool = False  # estimate the memory that the run would need on `card`, and stop
    card: str = "rtx4090"  # the GPU that `plan` asks about

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        _choice("card", self.card)
        self.rollout.needs_tokens("distill")
        _whole_prompts(self.trainer.batch, self.rollout.n)
        _some_weight(self.loss, self.routing)
        if self.rollout.name != "hf" and self.trainer.dry_run:
            raise ConfigError("trainer.dry_run measures rollouts in process: rollout=hf")


@dataclass
class AblateRun(DistillRun):
    """`vigos ablate`."""

    cells: str = "run"  # ablate: run those not done; list them with their time; report those that are done
    label: str | None = None  # ablate: the arm's name in the report (arms of an experiment bring theirs)
    reference: str | None = None  # ablate: the arm that the others are compared with; null for the first
    reuse: list[str] = field(default_factory=list)  # ablate: sweeps from which cells done there are copied
    palr_rows: int = 0  # ablate: training rows on which each cell's PALR is measured afterwards; 0: none

    def __post_init__(self) -> None:
        DistillRun.__post_init__(self)
        _choice("cells", self.cells)
        _at_least(0, palr_rows=self.palr_rows)
        if self.plan or self.trainer.dry_run:
            raise ConfigError("plan and trainer.dry_run are for vigos distill; ablate has cells=list")


@dataclass
class MergeRun(RunConfig):
    """`vigos merge`."""


@dataclass
class AnyRun(EvalRun, AblateRun, RolloutRun):
    """Every key of every command: what Hydra is told of, so that a model's recipe fits all of them."""


COMMANDS: dict[str, type[RunConfig]] = {
    "rollout": RolloutRun,
    "distill": DistillRun,
    "eval": EvalRun,
    "ablate": AblateRun,
    "merge": MergeRun,
}
