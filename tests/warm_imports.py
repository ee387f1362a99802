"""What the server of warm.py imports: everything that a run of the tiny model uses."""

from vigos_cli.utils.quiet import quieten

quieten()

# ruff: noqa: E402, F401
import threading

import figures  # before a module imports what this replaces
import hydra.main
import matplotlib.pyplot
import peft.tuners.lora.bnb
import transformers.models.qwen2_vl.image_processing_qwen2_vl
import transformers.models.qwen2_vl.modeling_qwen2_vl
import transformers.models.qwen2_vl.processing_qwen2_vl
import transformers.models.qwen2_vl.video_processing_qwen2_vl
from hydra.core.plugins import Plugins

import vigos_cli.ablation.sweep
import vigos_cli.cli.commands.ablate
import vigos_cli.cli.commands.distill
import vigos_cli.cli.commands.eval
import vigos_cli.cli.commands.rollout
import vigos_cli.cli.launch
import vigos_cli.evaluation.evaluate
import vigos_cli.training.distill
from vigos_cli.cli.app import app

Plugins.instance()  # imports the launchers
assert threading.active_count() == 1, "a fork has only the thread that forks"
