"""Coordinate the processes of torchrun or `accelerate launch` before Hydra starts.

All processes of a run must use the same folder, and its default name contains the start time. So they take
the start time of rank 0, through the rendezvous that torch.distributed uses later. Only rank 0 writes
Hydra's files. After that, the processes exchange values with `vigos_cli.utils.process_group`.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

from vigos_cli.config import compose
from vigos_cli.utils.errors import ConfigError

PATIENCE = 300.0  # seconds that rank 0 waits for the other processes to start
_kept: list[Any] = []  # keeps the store open, because closing it would end the rendezvous of the other ranks


def launched_rank() -> int:
    """The rank of this process; 0 if the run has only one."""
    return int(os.environ.get("RANK", "0")) if _world_size() > 1 else 0


def several_processes() -> bool:
    """Whether this run has more than one process."""
    return _world_size() > 1


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def overrides_for_rank() -> list[str]:
    """The overrides that stop processes other than rank 0 from writing `.hydra` and a log file."""
    return ["hydra.output_subdir=null", "hydra/job_logging=stdout"] if launched_rank() else []


def agree_on_start_time() -> None:
    """Set the start time of every process to that of rank 0."""
    if _world_size() == 1:
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set but {missing[0]} is not: start vigos with torchrun or accelerate launch"
        )
    from torch import distributed  # here, because a single process does not need it yet

    store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        _world_size(),
        # torchrun's agent may already serve this address; otherwise rank 0 serves it.
        is_master=launched_rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        wait_for_workers=False,
        multi_tenant=True,
    )
    _kept.append(store)
    key = f"vigos/started/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if launched_rank() == 0:
        store.set(key, compose.started.isoformat())
    compose.started = datetime.fromisoformat(store.get(key).decode())
    store.add(f"{key}/read", 1)
    # Rank 0 may serve the store. If it ended before the others have read the time, they would wait for long.
    deadline = time.monotonic() + PATIENCE
    while (
        launched_rank() == 0 and store.add(f"{key}/read", 0) < _world_size() and time.monotonic() < deadline
    ):
        time.sleep(0.01)
