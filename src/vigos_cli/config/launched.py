"""What torchrun or `accelerate launch` says about the processes of this run."""

from __future__ import annotations

import os


def world_size() -> int:
    """The number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """The rank of this process; 0 if the run has only one."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0
