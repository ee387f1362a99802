"""Cells that another sweep has done: a cell is known by its configuration, so it need not be run twice.

places = find(cells, sweep, ["runs/main"])     # key of a cell -> the folder in which it is done
take_over(cells, sweep, places)                # copied into this sweep, whole or not at all
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vigos_cli.ablation.cells import Cell, folder, remembered, state
from vigos_cli.config import torchrun
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import drafted_folder, write_json

REUSED = "reused.json"  # in a cell's folder: where it was copied from


def find(cells: Sequence[Cell], sweep: Path, others: Sequence[str]) -> dict[str, Path]:
    """Of the cells that are not done in `sweep`, those that are in another; the first that has one counts."""
    for other in others:
        if not remembered(Path(other)):
            raise ConfigError(f"reuse={other}: holds no sweep; name the folder of a vigos ablate")
    places: dict[str, Path] = {}
    for cell in cells:
        if state(folder(sweep, cell)) != "done":
            there = [path for other in others for path in sorted(Path(other).glob(f"[!.]*-{cell.key}"))]
            if done := [path for path in there if state(path) == "done"]:
                places[cell.key] = done[0]
    return places


def take_over(cells: Sequence[Cell], sweep: Path, places: Mapping[str, Path]) -> None:
    """Copy them, without the checkpoints: what is done is not resumed."""
    for cell in cells:
        if (source := places.get(cell.key)) is None:
            continue
        home = folder(sweep, cell)
        if torchrun.launched_rank():  # the first process copies; the others must see the cell done as well
            while state(home) != "done":
                time.sleep(0.2)
            continue
        sweep.mkdir(parents=True, exist_ok=True)
        with drafted_folder(home) as draft:
            shutil.copytree(source, draft, ignore=shutil.ignore_patterns("checkpoints", ".*.draft"))
            write_json(draft / REUSED, {"from": str(source)})
