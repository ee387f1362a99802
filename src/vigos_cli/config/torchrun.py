"""Coordinate the processes of torchrun, `accelerate launch` or submitit before a run starts.

All processes of a run must use the same folder, and its default name contains the start time. So they take
the start time of rank 0, through the rendezvous that torch.distributed uses later. Only rank 0 writes
Hydra's files. After that, the processes exchange values with `vigos_cli.utils.process_group`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import datetime
from typing import Any
from uuid import uuid4

from vigos_cli.config import compose
from vigos_cli.config.launched import launched_rank, world_size
from vigos_cli.utils.errors import ConfigError, UserError

PATIENCE = 300.0  # seconds that rank 0 waits for the other processes to start
_kept: list[Any] = []  # keeps the store open, because closing it would end the rendezvous of the other ranks


def several_processes() -> bool:
    """Whether this run has more than one process."""
    return world_size() > 1


def end_with_agent() -> None:
    """End this process when the agent of torchrun that started it has ended.

    An agent that is killed leaves its processes behind. They would go on with the run and write to its
    folder, also after somebody has started it again.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    agent = os.getppid()

    def watch() -> None:
        while os.getppid() == agent:
            time.sleep(1)
        print("vigos: the agent of torchrun has ended, so this process ends too", file=sys.stderr, flush=True)
        os._exit(1)  # whatever the main thread waits for

    threading.Thread(target=watch, name="agent", daemon=True).start()


def join_submitit_tasks() -> None:
    """Make the tasks of a job of submitit the processes of one run, as torchrun does (`tasks_per_node`)."""
    if "SUBMITIT_EXECUTOR" not in os.environ or "WORLD_SIZE" in os.environ:
        return
    from submitit import JobEnvironment  # pyright: ignore[reportMissingImports]
    from submitit.helpers import TorchDistributedEnvironment  # pyright: ignore[reportMissingImports]

    if JobEnvironment().num_tasks > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def lost_process(error: BaseException) -> str | None:
    """The line for an error in the exchange with the other processes; None for any other error.

    The libraries have no common type for it: gloo raises a RuntimeError that names its source file.
    """
    by_name = {kind.__name__ for kind in type(error).__mro__}  # torch may not be imported yet
    if not several_processes() or ("DistError" not in by_name and "/gloo/" not in str(error)):
        return None
    return (
        f"process {launched_rank()} of {world_size()} has lost another process of this run, whose own output "
        "says why it has ended; resume=auto continues the run from its last checkpoint"
    )


def overrides_for_rank() -> list[str]:
    """The overrides that stop processes other than rank 0 from writing `.hydra` and a log file."""
    return ["hydra.output_subdir=null", "hydra/job_logging=stdout"] if launched_rank() else []


def agree_on_start_time() -> None:
    """Set the start time of every process to that of rank 0, and keep the store for the process group.

    torchrun keeps one store when it starts processes again (`--max-restarts`), so the store still has what
    the processes of the earlier attempt have written. Its counter of restarts does not tell the attempts
    apart: with several nodes each agent counts its own. So rank 0 names the attempt, and `_name_of_attempt`
    makes sure that nobody reads an old name. The name becomes the prefix of all keys of the process group.
    """
    if world_size() == 1:
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set but {missing[0]} is not: start vigos with torchrun or accelerate launch"
        )
    from torch import distributed  # here, because a single process does not need it yet

    from vigos_cli.utils import process_group

    store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size(),
        # torchrun's agent may already serve this address; otherwise rank 0 serves it.
        is_master=launched_rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        wait_for_workers=False,
        multi_tenant=True,
    )
    _kept.append(store)
    attempt, at = _name_of_attempt(store)
    compose.started = datetime.fromisoformat(at)
    process_group.use_store(distributed.PrefixStore(f"vigos/{attempt}", store))  # pyright: ignore[reportPrivateImportUsage]


def _name_of_attempt(store: Any) -> tuple[str, str]:
    """The name of this attempt of the run and its start time, which rank 0 chooses.

    Each other process writes a greeting of its own and waits for the answer to it. Rank 0 answers until every
    process has said that it has read the name; an old greeting is answered in vain.
    """
    own, rank = uuid4().hex, launched_rank()
    if rank > 0:
        store.set(f"vigos/greeting/{rank}", own)
        attempt, at = store.get(f"vigos/answer/{own}").decode().split()
        store.set(f"vigos/{attempt}/read/{rank}", "")
        return attempt, at
    at, left, deadline = (
        compose.started.isoformat(),
        set(range(1, world_size())),
        time.monotonic() + PATIENCE,
    )
    while left:
        for other in sorted(left):
            greeting = f"vigos/greeting/{other}"
            if store.check([f"vigos/{own}/read/{other}"]):
                left.remove(other)
            elif store.check([greeting]):
                store.set(f"vigos/answer/{store.get(greeting).decode()}", f"{own} {at}")
        if time.monotonic() > deadline:
            raise UserError(f"{len(left)} of {world_size()} processes did not start in {PATIENCE:.0f} s")
        time.sleep(0.01)
    return own, at
