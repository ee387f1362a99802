"""Choose how many cells of a sweep run at the same time (the key `workers`), and what each may use.

    choose_workers(run, "basic", [cell.config for cell in cells])
    -> [{"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "1"}]     # two cores: two processes, a thread each
    -> []                                                       # one after another, in this process

With `workers=null`, small models on a CPU get a process for each core, because a second thread hardly makes
a cell faster, and several GPUs get a process each. Everything else runs one after another: one GPU, a larger
model on a CPU, answers that come from a server, and a run of several processes (torchrun).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vigos_cli.config import torchrun
from vigos_cli.config.schema import AblateRun, ModelConfig
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.machine import free_memory, usable_cores

Environment = dict[str, str]
SMALL = 100 * 2**20  # bytes of weights up to which a model runs once for each core
NEED = 1.5 * 2**30  # bytes of memory of a process with such a model; 1.3 GiB were measured with `tiny`
THREADS, CARDS = "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"


def choose_workers(run: AblateRun, launcher: str, cells: Sequence[AblateRun]) -> list[Environment]:
    """The environment of each process that runs cells; none: Hydra's launcher runs them.

    `run` is the configuration that all cells share; raises ConfigError if its `workers` cannot be had.
    """
    _check(run, launcher)
    if run.workers == 1 or launcher != "basic" or torchrun.several_processes():
        return []
    cards = _visible_cards(cells)
    count = run.workers or (len(cards) if cards else _for_cores(cells))
    if count < 2 and not run.workers:
        return []
    threads = str(min(_own_threads(), max(1, usable_cores() // count)))
    return [
        {THREADS: threads} | ({CARDS: cards[number % len(cards)]} if cards else {}) for number in range(count)
    ]


def _check(run: AblateRun, launcher: str) -> None:
    if run.workers is None or run.workers == 1:
        return
    if launcher != "basic":
        raise ConfigError(
            f"workers={run.workers} and hydra/launcher={launcher} both start processes for the cells: "
            "leave one out"
        )
    if torchrun.several_processes():
        raise ConfigError(
            f"workers={run.workers}: with torchrun all processes share each cell, so the cells run one "
            "after another: leave out workers"
        )


def _for_cores(cells: Sequence[AblateRun]) -> int:
    """The number of processes on a CPU: 1 unless all models are small and sample in process."""
    if any(cell.rollout.name != "hf" or not _is_small(cell.model) for cell in cells) or _has_gpu(cells):
        return 1
    free = free_memory()
    return max(1, min(usable_cores(), usable_cores() if free is None else int(free / NEED)))


def _is_small(model: ModelConfig) -> bool:
    if model.path == "builtin:tiny":
        return True
    sizes = [file.stat().st_size for file in Path(model.path).glob("*.safetensors")]
    return 0 < sum(sizes) <= SMALL


def _visible_cards(cells: Sequence[AblateRun]) -> list[str]:
    """The numbers of the GPUs if there are several, and the cells take whichever they see."""
    if any(cell.model.device not in ("auto", "cuda") or cell.rollout.name != "hf" for cell in cells):
        return []
    import torch

    count = torch.cuda.device_count()  # does not open a card, which would take memory of it
    listed = os.environ.get(CARDS)
    names = listed.split(",") if listed else list(map(str, range(count)))
    return [name.strip() for name in names[:count]] if count > 1 else []


def _has_gpu(cells: Sequence[AblateRun]) -> bool:
    if all(cell.model.device == "cpu" for cell in cells):
        return False
    import torch

    return torch.cuda.device_count() > 0 or any(cell.model.device not in ("auto", "cpu") for cell in cells)


def _own_threads() -> int:
    """The number of threads to which the user limits a process; without a limit, all cores."""
    given = os.environ.get(THREADS, "")
    return int(given) if given.isdigit() and int(given) else usable_cores()
