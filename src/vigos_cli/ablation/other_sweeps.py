"""Copy cells that another sweep has finished (`reuse=[runs/main]`).

    places = find_finished(cells, sweep, ["runs/main"])     # key of a cell -> the folder that holds it
    copy_finished(cells, sweep, places)                     # each folder is copied completely or not at all

The key of a cell is the digest of its configuration, which ends the name of its folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vigos_cli.ablation.cells import Cell, cell_folder, cell_state, read_list
from vigos_cli.ablation.made_once import find_made
from vigos_cli.config import torchrun
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import drafted_folder, write_json

REUSED = "reused.json"  # in a cell's folder: where it was copied from


def find_finished(cells: Sequence[Cell], sweep: Path, others: Sequence[str]) -> dict[str, Path]:
    """The cells that are not done in `sweep`, but are done in one of `others` (the first one counts)."""
    for other in others:
        if not read_list(Path(other)):
            raise ConfigError(f"reuse={other} contains no sweep: choose an output folder of vigos ablate")
    places: dict[str, Path] = {}
    for cell in cells:
        if cell_state(cell_folder(sweep, cell)) == "done":
            continue
        for other in others:
            if found := find_made(Path(other).glob(f"[!.]*-{cell.key}"), cell.key, _key_of):
                places[cell.key] = found
                break
    return places


def _key_of(folder: Path) -> str | None:
    return folder.name.rpartition("-")[2] if cell_state(folder) == "done" else None


def copy_finished(cells: Sequence[Cell], sweep: Path, places: Mapping[str, Path]) -> None:
    """Copy the cells without their checkpoints: a cell that is done is not resumed.

    If there are several processes, the first one copies, and the others wait until the cells are there.
    """
    for cell in cells:
        if (source := places.get(cell.key)) is None:
            continue
        home = cell_folder(sweep, cell)
        if torchrun.launched_rank():
            while cell_state(home) != "done":
                time.sleep(0.2)
            continue
        sweep.mkdir(parents=True, exist_ok=True)
        with drafted_folder(home) as draft:
            shutil.copytree(source, draft, ignore=shutil.ignore_patterns("checkpoints", ".*.draft"))
            write_json(draft / REUSED, {"from": str(source)})
