"""A merged model gives the same logits as base and adapter; a wrong merge is refused."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_student

from vigos_cli.config.compose import job
from vigos_cli.models import merge as merging
from vigos_cli.models.merge import merge
from vigos_cli.utils.errors import ConfigError, UserError


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter that changes the model strongly."""
    folder = tmp_path_factory.mktemp("adapter")
    student = make_student()
    torch.manual_seed(0)
    for name, p in student.adapter.items():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    student.net.save_pretrained(folder)
    return folder


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


def test_a_merge_that_changed_the_model_is_refused(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "TOLERANCE", {torch.float32: -1.0})
    with pytest.raises(UserError, match="differs by"):
        merge(job("merge", [f"adapter.path={adapter}", f"out={tmp_path / 'm'}", "model.dtype=float32"]))


def test_an_adapter_has_to_be_named(tmp_path):
    with pytest.raises(ConfigError, match=r"adapter\.path is missing"):
        merge(job("merge", [f"out={tmp_path / 'm'}"]))
