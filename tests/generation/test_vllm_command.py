"""The command line, the environment and the keys of the vLLM server that a run starts."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace

import pytest
import torch
from conftest import distill_config

from vigos_cli.config.compose import job
from vigos_cli.generation import vllm_command
from vigos_cli.generation.server_keeper import MARK
from vigos_cli.generation.vllm_command import serve_command, serve_environment
from vigos_cli.models.memory_plan import shape_of
from vigos_cli.models.pretrained import load_processor
from vigos_cli.models.server_memory import estimate_server, trainer_beside_server
from vigos_cli.training.distill import distill
from vigos_cli.utils.errors import UserError

SERVE = ("rollout=vllm", "rollout.serve=true")
SERVING = (*SERVE, f"rollout.serve_command=[{sys.executable},-m,vllm]")


def values(command: list[str]) -> dict[str, str]:
    """The value of each flag; the last one counts, as in vLLM."""
    return {flag: value for flag, value in zip(command, [*command[1:], ""], strict=True) if flag[:2] == "--"}


def test_the_servers_flags_follow_the_configuration(tiny):
    given = ("adapter.r=24", "model.max_prompt=100", "rollout.max_new_tokens=70", "bench.max_new_tokens=50")
    config = distill_config(*SERVING, *given, "rollout.concurrency=5", "rollout.serve_flags=[--seed,7]")
    command = serve_command(config, tiny, 4321, processes=2)
    flags = values(command)
    assert command[:4] == [sys.executable, "-m", "vllm", "serve"] and command[-2:] == ["--seed", "7"]
    assert (flags["--host"], flags["--port"], flags["--dtype"]) == ("127.0.0.1", "4321", "float32")
    assert (flags["--max-model-len"], flags["--max-num-seqs"]) == ("170", "10")
    assert (flags["--max-lora-rank"], flags["--max-loras"]) == ("32", "2")  # the rank of `tiny` is 32
    assert {"--enable-lora", "--enable-scale-out"} <= flags.keys()
    assert not {"--trust-remote-code", "--gpu-memory-utilization", "--mm-processor-kwargs"} & flags.keys()
    evaluated = values(serve_command(job("eval", [*SERVING, "out=x"]), tiny, 1))
    assert "--enable-lora" not in evaluated  # no adapter is ever loaded
    assert int(evaluated["--max-model-len"]) == tiny.base.config.get_text_config().max_position_embeddings


def test_the_server_bounds_pictures_like_the_student(tiny):
    config = distill_config(*SERVING, "model.max_pixels=1568")
    student = replace(tiny, processor=load_processor(config.model))
    size = json.loads(values(serve_command(config, student, 1))["--mm-processor-kwargs"])["size"]
    assert size == {"longest_edge": 1568, "shortest_edge": 784}


def test_the_servers_environment_has_no_launcher_and_reports_to_nobody(tiny, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEY", "secret")
    config = distill_config(*SERVING, "rollout.key_env=KEY")
    first, second = serve_environment(config, tiny), serve_environment(config, tiny)
    assert not [name for name in first if "RANK" in name or "MASTER" in name or "ELASTIC" in name]
    assert "WORLD_SIZE" not in first and first["PATH"] == os.environ["PATH"]
    assert first["VLLM_API_KEY"] == "secret" and first["VLLM_NO_USAGE_STATS"] == "1"
    assert first["HF_HUB_OFFLINE"] == "1" and first["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert first["SPT_NOENV"] == "1"  # vLLM's processes rename themselves, and the mark stays readable
    assert first[MARK] != second[MARK] and "CUDA_VISIBLE_DEVICES" not in first


@pytest.mark.parametrize(("visible", "card"), [(None, "1"), ("4,GPU-5", "GPU-5")])
def test_the_server_sees_only_the_card_of_its_run(visible, card, tiny, monkeypatch):
    monkeypatch.setattr(type(tiny), "device", torch.device("cuda:1"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert serve_environment(distill_config(*SERVING), tiny)["CUDA_VISIBLE_DEVICES"] == card


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rollout.serve=true"], "use rollout=vllm, not hf"),
        ([*SERVE, "rollout.url=http://there:1/v1"], "leave out one of them"),
        ([*SERVE, "rollout.serve_command=[]"], "name the program"),
        (["rollout=vllm", "rollout.serve_flags=[--seed,7]"], "need rollout.serve=true"),
        ([*SERVE, "rollout.serve_flags=[--trust_remote_code]"], "no code of a model's repository"),
        ([*SERVE, "rollout.serve_flags=[--trust-remote]"], "no code of a model's repository"),
        ([*SERVE, "rollout.serve_flags=['--port=1']"], "chooses a free port"),
    ],
)
def test_contradictions_are_refused(overrides, said):
    with pytest.raises(Exception, match=re.escape(said)):
        distill_config(*overrides)


def test_on_a_gpu_the_server_gets_the_share_that_the_estimate_leaves(tiny, monkeypatch):
    """torch says 20 GiB in all, of which another program has 4; 1 GiB is reserved by this process."""
    gib = 2**30
    monkeypatch.setattr(type(tiny), "device", torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: gib)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (int(14.2 * gib), 20 * gib))
    config = distill_config(*SERVING)
    shape = shape_of(config)
    ours = trainer_beside_server(config, shape) + estimate_server(config, shape, 20 * gib).check
    share = float(values(serve_command(config, tiny, 1))["--gpu-memory-utilization"])
    assert share == pytest.approx((16 * gib - ours) / (20 * gib) - 0.05, abs=0.01)
    own = distill_config(*SERVING, "rollout.serve_flags=['--gpu-memory-utilization=0.3']")
    assert "--gpu-memory-utilization=0.3" in (command := serve_command(own, tiny, 1))
    assert "--gpu-memory-utilization" not in command


@pytest.mark.parametrize("free, fits", [(20, True), (5, False)])
def test_a_card_that_is_too_small_is_refused_before_anything_is_loaded(free, fits, monkeypatch, tmp_path):
    gib = 2**30
    monkeypatch.setattr(vllm_command, "pick_device", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free * gib, 20 * gib))

    def loads(*args: object, **options: object) -> None:
        raise RuntimeError("the model is loaded")

    monkeypatch.setattr("vigos_cli.training.distill.load_student", loads)
    config = distill_config(*SERVING, f"out={tmp_path}")
    with pytest.raises(RuntimeError if fits else UserError, match="loaded" if fits else "GiB can be used"):
        distill(config)
    own = distill_config(*SERVING, "rollout.serve_flags=['--gpu-memory-utilization=0.3']", f"out={tmp_path}")
    with pytest.raises(RuntimeError):
        distill(own)
