"""All names of the configuration, to import from one place.

There is one dataclass for each group of `conf/`, and one for the whole configuration of each command. The
modules are named after their groups. The comment after a field is the text of its key in `conf/README.md`,
which `vigos_cli.cli.explain` generates. Values are in `conf/<group>/<option>.yaml`. The code outside
`vigos_cli.cli` reads these dataclasses and never a DictConfig.
"""

from vigos_cli.config.bench_judge import BenchConfig, BenchTask, JudgeConfig
from vigos_cli.config.choices import CARDS, CHOICES, WITHOUT_BFLOAT16
from vigos_cli.config.data_prompt_rollout import DataConfig, PromptConfig, RolloutConfig
from vigos_cli.config.loss_teacher import LossConfig, TeacherConfig
from vigos_cli.config.model_adapter import AdapterConfig, ModelConfig
from vigos_cli.config.resume_keys import SAME_BYTES, SAME_UP_TO_ROUNDING, may_change, on_resume
from vigos_cli.config.routing_group import (
    RoutingConfig,
    StudentContext,
    SuperviseConfig,
    SupervisedRollouts,
    TargetConfig,
    TeacherContext,
)
from vigos_cli.config.run_config import (
    COMMANDS,
    AblateRun,
    AnyRun,
    DistillRun,
    EvalRun,
    MergeRun,
    RolloutRun,
    RunConfig,
)
from vigos_cli.config.trainer_tracking import TrackingConfig, TrainerConfig

__all__ = [
    "CARDS",
    "CHOICES",
    "COMMANDS",
    "SAME_BYTES",
    "SAME_UP_TO_ROUNDING",
    "WITHOUT_BFLOAT16",
    "AblateRun",
    "AdapterConfig",
    "AnyRun",
    "BenchConfig",
    "BenchTask",
    "DataConfig",
    "DistillRun",
    "EvalRun",
    "JudgeConfig",
    "LossConfig",
    "MergeRun",
    "ModelConfig",
    "PromptConfig",
    "RolloutConfig",
    "RolloutRun",
    "RoutingConfig",
    "RunConfig",
    "StudentContext",
    "SuperviseConfig",
    "SupervisedRollouts",
    "TargetConfig",
    "TeacherConfig",
    "TeacherContext",
    "TrackingConfig",
    "TrainerConfig",
    "may_change",
    "on_resume",
]
