"""If memory runs out, one line names the phase and the keys to change for resuming."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest
import torch
from conftest import distill_config
from runs import ENVIRONMENT, RUN

from vigos_cli.analysis import rollout_run
from vigos_cli.cli.mistakes import keys
from vigos_cli.config.compose import job
from vigos_cli.config.provenance import CHANGES, claim
from vigos_cli.config.schema import SAME_BYTES, SAME_UP_TO_ROUNDING, AnyRun, on_resume
from vigos_cli.evaluation import asker
from vigos_cli.method.loss_chunk import FEWEST
from vigos_cli.models.out_of_memory import OutOfMemory, advice, in_phase, with_advice
from vigos_cli.supervision import loss_calls
from vigos_cli.training import step
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.machine_errors import is_out_of_memory

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


# ---------------------------------------------------------------- classes of keys


def test_every_listed_name_is_a_key_or_a_group():
    groups = {name for name, kind in get_type_hints(AnyRun).items() if is_dataclass(kind)}
    assert {*SAME_BYTES, *SAME_UP_TO_ROUNDING} <= {*keys(AnyRun), *groups}
    assert not set(SAME_BYTES) & set(SAME_UP_TO_ROUNDING)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("tracking.name", "same bytes"),
        ("rollout.concurrency", "same bytes"),
        ("judge.timeout", "same bytes"),
        ("trainer.micro_batch", "same up to rounding"),
        ("trainer.micro_tokens", "same up to rounding"),
        ("bench.batch", "same up to rounding"),
        ("loss.chunk", "same up to rounding"),
        ("trainer.lr", "another run"),
        ("rollout.max_new_tokens", "another run"),
        ("bench.samples", "another run"),
        ("a.key.of.a.later.version", "another run"),
    ],
)
def test_the_class_of_a_key(key, expected):
    assert on_resume(key) == expected


def test_a_change_up_to_rounding_is_accepted_and_recorded(tmp_path, capsys):
    claim(tmp_path, distill_config(), step=0)
    (tmp_path / "before.json").write_text("{}")  # a result: without one the configuration is replaced
    smaller = distill_config("trainer.micro_batch=4", "tracking=wandb", "resume=auto")
    claim(tmp_path, smaller, step=12)
    said = capsys.readouterr().err
    assert "trainer.micro_batch=4 instead of 32" in said and said.count("\n") == 1
    claim(tmp_path, smaller, step=14)  # no new change
    claim(tmp_path, distill_config("tracking=wandb"), step=20)
    lines = [json.loads(line) for line in (tmp_path / CHANGES).read_text().splitlines()]
    assert [line["step"] for line in lines] == [12, 20]
    assert lines[0]["changed"]["trainer.micro_batch"] == [32, 4]
    assert lines[1]["changed"] == {"trainer.micro_batch": [4, 32]}
    with pytest.raises(ConfigError, match=r"trainer\.lr=0\.002, not 1"):
        claim(tmp_path, distill_config("trainer.lr=1", "trainer.micro_batch=2"))
    assert len((tmp_path / CHANGES).read_text().splitlines()) == 2


# ---------------------------------------------------------------- errors that mean out of memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CUDA, True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(2, "No such file"), False),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_errors_are_recognised(error, expected):
    assert is_out_of_memory(error) == expected


def test_an_allocation_that_is_too_large_is_recognised():
    with pytest.raises(OutOfMemory), in_phase("learn"):
        torch.empty(2**60, dtype=torch.uint8)


def test_the_innermost_phase_is_named_and_other_errors_pass():
    with pytest.raises(OutOfMemory) as found, in_phase("learn"), in_phase("loss"):
        raise CUDA
    assert found.value.phase == "loss"
    with pytest.raises(ZeroDivisionError), in_phase("learn"):
        _ = 1 / 0


# ---------------------------------------------------------------- advice that works


def followed(config: Any, phase: str) -> list[str]:
    """The overrides that the advice names for resuming the run."""
    text = advice(config, phase)
    assert "\n" not in text
    return re.findall(r"(?:trainer|rollout|bench|loss)\.\w+=\w+", text)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["distill", "rollout", "eval", "ablate"])
@pytest.mark.parametrize("phase", ["load", "rollout", "teachers", "learn", "loss", "evaluate"])
def test_every_suggested_key_may_change_on_resume_and_saves_memory(command, phase):
    given = ["out=runs/a", *(["+experiment=main"] if command == "ablate" else [])]
    config = job(command, given)
    for override in followed(config, phase):
        key, value = override.split("=")
        assert on_resume(key) == "same up to rounding"
        group, name = key.split(".")
        now = getattr(getattr(config, group), name)
        if now is None:
            assert key == "loss.chunk" and int(value) < FEWEST  # fewer than any chunk that is chosen
        else:
            assert (value == "true" and now is False) or int(value) < now, override
        job(command, [*given, override])
    assert ("resume=auto out=runs/a" in advice(config, phase)) == (
        bool(followed(config, phase)) and command != "ablate"
    )


@pytest.mark.slow
def test_the_first_suggested_key_is_that_of_the_phase():
    config = distill_config("trainer.micro_batch=8", "rollout.batch=16", "bench.batch=64")
    assert followed(config, "learn")[:2] == ["trainer.micro_batch=4", "trainer.gradient_checkpointing=true"]
    assert followed(config, "rollout") == ["rollout.batch=8"]
    assert followed(config, "evaluate") == ["bench.batch=32"]
    smallest = ("trainer.micro_batch=1", "trainer.gradient_checkpointing=true", "loss.chunk=8")
    said = advice(distill_config(*smallest), "learn")
    assert "start a new one" in said and "adapter=qlora" in said and "resume" not in said
    assert "qlora" not in advice(distill_config("adapter=qlora"), "load")


@pytest.mark.slow
def test_with_a_budget_of_tokens_the_budget_is_halved_until_each_long_row_is_alone():
    for phase in ("teachers", "learn", "loss"):
        assert followed(distill_config("trainer.micro_tokens=8192"), phase)[0] == "trainer.micro_tokens=4096"
        near = distill_config("trainer.micro_tokens=150", "rollout.max_new_tokens=96")
        assert followed(near, phase)[0] == "trainer.micro_tokens=96"
        alone = distill_config("trainer.micro_tokens=96", "rollout.max_new_tokens=96")
        assert not any("micro_" in override for override in followed(alone, phase))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "place", "phase", "key"),
    [
        ("distill", (loss_calls, "fused_loss"), "in the loss", "trainer.micro_batch=16"),
        ("distill", (step, "sample_rollouts"), "while rollouts were sampled", "rollout.batch=16"),
        ("rollout", (rollout_run, "score_tokens"), "while the teachers scored", "rollout.batch=4"),
        ("eval", (asker, "answer"), "while answers were sampled", "bench.batch=128"),
    ],
)
def test_each_command_ends_with_one_line(command, place, phase, key, tmp_path, monkeypatch):
    def too_large(*args: Any, **options: Any) -> Any:
        raise CUDA

    monkeypatch.setattr(*place, too_large)
    small = [] if command == "rollout" else ["bench.tasks.priorworld.rows=1", "bench.samples=0"]
    config = job(command, [f"out={tmp_path / 'run'}", "limit=2", *small])
    from importlib import import_module

    with pytest.raises(UserError) as found:
        import_module(f"vigos_cli.cli.commands.{command}").run(config)
    assert str(found.value).startswith(f"out of memory {phase}: repeat the command with resume=auto out=")
    assert key in str(found.value)


def test_other_errors_are_not_changed():
    with pytest.raises(ZeroDivisionError), with_advice(distill_config()):
        _ = 1 / 0
    assert {item.name for item in fields(AnyRun)} >= {"bench", "rollout", "trainer", "loss"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the test limits the address space with ulimit -v")
def test_memory_that_really_runs_out_ends_in_one_line(tmp_path):
    """The test limits the address space, and the micro-batch needs more than the limit."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "vigos_cli", *RUN, "bench.samples=0", f"out={out}"]
    huge = ["trainer.batch=256", "trainer.micro_batch=256", "trainer.steps=1", "loss.chunk=16384"]
    huge += ["rollout.batch=16"]
    shell = ["bash", "-c", f'ulimit -v {5 * 2**20}; exec "$@"', "-"]
    options: Any = {"env": {**ENVIRONMENT, "MALLOC_ARENA_MAX": "1"}, "capture_output": True, "text": True}
    failed = subprocess.run([*shell, *command, *huge], timeout=300, **options)
    assert failed.returncode == 1, failed.stderr
    assert os.path.exists(out / "config.json")
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("vigos: out of memory")]
    assert "trainer.micro_batch=128" in line and "Traceback" not in failed.stderr
