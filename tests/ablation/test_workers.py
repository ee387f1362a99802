"""How many cells run at the same time, on machines of many kinds. Cores, memory and cards are made up."""

import pytest
import torch
from sweeps import cell

from vigos_cli.ablation import workers
from vigos_cli.ablation.workers import choose_workers
from vigos_cli.utils import machine
from vigos_cli.utils.errors import ConfigError

GIB = 2**30


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    """A machine with 8 cores, 64 GiB and no card; nothing is set in the environment."""
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    has(monkeypatch, cores=8, memory=64 * GIB, cards=0)


def has(monkeypatch, cores=8, memory: int | None = 64 * GIB, cards=0):
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    monkeypatch.setattr(workers, "free_memory", lambda: memory)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)


def chosen(*overrides: str, launcher: str = "basic"):
    run = cell(*overrides).config
    return choose_workers(run, launcher, [run] * 3)


def test_small_models_get_a_process_for_each_core():
    assert chosen() == [{"OMP_NUM_THREADS": "1"}] * 8


@pytest.mark.parametrize(("gib", "expected"), [(64.0, 8), (8.0, 5), (4.6, 3), (2.0, 0), (0.0, 0)])
def test_the_memory_bounds_the_number_of_processes(gib, expected, monkeypatch):
    has(monkeypatch, memory=int(gib * GIB))
    assert len(chosen()) == expected


def test_cores_that_are_left_over_become_threads(monkeypatch):
    assert chosen("workers=3") == [{"OMP_NUM_THREADS": "2"}] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert chosen("workers=3") == [{"OMP_NUM_THREADS": "1"}] * 3


def test_one_core_runs_one_cell_after_another(monkeypatch):
    has(monkeypatch, cores=1)
    assert chosen() == [] and len(chosen("workers=2")) == 2


def test_one_card_runs_one_cell_after_another(monkeypatch):
    has(monkeypatch, cards=1)
    assert chosen() == [] and len(chosen("model.device=cpu")) == 8
    assert chosen("workers=2") == [{"OMP_NUM_THREADS": "4"}] * 2


def test_several_cards_run_a_cell_each(monkeypatch):
    has(monkeypatch, cards=2)
    expected = [{"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": card} for card in "01"]
    assert chosen() == chosen("model=qwen2vl") == expected
    assert [one["CUDA_VISIBLE_DEVICES"] for one in chosen("workers=3")] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-3b")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in chosen()] == ["5", "GPU-3b"]
    assert chosen("model.device=cuda:1") == []


def test_larger_models_and_servers_run_one_cell_after_another():
    assert chosen("model=qwen2vl") == []
    assert chosen("rollout=vllm", "rollout.url=http://localhost:8000/v1") == []


def test_a_folder_with_a_small_model_counts_as_small(tmp_path):
    assert chosen(f"model.path={tmp_path}") == []
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    assert len(chosen(f"model.path={tmp_path}")) == 8
    with (tmp_path / "more.safetensors").open("wb") as file:
        file.truncate(workers.SMALL)
    assert chosen(f"model.path={tmp_path}") == []


def test_other_launchers_start_their_own_processes():
    assert chosen(launcher="joblib") == [] and chosen("workers=1", launcher="joblib") == []
    with pytest.raises(ConfigError, match="workers=2 and hydra/launcher=joblib"):
        chosen("workers=2", launcher="joblib")


def test_processes_of_one_run_share_each_cell(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert chosen() == []
    with pytest.raises(ConfigError, match="workers=2: with torchrun"):
        chosen("workers=2")


def test_less_than_one_worker_is_refused():
    with pytest.raises(ConfigError, match="workers=0: must be at least 1"):
        cell("workers=0")


def test_a_container_may_have_less_than_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 200000000 kB\nMemAvailable:   104857600 kB\n")
    assert (machine.usable_cores(), machine.free_memory()) == (64, 100 * GIB)
    for name, text in {
        "cpu.max": "250000 100000\n",
        "memory.max": f"{8 * GIB}\n",
        "memory.current": f"{6 * GIB}\n",
        "memory.stat": f"anon 1\ninactive_file {GIB}\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert (machine.usable_cores(), machine.free_memory()) == (2, 3 * GIB)
    for name in ("cpu.max", "memory.max"):
        (tmp_path / name).write_text("max 100000\n" if name == "cpu.max" else "max\n")
    assert (machine.usable_cores(), machine.free_memory()) == (64, 100 * GIB)
