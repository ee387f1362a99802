"""Which cells a sweep has, what makes two of them the same, and where each of them lives.

    cells = planned(config)          # of a composed `vigos ablate`, without running any
    cells[0].name, cells[0].key      # "routing=vigos,seed=1", "3f2a9c1b5e"
    folder(sweep, cells[0])          # sweep/routing=vigos,seed=1-3f2a9c1b5e

A cell is known by the digest of its whole configuration. So the same command, or another that has a cell in
common with it, finds a cell that is done whatever its number or its place in the sweep was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

from omegaconf import DictConfig

from vigos_cli.compose import typed
from vigos_cli.config import AblateRun, ConfigError, DistillRun, may_change
from vigos_cli.files import write_json
from vigos_cli.provenance import flat

LIST = "cells.json"  # in a sweep's folder: its cells in the order in which they were asked for
SUMMARY, ERROR, STARTED = "summary.json", "error.txt", "config.json"  # in a cell's folder
State = Literal["done", "failed", "cut short", "not run"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of a sweep's values."""

    name: str  # what is swept, as overrides
    key: str  # digest of the whole configuration
    config: AblateRun


def planned(config: DictConfig) -> list[Cell]:
    """The cells of a sweep in order. Raises ConfigError for a bad value in any of them, and for repeats."""
    from hydra import compose

    chosen = config.hydra.runtime.choices["hydra/sweeper"]
    if chosen != "basic":
        raise ConfigError(f"hydra/sweeper={chosen}: ablate compares a fixed grid; vigos distill -m searches")
    of_hydra = list(config.hydra.overrides.hydra)
    cells: dict[str, Cell] = {}
    for overrides in combinations(config):
        composed = compose("ablate", [*of_hydra, *overrides], return_hydra_config=True)
        run = cast(AblateRun, typed(composed, "ablate"))
        cell = Cell(str(composed.hydra.job.override_dirname), digest(run), run)
        if cell.key in cells:
            raise ConfigError(f"two cells are the same: {cells[cell.key].name} and {cell.name}")
        cells[cell.key] = cell
    return list(cells.values())


def combinations(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, as Hydra's own sweeper makes them: what is named last wins."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    values: dict[str, list[str]] = {}
    for item in OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task]):
        key = item.get_key_element()
        if item.is_sweep_override():
            values[key] = [f"{key}={value}" for value in item.sweep_string_iterator()]
        else:
            values[key] = [f"{key}={item.get_value_element_as_str()}"]
    return [list(choice) for choice in product(*values.values())]


def as_distill(config: AblateRun) -> DistillRun:
    """What of a cell is a run; the rest is about the sweep and its report."""
    return DistillRun(**{item.name: getattr(config, item.name) for item in fields(DistillRun)})


def digest(config: AblateRun) -> str:
    """Ten digits that stand for all that a continued run must have in common with its start.

    Keys at the schema's default are left out, so that a key which a later version adds makes no new cell.
    """
    usual, content = flat(asdict(DistillRun())), flat(asdict(as_distill(config)))
    return hashed({k: v for k, v in content.items() if not may_change(k) and v != usual.get(k)})


def hashed(content: Any) -> str:
    """Ten digits that stand for something that JSON can hold."""
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def folder_name(composed: DictConfig) -> str:
    """The folder of a composed cell within its sweep (the resolver behind `hydra.sweep.subdir`)."""
    cell = cast(AblateRun, typed(composed, "ablate"))
    return _folder_name(
        Path(composed.hydra.sweep.dir), str(composed.hydra.job.override_dirname), digest(cell)
    )


def folder(sweep: Path, cell: Cell) -> Path:
    """Where a cell lives."""
    return sweep / _folder_name(sweep, cell.name, cell.key)


def _folder_name(sweep: Path, name: str, key: str) -> str:
    """That of the cell with this key if it is there, under whatever name it was first asked for."""
    there = sorted(path.name for path in sweep.glob(f"*-{key}"))
    slug = re.sub(r"[^\w.,=-]+", "_", name.replace("+", ""))[:100]
    return there[0] if there else f"{slug or 'cell'}-{key}"


def state(cell: Path) -> State:
    """What has become of the cell in this folder."""
    if (cell / SUMMARY).exists():
        return "done"
    if (cell / ERROR).exists():
        return "failed"
    return "cut short" if (cell / STARTED).exists() else "not run"


def remember(sweep: Path, cells: Sequence[Cell]) -> None:
    """Add cells to the sweep's list: what was asked for before, in the same folder, stays on it."""
    listed = remembered(sweep)
    known = {line["folder"] for line in listed}
    for cell in cells:
        line = {"folder": folder(sweep, cell).name, "name": cell.name, "label": cell.config.label}
        if line["folder"] not in known:
            listed.append({**line, "config": asdict(as_distill(cell.config))})
    sweep.mkdir(parents=True, exist_ok=True)
    write_json(sweep / LIST, listed)


def remembered(sweep: Path) -> list[dict[str, Any]]:
    """The sweep's list: folder, name, label and configuration of every cell."""
    path = sweep / LIST
    return json.loads(path.read_text()) if path.exists() else []
