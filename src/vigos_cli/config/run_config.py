"""The whole configuration of each command."""

from __future__ import annotations

from dataclasses import dataclass, field

from vigos_cli.config.bench_judge import BenchConfig, JudgeConfig
from vigos_cli.config.checks import check_at_least, check_choice
from vigos_cli.config.data_prompt_rollout import DataConfig, PromptConfig, RolloutConfig
from vigos_cli.config.launched import world_size
from vigos_cli.config.loss_teacher import LossConfig, TeacherConfig
from vigos_cli.config.model_adapter import AdapterConfig, ModelConfig
from vigos_cli.config.routing_checks import (
    NO_TEACHER,
    check_description,
    check_routing,
    needs_siblings,
    why_no_palr,
)
from vigos_cli.config.routing_group import RoutingConfig
from vigos_cli.config.supervision_terms import WEIGHTS, rule_weight, supervision_rules
from vigos_cli.config.trainer_tracking import TrackingConfig, TrainerConfig
from vigos_cli.utils.errors import ConfigError


@dataclass
class RunConfig:
    """The keys that all commands share."""

    seed: int = 0  # seed of every random number of the run
    out: str = ""  # folder of the run
    resume: str = "never"  # never: `out` must be empty or new; auto: resume from the last checkpoint
    limit: int | None = None  # use only this many samples, the first ones; null: all
    model: ModelConfig = field(default_factory=ModelConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)

    def __post_init__(self) -> None:
        check_choice("resume", self.resume)
        check_at_least(0, seed=self.seed)
        check_at_least(1, limit=self.limit)
        check_routing(self.routing)
        if self.rollout.name == "vllm" and self.adapter.vision:
            raise ConfigError(
                "adapter.vision=true: vLLM applies an adapter to the language model only: use rollout=hf, or "
                "adapter.vision=false"
            )


@dataclass
class RolloutRun(RunConfig):
    """The configuration of `vigos rollout`."""

    loss: LossConfig = field(default_factory=LossConfig)
    rollouts: str | None = None  # rollout: folder of an earlier run, whose rollouts are scored again
    looking: bool = False  # rollout: also measure PALR and visual dependency; about twice the time on a CPU

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        self.rollout.needs_tokens("rollout")
        if self.looking and not self.rollout.teachers:
            raise ConfigError("looking=true measures the teachers: leave out rollout.teachers=false")
        _check_siblings(self)
        why = why_no_palr(self.routing)
        if self.looking and why and why not in NO_TEACHER:  # without a teacher: visual dependency alone
            raise ConfigError(f"looking=true measures PALR, which routing={self.routing.name} has not: {why}")


@dataclass
class EvalRun(RunConfig):
    """The configuration of `vigos eval`."""

    bench: BenchConfig = field(default_factory=BenchConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    ids: list[str] = field(default_factory=list)  # eval: ids of the items to use; empty: all
    responses: str | None = None  # eval: file of JSON lines (id, response) to grade; no model is loaded
    compare: list[str] = field(default_factory=list)  # eval: folders of two runs, or one to compare with
    diagnostic: str = "none"  # eval: replaces the picture: blind, blank, noise, swap, description_only

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        check_choice("diagnostic", self.diagnostic)
        if self.diagnostic != "none" and self.responses is not None:
            raise ConfigError(f"diagnostic={self.diagnostic} needs a model: leave out responses=")
        if self.diagnostic == "description_only" and self.routing.student.format != "structured":
            raise ConfigError(
                "diagnostic=description_only needs descriptions: set routing.student.format=structured"
            )
        if self.diagnostic == "description_only" and self.routing.student.writes == "caption":
            raise ConfigError("diagnostic=description_only does not work with routing.student.writes=caption")
        if self.rollout.name == "openai" and self.responses is None:
            if self.diagnostic == "description_only":
                raise ConfigError(
                    "diagnostic=description_only needs token ids: use rollout=hf or rollout=vllm"
                )
            if self.routing.student.writes == "caption":
                raise ConfigError(
                    "routing.student.writes=caption needs token ids: use rollout=hf or rollout=vllm"
                )


@dataclass
class DistillRun(RunConfig):
    """The configuration of `vigos distill`."""

    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    plan: bool = False  # only estimate the memory that the run needs on `card`
    card: str = "rtx4090"  # the GPU that `plan` compares with

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        check_choice("card", self.card)
        self.rollout.needs_tokens("distill")
        if not self.rollout.teachers:
            raise ConfigError("rollout.teachers is a key of vigos rollout: training needs its teachers")
        _check_whole_prompts(self.trainer.batch, self.rollout.n)
        _check_siblings(self)
        check_description(self.routing)
        _check_some_weight(self.loss, self.routing)
        if self.data.decontaminate and set(self.bench.tasks) <= {"priorworld"}:
            raise ConfigError(
                "data.decontaminate compares with the benchmarks of the run, and the items of priorworld are "
                "drawn: name another one with bench="
            )
        _check_shard(self)
        if self.rollout.name != "hf" and self.trainer.dry_run:
            raise ConfigError("trainer.dry_run measures rollouts in process: use rollout=hf")


@dataclass
class AblateRun(DistillRun):
    """The configuration of `vigos ablate`."""

    cells: str = "run"  # ablate: run (the missing cells), list (all, with times), report (the finished)
    label: str | None = None  # ablate: name of the arm in the report; an experiment's arms set it
    reference: str | None = None  # ablate: arm that the others are compared with; null: the first
    repeat_over: list[str] = field(default_factory=list)  # ablate: swept keys that repeat an arm, as seeds do
    reuse: list[str] = field(default_factory=list)  # ablate: sweeps whose finished cells are copied
    workers: int | None = None  # ablate: cells at a time; null: one a core (small models, CPU) or a GPU
    palr_rows: int = 0  # ablate: training rows for measuring each cell's PALR; 0: do not measure

    def __post_init__(self) -> None:
        DistillRun.__post_init__(self)
        check_choice("cells", self.cells)
        check_at_least(0, palr_rows=self.palr_rows)
        check_at_least(1, workers=self.workers)
        if self.plan or self.trainer.dry_run:
            raise ConfigError(
                "plan and trainer.dry_run are keys of vigos distill: use cells=list with vigos ablate"
            )
        if self.palr_rows and self.trainer.shard != "none" and world_size() > 1:
            raise ConfigError("palr_rows needs the whole model in one process: leave out trainer.shard")


@dataclass
class MergeRun(RunConfig):
    """The configuration of `vigos merge`."""


@dataclass
class AnyRun(EvalRun, AblateRun, RolloutRun):
    """Every key of every command. Hydra checks against this class, so a model's file fits all commands."""


def _check_whole_prompts(batch: int, n: int) -> None:
    """Raise a ConfigError unless a step has a whole number of prompts, with `n` rollouts each."""
    if n > batch:
        raise ConfigError(
            f"rollout.n={n} (rollouts per prompt) is larger than trainer.batch={batch} (rollouts per step): "
            f"set trainer.batch={n} or a multiple of it"
        )
    if batch % n:
        raise ConfigError(
            f"trainer.batch={batch} (rollouts per step) is not a multiple of rollout.n={n} (rollouts per "
            f"prompt): set trainer.batch={batch // n * n} or {(batch // n + 1) * n}"
        )


def _check_shard(config: DistillRun) -> None:
    """Raise a ConfigError for what a model that is split among processes cannot do."""
    if config.trainer.shard == "none":
        return
    if config.adapter.quantise != "none":
        raise ConfigError(
            f"trainer.shard={config.trainer.shard} cannot split 4-bit weights: use adapter=lora"
        )
    if world_size() == 1:
        return
    if config.trainer.dry_run:
        raise ConfigError(
            f"trainer.dry_run samples in process, which trainer.shard={config.trainer.shard} cannot: "
            "plan=true estimates the memory"
        )
    if config.rollout.name == "hf":
        raise ConfigError(
            f"trainer.shard={config.trainer.shard} cannot sample in process, because each new token would "
            "send all weights between the processes: use rollout=vllm"
        )


def _check_siblings(config: RolloutRun | DistillRun) -> None:
    """Raise a ConfigError if a teacher is told another rollout of the prompt and there is only one."""
    if needs_siblings(config.routing) and config.rollout.n == 1:
        raise ConfigError(
            f"routing={config.routing.name} compares the rollouts of one prompt, and there is one: "
            "set rollout.n=8"
        )


def _check_some_weight(loss: LossConfig, routing: RoutingConfig) -> None:
    """Raise a ConfigError if every rule of the routing has the weight zero."""
    rules = supervision_rules(routing)
    if rules and not any(rule_weight(rule, loss) for rule in rules):
        of_loss = {f"loss.{WEIGHTS[rule.part]}" for rule in rules if rule.weight is None}
        stated = {rule.key("weight") for rule in rules if rule.weight is not None}
        weights = ", ".join(sorted(of_loss | stated))
        raise ConfigError(f"{weights} are all 0, so nothing would be learned: increase one")


COMMANDS: dict[str, type[RunConfig]] = {
    "rollout": RolloutRun,
    "distill": DistillRun,
    "eval": EvalRun,
    "ablate": AblateRun,
    "merge": MergeRun,
}
