"""Before Hydra starts, when torchrun or `accelerate launch` started several processes of one run.

All of them must mean the same folder, although its default name holds the time: they take rank 0's
clock reading, by the rendezvous that torch.distributed will use anyway. Only rank 0 writes Hydra's files.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from vigos_cli.config import compose
from vigos_cli.utils.errors import ConfigError

_kept: list[Any] = []  # the store must outlive the reading: closing it would end the others' rendezvous


def launched_rank() -> int:
    """This process among those of the run; 0 when it is alone."""
    return int(os.environ.get("RANK", "0")) if _world_size() > 1 else 0


def several_processes() -> bool:
    """Whether this run has more than one process."""
    return _world_size() > 1


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def overrides_for_rank() -> list[str]:
    """What keeps the processes other than rank 0 from writing `.hydra` and the job's log as well."""
    return ["hydra.output_subdir=null", "hydra/job_logging=stdout"] if launched_rank() else []


def agree_on_start_time() -> None:
    """Give every process the time at which rank 0 started."""
    if _world_size() == 1:
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set but {missing[0]} is not: start with torchrun or accelerate launch"
        )
    from torch import distributed  # several processes will need it soon anyway

    store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        _world_size(),
        # torchrun's agent may already be serving this address; otherwise rank 0 does, here as later.
        is_master=launched_rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        wait_for_workers=False,
        multi_tenant=True,
    )
    _kept.append(store)
    key = f"vigos/started/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if launched_rank() == 0:
        store.set(key, compose.started.isoformat())
    compose.started = datetime.fromisoformat(store.get(key).decode())
