"""The command line and the environment of the vLLM server that a run starts (`rollout.serve=true`).

    vllm serve PATH --host 127.0.0.1 --port 41873 --dtype bfloat16 --max-model-len 33792 --max-num-seqs 32
        --limit-mm-per-prompt {"video": 0} --mm-processor-kwargs {"size": {...}} --max-lora-rank 64
        --max-loras 2 --gpu-memory-utilization 0.66 --enable-scale-out --disable-uvicorn-access-log
        --enable-lora   and rollout.serve_flags

The image bounds are those of the student's processor, so pictures have the same number of tokens on both
sides. vLLM loads no remote code without `--trust-remote-code`, which is never passed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from uuid import uuid4

import torch

from vigos_cli.config.schema import DistillRun, RunConfig
from vigos_cli.generation.server_keeper import MARK
from vigos_cli.models.memory_plan import CONTEXT, shape_of
from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.pretrained import hub_reachable, pick_device, pick_dtype, resolve_path
from vigos_cli.models.server_memory import ADAPTERS, longest_row, served_rank, share_for_server
from vigos_cli.models.student import Student
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.server import key_from_environment

OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun's; vLLM reads them too


def serve_command(config: RunConfig, student: Student, port: int, processes: int = 1) -> list[str]:
    """The command line of the server, its program included."""
    rollout, images = config.rollout, student.processor.image_processor
    limit = min(
        student.base.config.get_text_config().max_position_embeddings, student.tokenizer.model_max_length
    )
    flags: dict[str, str | int | float] = {
        "--host": "127.0.0.1",
        "--port": port,
        "--dtype": str(pick_dtype(config.model.dtype, student.device)).removeprefix("torch."),
        "--max-model-len": longest_row(config, limit),
        "--max-num-seqs": rollout.concurrency * processes,
        "--limit-mm-per-prompt": json.dumps({"video": 0}),
    }
    if rollout.model:
        flags["--served-model-name"] = rollout.model
    if config.model.revision:
        flags["--revision"] = config.model.revision
    if config.model.max_pixels is not None:
        size = {name: value for name, value in dict(images.size).items() if value is not None}
        flags["--mm-processor-kwargs"] = json.dumps({"size": size})
    switches = ["--enable-scale-out", "--disable-uvicorn-access-log"]
    if isinstance(config, DistillRun) or config.adapter.path:
        rank = max(p.shape[0] for name, p in student.adapter.items() if "lora_A" in name)
        flags |= {"--max-lora-rank": served_rank(rank), "--max-loras": ADAPTERS}
        switches.append("--enable-lora")
    if student.device.type == "cuda" and not _sets(rollout.serve_flags, "--gpu-memory-utilization"):
        flags["--gpu-memory-utilization"] = _share(config, student.device, processes)
    pairs = [word for flag, value in flags.items() for word in (flag, str(value))]
    program = [_program(rollout.serve_command[0]), *rollout.serve_command[1:], "serve"]
    return [*program, resolve_path(config.model.path), *pairs, *switches, *rollout.serve_flags]


def check_room(config: RunConfig) -> None:
    """Raise a UserError, before anything is loaded, if the estimate of trainer and server is too large."""
    if not config.rollout.serve or _sets(config.rollout.serve_flags, "--gpu-memory-utilization"):
        return
    device = pick_device(config.model.device)
    if device.type == "cuda" and process_group.rank() == 0:  # whose card the server shares
        _share(config, device, process_group.size())


def serve_environment(config: RunConfig, student: Student) -> dict[str, str]:
    """The environment of the server, with a new mark that tells its processes from all others."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OF_LAUNCHERS and not name.startswith(("LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_"))
    }
    kept |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",  # nothing is reported to anybody
        MARK: uuid4().hex,
        "SPT_NOENV": "1",  # vLLM renames its processes, which must leave the mark in place
    }
    if Path(resolve_path(config.model.path)).is_dir() or not hub_reachable():
        kept["HF_HUB_OFFLINE"] = "1"
    if key := key_from_environment("rollout", config.rollout):
        kept["VLLM_API_KEY"] = key
    if student.device.type == "cuda":  # the card of this process is the only one that the server sees
        cards = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        index = student.device.index or 0
        kept["CUDA_VISIBLE_DEVICES"] = cards[index] if cards != [""] else str(index)
    return kept


def _program(name: str) -> str:
    """The file of a program: on the path, or beside this Python. Raises a ConfigError if there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if not found:
        raise ConfigError(
            f"rollout.serve=true: there is no program {name}: install vLLM in an environment of its own and "
            "set rollout.serve_command=[/PATH/bin/vllm], or use rollout.serve_command=[uvx,vllm]"
        )
    return found


def _sets(flags: list[str], name: str) -> bool:
    return any(flag.partition("=")[0].replace("_", "-") == name for flag in flags)


def _share(config: RunConfig, device: torch.device, processes: int) -> float:
    """The share of the card for the server, by the estimate; raises a UserError if both do not fit."""
    torch.cuda.empty_cache()  # what loading has left over
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_reserved(device) + CONTEXT * GIB
    room = min(total, free + own)  # without what other programs use
    return share_for_server(config, shape_of(config), total=total, room=room, processes=processes)
