"""Two processes that share one split model take the step of one process, although their passes differ."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from conftest import distill_config, with_effect
from loopback import FakeVllm
from runs import adapter
from safetensors.torch import load_file
from torch import distributed
from twins import save_twin

from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.engine import InProcess
from vigos_cli.generation.sampler import SamplingJob, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.supervision.batches import Batches
from vigos_cli.training.distill import distill
from vigos_cli.training.forced_turns import invalid_turn, valid_turn
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step
from vigos_cli.types import Rollout
from vigos_cli.utils import process_group

PATIENCE = 120  # seconds for one result on a busy machine; without idle passes the processes wait forever
INVALID = (1,)  # places in the batch of the invalid rollouts: only the second process has one
RUN = ("trainer.batch=5", "trainer.micro_batch=1", "trainer.max_grad_norm=1e9", "adapter.dropout=0")
QUANTILE = (
    "routing=vcsd",
    "trainer.micro_batch=2",
    "++routing.supervise.all.select={above_quantile: 0.7, of: [image, black]}",
)
WEIGHTS = (  # no teacher is the initial student: an average, the live one, and another checkpoint
    "teacher=ema",
    "routing.teachers.reasoning.weights=live",
    "routing.teachers.reasoning.sees=none",
    "routing.teachers.fallback.weights=FOLDER/qwen25vl",
)
CASES: dict[str, tuple[str, ...]] = {  # a step has 5 rollouts: 3 of the first process, 2 of the second
    "recomputed": ("trainer.gradient_checkpointing=true",),
    "weights": ("model.path=FOLDER/qwen25vl", *WEIGHTS),
    "lowest": ("routing=opsa", "trainer.micro_tokens=450"),  # two rows
    "quantile": QUANTILE,
    "bfloat16": ("model.path=FOLDER/qwen3vl", "model.dtype=bfloat16", "trainer.gradient_checkpointing=true"),
}
LEARN = (
    *("trainer.steps=2", "trainer.batch=3", "trainer.checkpoint_every=1", "trainer.lr=2e-3", "data.size=16"),
    *(
        "rollout.max_new_tokens=12",
        "bench.max_new_tokens=12",
        "bench.tasks.priorworld.rows=1",
        "bench.samples=0",
    ),
)
TWINS = ("qwen25vl", "qwen3vl")


class Written(InProcess):
    """An engine whose rollouts depend on their place in the batch of all processes alone."""

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        return [
            as_rollout(self.student, request, self.turn(i, opened=bool(request.prompt.prefill)))
            for i, request in enumerate(job.requests)
        ]

    def turn(self, i: int, *, opened: bool) -> tuple[int, ...]:
        place = process_group.rank() + i * process_group.size()
        make = invalid_turn if place in INVALID else valid_turn
        return make(self.student, 80 + place, structured=True, opened=opened)


def one_step(overrides: Sequence[str], *, sharded: bool) -> dict[str, Any]:
    """Gradient, adapter and report of a step, and the frozen weights before and after it."""
    config = distill_config(*RUN, *overrides)
    student = load_student(config.model, config.adapter, seed=config.seed, sharded=sharded)
    with_effect(student)
    frozen = student.frozen_hash()
    learner = make_learner(student, config)
    learner.engine = Written(student)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    line = train_step(learner, Batches(PriorWorld(size=64), prompter, config), prompter, config)
    flat = [torch.cat([tensor.flatten() for tensor in of]) for of in zip(*moved(student), strict=True)]
    return {
        "gradient": flat[0],
        "adapter": flat[1],
        "line": line,
        "frozen": [frozen, student.frozen_hash()],
        "held": sum(
            held(p) for n, p in student.net.named_parameters() if ".layers." in n and "lora" not in n
        ),
    }


def moved(student: Student) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(p.grad, p.detach()) for p in student.adapter.values() if p.grad is not None]


def held(parameter: Any) -> int:
    """The number of a weight's values that this process holds."""
    local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return local.numel()


def in_process(folder: str, url: str) -> None:
    """Code of each process: every case and run, one after another."""
    process_group.start(torch.device("cpu"))
    for name in CASES:
        result = one_step(placed(name, folder), sharded=True)
        torch.save(result, Path(folder, f"{name}-{process_group.rank()}.pt"))
    start_runs(Path(folder), url)
    distributed.destroy_process_group()


def placed(name: str, folder: Any) -> list[str]:
    return [override.replace("FOLDER", str(folder)) for override in CASES[name]]


@pytest.fixture(scope="module")
def served() -> Iterator[FakeVllm]:
    """A server in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        server = FakeVllm()
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, served):
    """A folder with the models, and the results of both processes."""
    folder = tmp_path_factory.mktemp("sharded")
    for name in TWINS:
        save_twin(name, folder / name)
    running = warm.start_both(in_process, str(folder), served.url)
    done, deadline = set[Path](), time.monotonic() + PATIENCE
    try:
        while any(process.poll() is None for process in running):
            time.sleep(0.1)
            assert not any(process.poll() for process in running), [one.printed(1) for one in running]
            found = {*folder.glob("*-0.pt"), *folder.glob("*/metrics.jsonl"), *folder.glob("*/summary.json")}
            if found != done:
                done, deadline = found, time.monotonic() + PATIENCE
            assert time.monotonic() < deadline, f"the processes wait for each other; done: {sorted(done)}"
    finally:
        for process in running:
            process.kill()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_with_a_split_model_take_the_step_of_one(name, folder):
    alone = one_step(placed(name, folder), sharded=False)
    both = [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert alone["gradient"].norm() > 0
    for one in both:
        for part in ("gradient", "adapter"):
            error = (one[part] - alone[part]).norm() / alone[part].norm()
            print(name, part, float(error), one["held"] / alone["held"])
            assert error < 1e-5, (part, error)
        assert one["frozen"] == alone["frozen"]
        assert one["line"]["loss"] == pytest.approx(alone["line"]["loss"], rel=1e-5)
        assert one["held"] < 0.51 * alone["held"]
    assert sum(one["held"] for one in both) == alone["held"]
    assert torch.equal(both[0]["adapter"], both[1]["adapter"])


# ---------------------------------------------------------------- whole runs, with the rollouts of a server


def start_runs(folder: Path, url: str) -> None:
    """Code of each process: runs with and without a split model, and one that goes on with it."""
    for name in ("none", "fsdp2"):
        train(folder / name, url, f"trainer.shard={name}")
    if process_group.rank() == 0:
        after_one_step(folder / "none", folder / "none then fsdp2")
    process_group.wait()
    train(folder / "none then fsdp2", url, "trainer.shard=fsdp2", "resume=auto")


def train(out: Path, url: str, *overrides: str) -> None:
    distill(distill_config(*LEARN, "rollout=vllm", f"rollout.url={url}", f"out={out}", *overrides))


def after_one_step(run: Path, out: Path) -> None:
    """Copy a finished run as it was after its first step."""
    left = shutil.ignore_patterns("step-000002", "summary.json", "adapter", "best", "after")
    shutil.copytree(run, out, ignore=left)
    first, *_ = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text(first)


def files(run: Path) -> dict[str, dict[str, list[int]]]:
    """The files of adapter and checkpoints, with the names and shapes of their tensors."""
    found = sorted([*(run / "adapter").rglob("*"), *(run / "checkpoints").rglob("*")])
    return {
        str(file.relative_to(run)): {k: [*v.shape] for k, v in load_file(file).items()}
        if file.suffix == ".safetensors"
        else {}
        for file in found
    }


def trained(run: Path) -> torch.Tensor:
    """The adapter's weights that are zero at the start."""
    return torch.cat([tensor.flatten() for name, tensor in adapter(run).items() if "lora_B" in name])


def resumed(run: Path) -> list[tuple[int, dict[str, list[str]]]]:
    """The steps at which a run was resumed, and the keys that had changed."""
    lines = [json.loads(line) for line in (run / "changes.jsonl").read_text().splitlines()]
    return [(line["step"], line["changed"]) for line in lines]


@pytest.mark.slow
def test_a_run_with_a_split_model_writes_the_same_files_and_resumes_one_without(folder):
    whole = trained(folder / "none")
    assert len([name for name in files(folder / "none") if "checkpoints/step-" in name]) > 4
    assert resumed(folder / "none then fsdp2") == [(1, {"trainer.shard": ["none", "fsdp2"]})]
    for name in ("fsdp2", "none then fsdp2"):
        assert files(folder / name) == files(folder / "none")
        assert (trained(folder / name) - whole).norm() < 1e-5 * whole.norm(), name
    hashes = [json.loads((folder / name / "summary.json").read_text()) for name in ("none", "fsdp2")]
    assert hashes[0]["frozen_hash"] == hashes[1]["frozen_hash"]


@pytest.mark.slow
def test_one_process_resumes_a_run_of_two_with_a_split_model(folder, served):
    out = folder / "fsdp2 then alone"
    after_one_step(folder / "fsdp2", out)
    train(out, served.url, "trainer.shard=none", "resume=auto")
    assert resumed(out) == [(1, {"trainer.shard": ["fsdp2", "none"]})]
    assert files(out) == files(folder / "fsdp2")
    whole = trained(folder / "none")
    assert (trained(out) - whole).norm() < 1e-5 * whole.norm()
