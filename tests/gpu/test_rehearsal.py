"""The GPU checks on the CPU, with a twin of four layers: every line that a card runs, in small."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import warm
from gpu import check_gpu, machine, session, small_checks
from gpu.check_gpu import CHECKS, run_checks
from gpu.child import Watch
from gpu.gpu_report import EMPTY, MACHINE, OTHER, TABLES, Report
from gpu.random_model import write_model
from gpu.session import Checks, Failed, figures, tail
from gpu.sizes import TRUE, TWIN, model_settings
from packaging.requirements import Requirement

from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.planned_config import known_config
from vigos_cli.models.pretrained import empty_model


def child_of_the_checks(arguments: list[str]) -> None:
    """Code of a process that is `python -m gpu.child <arguments>`."""
    sys.argv = ["child", *arguments]
    runpy.run_module("gpu.child", run_name="__main__")


@pytest.fixture
def forked(monkeypatch):
    """Let the checks start their processes as forks (see warm.py), without ten seconds of imports each."""

    def run(command: list[str], *, cwd: Path, env: Any, stdout: Any, stderr: int, timeout: float) -> Any:
        assert command[:3] == [sys.executable, "-m", "gpu.child"] and stderr == subprocess.STDOUT
        log = Path(stdout.name)
        return warm.run(
            child_of_the_checks, command[3:], cwd=cwd, env=env, outputs=(log, log), timeout=timeout
        )

    known = {name: getattr(subprocess, name) for name in ("STDOUT", "TimeoutExpired")}
    monkeypatch.setattr(session, "subprocess", SimpleNamespace(run=run, **known))


@pytest.mark.slow
def test_the_rehearsal_passes_and_fills_every_field_of_the_report(tmp_path, forked):
    file = tmp_path / "gpu-report.md"
    report = run_checks(TWIN, file, tmp_path)
    assert [(one.name, one.error) for one in report.outcomes] == [(name, None) for name in CHECKS]
    assert report.missing() == []
    text = file.read_text()
    assert EMPTY not in text and f"{len(CHECKS)} of {len(CHECKS)} checks passed" in text
    assert [p.name for p in tmp_path.iterdir()] == [file.name], "models and runs are removed at the end"


# ---------------------------------------------------------------- the report


def test_the_report_names_every_empty_field():
    report = Report("twin")
    every = [(t, row, column) for t, (rows, columns) in TABLES.items() for row in rows for column in columns]
    assert len(report.missing()) == len(set(every)) == len(every) == report.markdown().count(EMPTY)
    for table, row, column in every:
        report.cells[table, row, column] = "1"
    assert report.missing() == [] and EMPTY not in report.markdown()
    report.put(OTHER, "parameters", value=" ")
    assert report.missing() == [f"{OTHER}: parameters: value"]


def test_a_failed_check_is_written_down_and_the_next_one_runs(tmp_path, monkeypatch):
    def memory(checks: Checks) -> None:
        raise Failed("exit code 1: vigos: out of memory while the student learned: repeat | it")

    def broken(checks: Checks) -> None:
        _ = {}["plan"]

    done = []
    own = {"dry run": memory, "resume": broken, "merge": done.append}
    monkeypatch.setattr(check_gpu, "CHECKS", own)
    report = run_checks(TWIN, tmp_path / "gpu-report.md", tmp_path)
    text = (tmp_path / "gpu-report.md").read_text()
    assert len(done) == 1 and len(report.failed) == 2 and "1 of 3 checks passed" in text
    assert (
        "| dry run | FAILED | 0 | exit code 1: vigos: out of memory while the student learned: repeat / it |"
        in text
    )
    assert "| resume | FAILED | 0 | KeyError: 'plan' |" in text and "| merge | passed | 0 | - |" in text


# ---------------------------------------------------------------- processes


@pytest.fixture
def checks(tmp_path) -> Checks:
    return Checks(TWIN, tmp_path, tmp_path / "gpu-report.md")


@pytest.mark.slow
def test_a_process_that_takes_too_long_is_stopped(tmp_path):
    checks = Checks(replace(TWIN, minutes=0.03), tmp_path, tmp_path / "gpu-report.md")
    with pytest.raises(Failed, match=r"it was stopped, because the 0\.03 minutes are over: no output"):
        checks.child(("machine", {"device": "cpu"}), name="prepare")
    with pytest.raises(Failed, match="not started"):
        checks.child(("machine", {"device": "cpu"}), name="prepare")


@pytest.mark.slow
def test_a_process_that_ends_early_keeps_what_it_found(checks, forked):
    """The process that is asked for a task that does not exist still does the others."""
    tasks = ("machine", {"device": "cpu"}), ("vigos", {"argv": ["rollout", "seed=x"]}), ("optimizer", {})
    found = checks.child(*tasks, name="several")
    assert figures(found, "machine")["device"].startswith("CPU")
    for task in ("vigos", "optimizer"):  # the second one ended the process
        with pytest.raises(Failed, match=r"exit code 2: vigos: seed=x"):
            figures(found, task)
    with pytest.raises(Failed, match="exit code 0: "):
        checks.child(name="alive", killed=True)


def test_the_last_message_of_vigos_says_what_went_wrong(tmp_path):
    log = tmp_path / "log"
    log.write_text("a\nvigos: resuming with b\nvigos: out of memory in the loss: c\nTraceback\nd\n")
    assert tail(log) == "vigos: out of memory in the loss: c"
    log.write_text("\na\nb\n\nc\nRuntimeError: CUDA error\n")
    assert tail(log) == "b / c / RuntimeError: CUDA error"
    log.write_text("")
    assert tail(log) == "no output"


def test_a_check_that_needs_an_adapter_says_that_there_is_none(checks):
    with pytest.raises(Failed, match="neither an adapter nor a checkpoint"):
        check_gpu.merging(checks)
    (checks.run / "checkpoints" / "step-000002").mkdir(parents=True)
    assert checks.adapter.endswith("step-000002")
    (checks.run / "adapter").mkdir()
    assert checks.adapter.endswith("run/adapter")


def test_a_folder_without_room_is_refused_before_anything_is_written(checks, monkeypatch):
    monkeypatch.setattr(check_gpu.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**8}))
    with pytest.raises(Failed, match=r"0\.1 GiB free, 0\.2 are needed: set TMPDIR"):
        check_gpu.prepare(checks)
    assert list(checks.folder.iterdir()) == []


# ---------------------------------------------------------------- checks that find what they look for


def test_weights_that_changed_between_two_processes_are_found(checks):
    with pytest.raises(Failed, match="hashes of no moment only"):
        check_gpu.frozen_weights(checks)
    checks.hashes = dict.fromkeys(("a", "b", "c"), "12ab")
    check_gpu.frozen_weights(checks)
    checks.hashes["b"] = "12ac"
    with pytest.raises(Failed, match="they differ"):
        check_gpu.frozen_weights(checks)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_an_optimizer_that_loses_its_state_is_found(tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    found = small_checks.resumed_optimizer(tmp_path / "a", cpu)
    assert found == {"largest_difference": 0, "moments": ["float32", "uint8"], "paged": 0}
    monkeypatch.setattr(small_checks, "load_checkpoint", lambda place, optimizer: None)
    assert small_checks.resumed_optimizer(tmp_path / "b", cpu)["largest_difference"] > 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", {"largest_difference": 1e-9, "moments": ["uint8"], "paged": 0}),
        ("optimizer", {"largest_difference": 0.0, "moments": ["float32"], "paged": 0}),
        ("gradients", {"losses": 0.01, "difference": 0.5}),
        ("gradients", {"losses": 0.5, "difference": 0.01}),
    ],
)
def test_small_checks_fail_beyond_their_limits(checks, name, value):
    side = {"loss": dict.fromkeys(check_gpu.TEACHERS, 1.0), "norm": 1.0, "dtype": "bfloat16"}
    right: dict[str, Any] = {
        "optimizer": {"largest_difference": 0.0, "moments": ["float32", "uint8"], "paged": 0},
        "gradients": {"here": side, "cpu": side, "cosine": 1.0, "losses": 0.01, "difference": 0.01},
    }
    function = {"optimizer": check_gpu.optimizer_state, "gradients": check_gpu.gradients}[name]
    found: dict[str, Any] = {task: {"figures": one} for task, one in right.items()}
    checks.small_checks = found
    function(checks)
    found[name]["figures"].update(value)
    with pytest.raises(Failed):
        function(checks)
    found[name] = {"error": "RuntimeError: CUDA error"}
    with pytest.raises(Failed, match="CUDA error"):
        function(checks)


# ---------------------------------------------------------------- the random model


def test_the_true_size_is_that_of_the_shipped_configuration():
    shipped: Any = known_config("Qwen/Qwen2-VL-2B-Instruct")
    numbers = [
        sum(p.numel() for p in empty_model(settings).parameters())
        for settings in (shipped, model_settings(TRUE))
    ]
    assert numbers[0] == numbers[1] == 2_208_985_600


def test_every_tensor_of_the_random_model_is_read_back(tmp_path):
    from transformers import AutoModelForImageTextToText

    count = write_model(TWIN, tmp_path, torch.device("cpu"))
    loaded: Any = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    model, told = loaded
    assert not any(told.values()) and model.dtype == torch.bfloat16
    assert sum(p.numel() for p in model.parameters()) == count
    index = json.loads(Path(tmp_path, "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2 * count
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([[10, 20, 30]])).last_hidden_state
    assert hidden.isfinite().all() and 0.5 < float(hidden.float().std()) < 2


# ---------------------------------------------------------------- what only a card has


def test_the_facts_of_a_card(monkeypatch):
    """Every call that the CPU does not make, with torch's functions replaced."""
    properties = SimpleNamespace(name="NVIDIA L4")
    for name, value in {
        "get_device_properties": properties,
        "device_count": 2,
        "get_device_capability": (8, 9),
        "mem_get_info": (20 * GIB, 22 * GIB),
        "memory_reserved": GIB,
        "max_memory_allocated": 3 * GIB,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(
        machine.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="580.65\n580.65\n")
    )
    facts = machine.describe(torch.device("cuda:0"))
    assert facts["device"] == "NVIDIA L4 (the first of 2 that are visible)" and facts["driver"] == "580.65"
    assert facts["compute capability"] == "8.9" and facts["memory"].startswith("22.0 GiB, 20.0 GiB free")
    assert facts.keys() == set(TABLES[MACHINE][0]) == machine.describe(torch.device("cpu")).keys()
    watch = Watch()
    student = SimpleNamespace(device=torch.device("cuda:0"), base=SimpleNamespace(dtype=torch.bfloat16))
    watch.learner = SimpleNamespace(student=student, peaks=None, seconds={})
    seen = watch.figures()
    assert (seen["context"], seen["peak"], seen["dtype"]) == (GIB, 3 * GIB, "bfloat16")


def test_a_driver_without_its_tool_is_named_as_far_as_it_is_known(monkeypatch, tmp_path):
    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(machine.subprocess, "run", missing)
    monkeypatch.setattr(machine, "KERNEL_MODULE", tmp_path / "version")
    assert machine._driver() == "unknown: no nvidia-smi"
    (tmp_path / "version").write_text("NVRM version: 580.65\nGCC version: 13\n")
    assert machine._driver() == "NVRM version: 580.65"


# ---------------------------------------------------------------- versions


def test_the_versions_that_were_tried_are_allowed_and_those_of_the_readme():
    root = Path(__file__).parents[2]
    lines = (root / "tests/gpu/constraints.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needed = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}
    assert {"torch", "torchvision", "transformers", "peft", "bitsandbytes"} <= tried.keys()
    assert [name for name, version in tried.items() if name in needed and version not in needed[name]] == []
    (said,) = re.findall(r"Tried with Python [\d.]+, (.*?), on a CPU", (root / "README.md").read_text(), re.S)
    named = dict(re.findall(r"(\w+) ([\d.]*\d)", said))
    assert len(named) == 4 and named.items() <= tried.items()
