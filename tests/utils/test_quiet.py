"""Libraries print no messages on which a user cannot act; each case runs in a new interpreter."""

import subprocess
import sys

IMPORT_BITSANDBYTES = """
import logging
logging.basicConfig()
from vigos_cli.utils.quiet import quieten
quieten()
quieten()
import bitsandbytes.backends.cpu.ops  # asks for the package `kernels` where the CPU has AVX512-BF16
logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please ...", "no kernels")
logger.warning("another message: %s", "shown")
"""

CHECKPOINT_ACTIVATIONS = """
from vigos_cli.utils.quiet import quieten
quieten()
from vigos_cli.config.compose import job
from vigos_cli.models.student_loading import load_student
run = job("distill", ["out=unused", "trainer.gradient_checkpointing=true"])
student = load_student(run.model, run.adapter, seed=0)
student.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
assert student.base.is_gradient_checkpointing
"""


def stderr(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stderr


EVALUATE = """
import logging, sys
logging.basicConfig()
from vigos_cli.config.compose import job
from vigos_cli.evaluation.evaluate import evaluate
evaluate(job("eval", ["limit=1", "bench=priorworld", f"out={sys.argv[1]}"]))
"""


def test_an_evaluation_prints_its_progress_and_nothing_else(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, tmp_path / "run"], capture_output=True, text=True, check=True
    )
    assert "kernels" not in done.stderr and "WARNING" not in done.stderr


def test_only_the_warning_about_the_package_kernels_is_silenced():
    assert stderr(IMPORT_BITSANDBYTES) == "WARNING:bitsandbytes.backends.cpu.ops:another message: shown\n"


def test_deprecations_inside_transformers_are_silenced():
    assert stderr(CHECKPOINT_ACTIVATIONS) == ""
