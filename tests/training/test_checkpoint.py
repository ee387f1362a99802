"""A checkpoint is complete or absent, and a run resumed from it equals one that never stopped."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vigos_cli.training import checkpoint
from vigos_cli.training.checkpoint import (
    flatten_optimizer,
    load_checkpoint,
    save_checkpoint,
    saved_steps,
    unflatten_optimizer,
)
from vigos_cli.training.learner import Learner
from vigos_cli.training.loop import resume_learner
from vigos_cli.utils.files import read_lines, write_json, write_lines

FILES = {"adapter.safetensors", "optimizer.safetensors", "teachers.safetensors", "state.json"}


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((96, 64), (7,), (3, 2), (1,))
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def adamw(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=1e-2, betas=(0.8, 0.95), weight_decay=0.1)


def paged(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    from bitsandbytes.optim.adamw import PagedAdamW8bit

    return PagedAdamW8bit(params, lr=1e-2)


def advance(params: list[nn.Parameter], optimizer: torch.optim.Optimizer, start: int, stop: int) -> None:
    for step in range(start, stop):
        generator = torch.Generator().manual_seed(step)
        optimizer.param_groups[0]["lr"] = 1e-2 / (1 + step)
        for i, p in enumerate(params):
            if i != 3 or step >= 2:  # one parameter has no gradient in the first steps
                p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


def adapter(params: list[nn.Parameter]) -> dict[str, Tensor]:
    return {f"layer.{i}": p.detach().clone() for i, p in enumerate(params)}


def put(folder: Path, step: int, params: list[nn.Parameter] | None = None, **state: object) -> Path:
    params = params or parameters()
    optimizer = adamw(params)
    advance(params, optimizer, 0, 1)
    return save_checkpoint(folder, step, adapter=adapter(params), optimizer=optimizer, kept={}, state=state)


def whole(place: Path) -> bool:
    """Whether a checkpoint is complete."""
    own = load_file(place / "adapter.safetensors")
    _, state = load_checkpoint(place, adamw(parameters()))
    return len(own) == 4 and state["step"] == int(place.name.split("-")[1])


# ---------------------------------------------------------------- saving and loading


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("make", [adamw, paged])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, make, dtype, at):
    through = parameters(dtype)
    optimizer = make(through)
    advance(through, optimizer, 0, at)
    place = save_checkpoint(
        tmp_path, at, adapter=adapter(through), optimizer=optimizer, kept={}, state={"counts": {"a": 2}}
    )
    advance(through, optimizer, at, at + 3)  # saving does not change the run

    resumed = parameters(dtype)
    fresh = make(resumed)
    own = load_file(place / "adapter.safetensors")
    kept, state = load_checkpoint(place, fresh)
    assert kept == {} and state == {"step": at, "counts": {"a": 2}}
    with torch.no_grad():
        for i, p in enumerate(resumed):
            p.copy_(own[f"layer.{i}"])
    advance(resumed, fresh, at, at + 3)
    assert all(torch.equal(a, b) for a, b in zip(through, resumed, strict=True))
    one, two = flatten_optimizer(optimizer.state_dict()), flatten_optimizer(fresh.state_dict())
    assert one[0].keys() == two[0].keys() and json.dumps(one[1]) == json.dumps(two[1])
    assert all(torch.equal(one[0][name], two[0][name]) for name in one[0])
    assert {t.dtype for t in one[0].values()} == {t.dtype for t in two[0].values()}


def test_8_bit_moments_stay_8_bit(tmp_path):
    params = parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = paged(params)
        advance(params, optimizer, 0, 2)
    place = save_checkpoint(tmp_path, 2, adapter=adapter(params), optimizer=optimizer, kept={}, state={})
    stored = load_file(place / "optimizer.safetensors")
    moments = [
        t for name, t in stored.items() if name.startswith("0.") and name.endswith(("state1", "state2"))
    ]
    assert [t.dtype for t in moments] == [torch.uint8] * 2


def test_an_optimizers_state_survives_flattening():
    params = parameters()
    optimizer = adamw(params)
    advance(params, optimizer, 0, 1)  # the last parameter has no state yet
    before = optimizer.state_dict()
    tensors, scalars = flatten_optimizer(before)
    back = unflatten_optimizer(tensors, json.loads(json.dumps(scalars)))
    assert back["state"].keys() == before["state"].keys()
    for index, values in before["state"].items():
        assert back["state"][index].keys() == values.keys()
        assert all(torch.equal(back["state"][index][name], value) for name, value in values.items())
    assert back["param_groups"][0]["params"] == before["param_groups"][0]["params"]


def test_flattening_keeps_nested_values():
    shared = torch.arange(3)
    state = {4: {"step": 2, "inner": {"a": shared, "deep": {"b": shared}, "c": None}}, 5: {}}
    tensors, scalars = flatten_optimizer({"state": state, "param_groups": [{"lr": 0.1 + 0.2}]})
    assert set(tensors) == {"4.inner.a", "4.inner.deep.b"}
    assert len({t.data_ptr() for t in tensors.values()}) == 2  # safetensors refuses shared memory
    back = unflatten_optimizer(tensors, json.loads(json.dumps(scalars)))
    assert back["param_groups"] == [{"lr": 0.1 + 0.2}]
    inner = back["state"][4].pop("inner")
    assert back["state"] == {4: {"step": 2}, 5: {}}
    assert torch.equal(inner["a"], shared) and torch.equal(inner["deep"]["b"], shared) and inner["c"] is None


def test_the_teachers_weights_are_saved_and_loaded(tmp_path):
    params = parameters()
    kept = {"ema:0.5/a": torch.randn(4, 6).T, "every:4/b": torch.zeros(2)}  # the first is not contiguous
    place = save_checkpoint(
        tmp_path, 1, adapter=adapter(params), optimizer=adamw(params), kept=kept, state={}
    )
    assert {file.name for file in place.iterdir()} == FILES
    back, _ = load_checkpoint(place, adamw(parameters()))
    assert back.keys() == kept.keys()
    assert all(torch.equal(back[name], kept[name]) for name in kept)


def test_nothing_is_pickled(tmp_path):
    place = put(tmp_path, 3)
    for file in place.iterdir():
        assert file.suffix in (".safetensors", ".json")
        data = file.read_bytes()
        assert not data.startswith((b"PK", b"\x80")), file
    json.loads((place / "state.json").read_text())


# ---------------------------------------------------------------- complete or absent


class Killed(BaseException):
    """Imitates the kill of the process: no code may clean up after it."""


def dies(monkeypatch: pytest.MonkeyPatch, target: object, name: str, call: int) -> None:
    """Make the `call`-th call of a function raise Killed."""
    original, calls = getattr(target, name), [0]

    def wrapped(*args, **options):
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return original(*args, **options)

    monkeypatch.setattr(target, name, wrapped)


MOMENTS = [
    (checkpoint, "save_file", 1),
    (checkpoint, "save_file", 2),
    (checkpoint, "flatten_optimizer", 1),
    (json, "dumps", 1),
    (os, "fsync", 1),
    (os, "fsync", 3),
    (Path, "rename", 1),
    (Path, "rename", 2),  # the new one exists, the oldest is not deleted yet
    (checkpoint.shutil, "rmtree", 1),
    (os, "unlink", 1),  # while the oldest is deleted
    (os, "unlink", 2),
]


@pytest.mark.parametrize(("target", "name", "call"), MOMENTS)
def test_a_kill_leaves_only_complete_checkpoints(tmp_path, monkeypatch, target, name, call):
    for step in (1, 2):
        put(tmp_path, step)
    with monkeypatch.context() as patch:
        dies(patch, target, name, call)
        with pytest.raises(Killed):
            put(tmp_path, 3)
    places = saved_steps(tmp_path)
    assert places[-2:] and all(map(whole, places))
    assert places[-1].name in ("step-000002", "step-000003")
    put(tmp_path, 4)  # the next save removes the rest
    assert [p.name for p in saved_steps(tmp_path)][-1] == "step-000004"
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in saved_steps(tmp_path)}
    assert len(saved_steps(tmp_path)) == 2 and all(map(whole, saved_steps(tmp_path)))


class Kept:
    """A student and the teachers' weights, which a resumed run loads."""

    kept = ()

    def load_adapter_state(self, *given: object) -> None: ...


@pytest.mark.parametrize(("target", "name", "call"), MOMENTS)
def test_a_run_killed_at_its_last_checkpoint_leaves_nothing_over(tmp_path, monkeypatch, target, name, call):
    """It saves no further one: the rest of the killed one must be deleted when the run is resumed."""
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        put(folder, step, counts={}, seconds={})
    with monkeypatch.context() as patch:
        dies(patch, target, name, call)
        with pytest.raises(Killed):
            put(folder, 3, counts={}, seconds={})
    learner = Learner(Kept(), adamw(parameters()), Kept())  # type: ignore[arg-type]
    resume_learner(learner, tmp_path)
    assert learner.step in (2, 3)
    there = {path.name for path in folder.iterdir()}
    assert there == {f"step-{learner.step - 1:06d}", f"step-{learner.step:06d}"}


@pytest.mark.parametrize(("name", "call"), [("rename", 1), ("rename", 2)])
def test_a_kill_while_a_step_is_saved_again_keeps_the_earlier_step(tmp_path, monkeypatch, name, call):
    put(tmp_path, 1)
    put(tmp_path, 2, note="first")
    with monkeypatch.context() as patch:
        dies(patch, Path, name, call)
        with pytest.raises(Killed):
            put(tmp_path, 2, note="second")
    assert all(map(whole, saved_steps(tmp_path))) and saved_steps(tmp_path)[0].name == "step-000001"
    place = put(tmp_path, 2, note="third")
    assert json.loads((place / "state.json").read_text())["note"] == "third"
    assert {p.name for p in tmp_path.iterdir()} == {"step-000001", "step-000002"}


def test_the_last_two_checkpoints_are_kept(tmp_path):
    for step in (5, 10, 15, 20):
        put(tmp_path, step)
    assert [p.name for p in saved_steps(tmp_path)] == ["step-000015", "step-000020"]
    assert {p.name for p in tmp_path.iterdir()} == {"step-000015", "step-000020"}


def test_checkpoints_are_sorted_by_step(tmp_path):
    for name in ("step-1000000", "step-999999", "step-000020", "step-x", ".step-000001", ".draft-1"):
        (tmp_path / name).mkdir()
    assert [p.name for p in saved_steps(tmp_path)] == ["step-000020", "step-999999", "step-1000000"]
    assert saved_steps(tmp_path / "nowhere") == []


# ---------------------------------------------------------------- JSON


LINES = [{"step": 1, "loss": 0.25}, {"step": 2, "text": 'a "b"\n \u2028 é'}, {"step": 3, "eval": {"x": [1]}}]


def test_lines_are_written_and_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    write_lines(path, LINES)
    assert read_lines(path) == LINES and [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    write_lines(path, [])
    assert read_lines(path) == []


def test_a_truncated_last_line_is_ignored(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_lines(path, LINES)
    data = path.read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(data) if byte == ord("\n"))]
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        finished = sum(start <= size + 1 for start in starts[1:])  # the line feed itself may be missing
        assert read_lines(path) == LINES[:finished], size


def test_a_killed_write_keeps_the_old_json_file(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    for target, name in ((json, "dumps"), (Path, "replace")):
        with monkeypatch.context() as patch:
            dies(patch, target, name, 1)
            with pytest.raises(Killed):
                write_json(path, {"a": 2})
        assert json.loads(path.read_text()) == {"a": 1}
    write_json(path, {"a": Path("x")})
    assert json.loads(path.read_text()) == {"a": "x"}


def test_a_killed_write_keeps_the_old_lines(tmp_path, monkeypatch):
    path = tmp_path / "responses.jsonl"
    write_lines(path, LINES)
    with monkeypatch.context() as patch:
        dies(patch, json, "dumps", 2)
        with pytest.raises(Killed):
            write_lines(path, [{"step": 9}, {"step": 10}])
    assert read_lines(path) == LINES
