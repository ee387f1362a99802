"""Read a pretrained model from a folder or the Hugging Face hub.

processor = load_processor(config.model)
base = fetch(AutoModelForImageTextToText.from_pretrained, config.model, use_safetensors=True)
sizes = empty_model(fetch(AutoConfig.from_pretrained, config.model))     # without weights
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants
from transformers import AutoModelForImageTextToText, AutoProcessor

from vigos_cli.config.paths import TINY
from vigos_cli.config.schema import ModelConfig
from vigos_cli.utils.errors import UserError, one_line


def fetch(load: Any, config: ModelConfig, **options: Any) -> Any:
    """Call a `from_pretrained` function on `model.path`, a folder or a hub id; never run remote code.

    Raises UserError if the files are missing or damaged.
    """
    path = resolve_path(config.path)
    if not path:
        raise UserError(
            "model.path is empty: name a hub id or a folder, as in model.path=Qwen/Qwen2-VL-2B-Instruct"
        )
    if Path(path).is_dir():
        _check_readable(Path(path))
    # Checked first, because the hub's client retries for minutes if there is no network.
    options["local_files_only"] = Path(path).is_dir() or not hub_reachable()
    try:
        return load(path, revision=config.revision, trust_remote_code=False, **options)
    except ImportError as error:  # a processor needs a package that is not installed (SmolVLM: num2words)
        raise UserError(f"model.path={path}: {one_line(error)}") from error
    except (OSError, ConnectionError) as error:
        if Path(path).is_dir():
            raise UserError(f"model.path={path}: {one_line(error)}") from error
        raise UserError(
            f"the weights of {path} are not in the local cache and could not be fetched: "
            f"run `hf download {path}` while connected to a network, or set model.path= to a folder"
        ) from error


def _check_readable(folder: Path) -> None:
    """Raise UserError if the folder or a file in it cannot be read; transformers would say something else."""
    try:
        closed = [file for file in folder.iterdir() if file.is_file() and not os.access(file, os.R_OK)]
    except OSError as error:
        raise UserError(f"model.path={folder} cannot be read: {error.strerror}") from error
    if closed:
        raise UserError(f"model.path={folder}: this user has no permission to read {closed[0].name}")


@cache
def hub_reachable() -> bool:
    """Whether the hub accepts a connection within 5 seconds; assumed if a proxy is set."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    hub = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def resolve_path(path: str) -> str:
    """Replace `builtin:tiny` by the folder of the model that ships with the package; keep other paths."""
    return str(TINY) if path == "builtin:tiny" else path


def empty_model(settings: Any) -> Any:
    """Build the model of a transformers configuration on the meta device, without weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(settings)


def load_processor(config: ModelConfig) -> Any:
    """Load the model's processor and set this run's bounds on the size of images."""
    processor = fetch(AutoProcessor.from_pretrained, config)
    _bound_images(processor.image_processor, config)
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def _bound_images(images: Any, config: ModelConfig) -> None:
    """Set `model.max_pixels` in the settings that this image processor has."""
    size = getattr(images, "size", None) or {}
    if "max_pixels" in getattr(getattr(images, "valid_kwargs", None), "__annotations__", {}):
        if config.max_pixels is not None and "longest_edge" in size:
            size["longest_edge"] = config.max_pixels  # the Qwen processors store an area under this name
        return
    if config.max_pixels is None:
        return
    tile = (getattr(images, "max_image_size", None) or {}).get("longest_edge")
    if tile is None or "longest_edge" not in size:
        raise UserError("model.max_pixels: this model's image processor has no such bound: set it to null")
    # Images are resized to this edge and cut into square tiles: take the largest square within the bound.
    size["longest_edge"] = min(size["longest_edge"], max(1, int(config.max_pixels**0.5) // tile) * tile)


def pick_device(name: str) -> torch.device:
    """The device named in the config; `auto` is this process's CUDA device, or the CPU if there is none.

    A CUDA device becomes the current one, on which bitsandbytes and NCCL work.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # From the launcher's variable, because accelerate would also join the processes of the run, with a
        # time-out of minutes for every exchange and without the group of `vigos_cli.utils.process_group`.
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    device = torch.device(name)
    if device.type == "cuda" and device.index is not None and torch.cuda.is_available():
        torch.cuda.set_device(device)
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype named in the config.

    `auto` is float32 on the CPU, bfloat16 on a GPU that computes in it, and float16 on an older GPU.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if _has_bfloat16(device) else torch.float16


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU computes in bfloat16 itself: NVIDIA's since compute capability 8, and all of AMD's."""
    if device.type != "cuda" or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)
