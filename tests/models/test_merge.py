"""A merged model gives the same logits as base and adapter; a wrong merge is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from conftest import make_student, with_effect

from vigos_cli.cli.commands.merge import run
from vigos_cli.config.compose import job
from vigos_cli.models import merge as merging
from vigos_cli.models.merge import merge
from vigos_cli.utils.errors import ConfigError, UserError


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter that changes the model strongly."""
    folder = tmp_path_factory.mktemp("adapter")
    student = with_effect(make_student())
    student.net.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_merged_model_gives_the_same_logits_and_differs_from_the_base(adapter, tmp_path):
    report = merge(job("merge", [f"adapter.path={adapter}", f"out={tmp_path / 'm'}", "model.dtype=float32"]))
    assert report.tokens > 100 and report.largest_kl < 1e-5
    assert json.loads((tmp_path / "m" / "merge.json").read_text())["tokens"] == report.tokens
    one = make_student(f"adapter.path={adapter}")
    two = make_student(f"model.path={tmp_path / 'm'}")
    ids = {"input_ids": torch.tensor([one.tokenizer("The banana is yellow.")["input_ids"]])}
    merged, apart, base = two.base(**ids).logits, one.base(**ids).logits, make_student().base(**ids).logits
    torch.testing.assert_close(merged, apart, atol=1e-3, rtol=1e-4)
    assert (base - merged).abs().max() > 0.1


@pytest.mark.slow
def test_a_merge_that_changed_the_model_is_refused(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "TOLERANCE", {torch.float32: -1.0})
    with pytest.raises(UserError, match="differs by"):
        merge(job("merge", [f"adapter.path={adapter}", f"out={tmp_path / 'm'}", "model.dtype=float32"]))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a weight", "an activation"])
def test_a_saved_model_that_differs_is_refused(adapter, tmp_path, monkeypatch, damage):
    """The files differ from the merged model in one weight; or they are equal and give something else."""
    real = merging.AutoModelForImageTextToText.from_pretrained

    def damaged(*args: Any, **options: Any) -> Any:
        model = real(*args, **options)
        if "dtype" in options and args[0] == tmp_path / "m":
            if damage == "a weight":
                model.model.language_model.layers[2].mlp.up_proj.weight.data[3, 5] += 1e-6
            else:
                model.model.language_model.layers[2].mlp.act_fn = torch.nn.Tanh()
        return model

    monkeypatch.setattr(merging.AutoModelForImageTextToText, "from_pretrained", damaged)
    with pytest.raises(UserError, match=r"read back from .* differs from the merged one"):
        merge(job("merge", [f"adapter.path={adapter}", f"out={tmp_path / 'm'}", "model.dtype=float32"]))


@pytest.mark.slow
def test_only_one_copy_of_the_weights_is_on_the_device(adapter, tmp_path, monkeypatch):
    """The merged model's weights are dropped before those that were read back move to the device."""
    moves: list[tuple[str, int]] = []
    kind = type(make_student().base)
    alive: list[Any] = []

    def to(model: Any, *args: Any, **options: Any) -> Any:
        if not any(model is one for one in alive):
            alive.append(model)
        moved = real(model, *args, **options)
        moves.append((str(args[0]), sum(not any(p.is_meta for p in one.parameters()) for one in alive)))
        return moved

    real = kind.to
    monkeypatch.setattr(kind, "to", to)
    merge(job("merge", [f"adapter.path={adapter}", f"out={tmp_path / 'm'}", "model.dtype=float32"]))
    assert moves == [("cpu", 1), ("meta", 0), ("cpu", 1)]


def test_memory_that_runs_out_ends_in_one_line(monkeypatch, adapter, tmp_path):
    def full(*_: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(merging, "load_student", full)
    with pytest.raises(UserError, match=r"while the adapter was merged: try model\.device=cpu"):
        run(job("merge", [f"adapter.path={adapter}", f"out={tmp_path / 'm'}"]))
    monkeypatch.setattr(merging, "load_student", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(job("merge", [f"adapter.path={adapter}", f"out={tmp_path / 'm'}"]))


def test_an_adapter_has_to_be_named(tmp_path):
    with pytest.raises(ConfigError, match=r"adapter\.path is missing"):
        merge(job("merge", [f"out={tmp_path / 'm'}"]))
