"""The cells of a sweep: their configurations, keys, folders and states.

    cells = plan_cells(config)       # from the composed configuration of `vigos ablate`; runs nothing
    cells[0].name, cells[0].key      # "routing=vigos,seed=1", "3f2a9c1b5e"
    cell_folder(sweep, cells[0])     # sweep/routing=vigos,seed=1-3f2a9c1b5e

The key of a cell is the digest of its whole configuration. So every command whose sweep contains this
configuration finds a finished cell again, whatever its place in the sweep.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

from omegaconf import DictConfig

from vigos_cli.config.compose import typed
from vigos_cli.config.run_digest import as_distill, cell_folder_name, digest
from vigos_cli.config.run_folder import has_results
from vigos_cli.config.schema import AblateRun
from vigos_cli.utils.errors import ConfigError, nearest
from vigos_cli.utils.files import write_json

LIST = "cells.json"  # in a sweep's folder: its cells in the order in which they were asked for
SUMMARY, ERROR, STARTED = "summary.json", "error.txt", "config.json"  # in a cell's folder
State = Literal["done", "failed", "cut short", "not run"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of a sweep's values."""

    name: str  # the values that are swept, as overrides
    key: str  # digest of the whole configuration
    config: AblateRun
    composed: DictConfig | None = None  # `config` as Hydra composed it, with the node `hydra`


def plan_cells(config: DictConfig) -> list[Cell]:
    """The cells of a sweep in order.

    Raises ConfigError for a bad value in any cell, for two cells that are the same, and for a Hydra sweeper
    that chooses the cells itself.
    """
    from hydra.core.global_hydra import GlobalHydra

    chosen = config.hydra.runtime.choices["hydra/sweeper"]
    if chosen != "basic":
        raise ConfigError(
            f"hydra/sweeper={chosen}: vigos ablate compares a fixed grid; to search, use vigos distill -m"
        )
    loader = GlobalHydra.instance().config_loader()
    cells: dict[str, Cell] = {}
    choices = combinations(config)
    swept = [values[0].split("=", 1)[0] for values in zip(*choices, strict=True) if len(set(values)) > 1]
    if wrong := next((key for key in config.repeat_over if key not in swept), None):
        raise ConfigError(f"repeat_over=[{wrong}]: {nearest(wrong, swept)}this sweep does not vary it")
    for overrides in choices:
        composed = loader.load_sweep_config(config, overrides)
        run = cast(AblateRun, typed(composed, "ablate"))
        cell = Cell(str(composed.hydra.job.override_dirname), digest(run), run, composed)
        if cell.key in cells:
            raise ConfigError(f"two cells are the same: {cells[cell.key].name} and {cell.name}")
        cells[cell.key] = cell
    return list(cells.values())


def combinations(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, as Hydra's own sweeper makes them: the last value of a key counts."""
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


def cell_folder(sweep: Path, cell: Cell) -> Path:
    """The folder of a cell."""
    return sweep / cell_folder_name(sweep, cell.name, cell.key)


def cell_state(cell: Path) -> State:
    """The state of the cell in this folder, read from the files that it left."""
    if (cell / SUMMARY).exists():
        return "done"
    if (cell / ERROR).exists():
        return "failed"
    return "cut short" if (cell / STARTED).exists() else "not run"


def add_to_list(sweep: Path, cells: Sequence[Cell]) -> None:
    """Add cells to the sweep's list; cells of earlier commands with the same folder stay on it.

    Only a cell that failed before its first result is taken off the list, unless it is one of `cells`: a
    corrected command has another cell in its place.
    """
    wanted = {cell_folder(sweep, cell).name for cell in cells}
    listed = [
        line
        for line in read_list(sweep)
        if line["folder"] in wanted or not _failed_at_start(sweep / line["folder"])
    ]
    known = {line["folder"] for line in listed}
    for cell in cells:
        line = {"folder": cell_folder(sweep, cell).name, "name": cell.name, "label": cell.config.label}
        if line["folder"] not in known:
            listed.append({**line, "config": asdict(as_distill(cell.config))})
    sweep.mkdir(parents=True, exist_ok=True)
    write_json(sweep / LIST, listed)


def _failed_at_start(cell: Path) -> bool:
    return cell_state(cell) == "failed" and not has_results(cell)


def read_list(sweep: Path) -> list[dict[str, Any]]:
    """The sweep's list: folder, name, label and configuration of every cell; empty if there is none."""
    path = sweep / LIST
    return json.loads(path.read_text()) if path.exists() else []
