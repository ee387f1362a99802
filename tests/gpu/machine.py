"""What the checks ran on: the card, its driver, and the versions of the libraries."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from vigos_cli.config.provenance import commit, versions
from vigos_cli.models.peak_memory import GIB

KERNEL_MODULE = Path("/proc/driver/nvidia/version")


def describe(device: torch.device) -> dict[str, Any]:
    """The facts of the first table of the report."""
    on_card = device.type == "cuda"
    known = {
        "vigos commit": commit() or "not a git checkout",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "torch": str(torch.__version__),
        "CUDA of torch": torch.version.cuda or (torch.version.hip and f"ROCm {torch.version.hip}") or "none",
        "bitsandbytes computes with": _bitsandbytes(),
    }
    known |= {name: version for name, version in versions().items() if name not in ("python", "torch")}
    return {**(_card(device) if on_card else _processor()), **known}


def _card(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return {
        "device": f"{properties.name} (the first of {torch.cuda.device_count()} that are visible)",
        "compute capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "memory": f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB free at the start",
        "driver": _driver(),
    }


def _processor() -> dict[str, Any]:
    return {
        "device": f"CPU: {platform.processor() or platform.machine()}",
        "compute capability": "none: no CUDA device",
        "memory": "not measured on a CPU",
        "driver": "none: no CUDA device",
    }


def _driver() -> str:
    """The version of NVIDIA's driver, from nvidia-smi or from the kernel module."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        return found.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        known = KERNEL_MODULE.exists()
        return KERNEL_MODULE.read_text().split("\n")[0].strip() if known else "unknown: no nvidia-smi"


def _bitsandbytes() -> str:
    """The compiled library that bitsandbytes has loaded."""
    from bitsandbytes.cextension import lib

    return "CUDA" if getattr(lib, "compiled_with_cuda", False) else f"the CPU ({type(lib).__name__})"
