"""The whole configuration of each command."""

from __future__ import annotations

from dataclasses import dataclass, field

from vigos_cli.config.bench_judge import BenchConfig, JudgeConfig
from vigos_cli.config.checks import check_at_least, check_choice
from vigos_cli.config.choices import KINDS
from vigos_cli.config.data_prompt_rollout import DataConfig, PromptConfig, RolloutConfig
from vigos_cli.config.model_adapter import AdapterConfig, ModelConfig
from vigos_cli.config.routing_loss_teacher import LossConfig, RoutingConfig, TeacherConfig
from vigos_cli.config.trainer_tracking import TrackingConfig, TrainerConfig
from vigos_cli.utils.errors import ConfigError


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
        check_choice("resume", self.resume)
        check_at_least(0, seed=self.seed)
        check_at_least(1, limit=self.limit)


@dataclass
class RolloutRun(RunConfig):
    """`vigos rollout`."""

    rollouts: str | None = None  # rollout: score an earlier run's rollouts (its folder) under this routing
    looking: bool = False  # rollout: also PALR and visual dependency of each token; doubles the time on a CPU

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        self.rollout.needs_tokens("rollout")
        told = self.routing.roles(*(kind for kind in KINDS if kind != "invalid"))
        told &= {"reasoning", "reference", "privileged"}
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
        check_choice("diagnostic", self.diagnostic)
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
        check_choice("card", self.card)
        self.rollout.needs_tokens("distill")
        _check_whole_prompts(self.trainer.batch, self.rollout.n)
        _check_some_weight(self.loss, self.routing)
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
        check_choice("cells", self.cells)
        check_at_least(0, palr_rows=self.palr_rows)
        if self.plan or self.trainer.dry_run:
            raise ConfigError("plan and trainer.dry_run are for vigos distill; ablate has cells=list")


@dataclass
class MergeRun(RunConfig):
    """`vigos merge`."""


@dataclass
class AnyRun(EvalRun, AblateRun, RolloutRun):
    """Every key of every command: what Hydra is told of, so that a model's recipe fits all of them."""


def _check_whole_prompts(batch: int, n: int) -> None:
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


def _check_some_weight(loss: LossConfig, routing: RoutingConfig) -> None:
    """A ConfigError where every teacher of the routing has the weight zero."""
    weights = ("description_weight", "reasoning_weight", "reference_weight")
    other_roles = routing.roles(*KINDS) & {"privileged", "target"}  # no weight applies to these
    if not any(getattr(loss, name) for name in weights) and not other_roles:
        raise ConfigError(
            f"loss.{', loss.'.join(weights)} are all 0, so nothing is learned: raise one of them"
        )


COMMANDS: dict[str, type[RunConfig]] = {
    "rollout": RolloutRun,
    "distill": DistillRun,
    "eval": EvalRun,
    "ablate": AblateRun,
    "merge": MergeRun,
}
