"""Libraries print no messages on which a user cannot act; the cases share one new interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # a new interpreter

# The evaluation comes first: nobody has called `quieten` before it, and it imports the libraries.
SCRIPT = """
import logging, sys
logging.basicConfig()

def end_of_part():
    print("=" * 9, file=sys.stderr, flush=True)

from vigos_cli.config.compose import job
from vigos_cli.evaluation.evaluate import evaluate
evaluate(job("eval", ["limit=1", "bench=priorworld", "bench.max_new_tokens=12", f"out={sys.argv[1]}"]))
end_of_part()

from vigos_cli.utils.quiet import quieten
quieten()
quieten()
import bitsandbytes.backends.cpu.ops  # asks for the package `kernels` where the CPU has AVX512-BF16
logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please ...", "no kernels")
logger.warning("another message: %s", "shown")
end_of_part()

from vigos_cli.models.student_loading import load_student
run = job("distill", ["out=unused", "trainer.gradient_checkpointing=true"])
student = load_student(run.model, run.adapter, seed=0)
student.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
assert student.base.is_gradient_checkpointing
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[str]:
    """What each part of the script prints on stderr."""
    command = [sys.executable, "-c", SCRIPT, tmp_path_factory.mktemp("quiet") / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr.split("=" * 9 + "\n")


def test_an_evaluation_prints_its_progress_and_nothing_else(parts):
    assert "priorworld" in parts[0] and "kernels" not in parts[0] and "WARNING" not in parts[0]


def test_only_the_warning_about_the_package_kernels_is_silenced(parts):
    assert parts[1] == "WARNING:bitsandbytes.backends.cpu.ops:another message: shown\n"


def test_deprecations_inside_transformers_are_silenced(parts):
    assert parts[2] == "" and len(parts) == 3
