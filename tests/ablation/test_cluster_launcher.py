"""Sweeps as jobs of a cluster, with the launcher of submitit: what is sent to Slurm, and what a job does."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ENVIRONMENT, RUN

from vigos_cli.cli import mistakes
from vigos_cli.cli.launch import Flags, launch
from vigos_cli.training.loop import interruptible

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
SBATCH = """#!/bin/sh
cp "$1" "{kept}"
echo "sbatch: error: no partition is free" >&2
exit 1
"""


@pytest.fixture
def script(tmp_path, monkeypatch) -> Path:
    """Where a program in the place of `sbatch` keeps the script that it gets, before it refuses it."""
    programs, kept = tmp_path / "bin", tmp_path / "script.sh"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH.format(kept=kept)), ("srun", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return kept


@pytest.mark.slow
def test_a_sweep_is_one_array_of_jobs(script, tmp_path, capsys):
    sweep = tmp_path / "sweep"
    asked = ["partition=gpu", "gpus_per_node=2", "tasks_per_node=2", "timeout_min=90", "signal_delay_s=60"]
    command = ["routing=vigos,opsd", "seed=2", "hydra/launcher=submitit_slurm", f"out={sweep}"]
    assert launch("ablate", [*command, *(f"hydra.launcher.{one}" for one in asked)], Flags()) == 1
    assert "vigos: hydra/launcher: sbatch: error: no partition is free\n" in capsys.readouterr().err

    lines = script.read_text().splitlines()
    options = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert {"array=0-1%2", "partition=gpu", "gpus-per-node=2", "ntasks-per-node=2", "time=90"} <= options
    assert {"signal=USR2@60", "job-name=ablate"} <= options
    run = next(line for line in lines if line.startswith("srun"))
    assert f"{sys.executable} -u -m submitit.core._submit {sweep}/.submitit/%j" in run

    jobs = [pickle.loads(file.read_bytes()) for file in (sweep / ".submitit").glob("*.pkl")]
    cells = {tuple(part for part in job.args[0] if part.startswith(("routing", "seed"))) for job in jobs}
    assert {tuple(sorted(cell)) for cell in cells} == {
        ("routing=opsd", "seed=2"),
        ("routing=vigos", "seed=2"),
    }
    assert {job.function.task_function.__module__ for job in jobs} == {"vigos_cli.cli.launch"}


@pytest.mark.slow
def test_the_tasks_of_a_job_are_the_processes_of_one_run(tmp_path):
    """`plan=true` is printed by the first process of a run only."""
    local = ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2"]
    asked = [*RUN, f"out={tmp_path / 'sweep'}", "-m", "plan=true", *local]
    command = [sys.executable, "-m", "vigos_cli", *asked]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, timeout=600)
    outputs = sorted((tmp_path / "sweep").glob(".submitit/*/*_log.out"))
    printed = ["GiB" in file.read_text() for file in outputs]
    assert printed == [True, False], [file.with_suffix(".err").read_text() for file in outputs]


def test_without_slurm_the_launcher_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["seed=1,2", "hydra/launcher=submitit_slurm", f"out={tmp_path / 'sweep'}"]
    assert launch("distill", command, Flags(multirun=True)) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("vigos: hydra/launcher: Could not detect") and errors.count("\n") == 1


def test_the_package_of_a_missing_launcher_is_named():
    said = mistakes._missing_option("hydra/launcher/submitit_slurm", ["basic", "joblib"])
    assert "pip install hydra-submitit-launcher" in said


def test_a_launcher_keeps_the_signal_that_it_handles_itself():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with interruptible() as interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not interrupted()
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupted()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_an_ignored_signal_is_not_the_launchers():
    """A shell ignores Ctrl-C for what a script starts with &."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible() as interrupted:
            signal.raise_signal(signal.SIGINT)
            assert interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
