"""Checkpoints on disk: adapter, optimizer, the teachers' weights and counters, never the base weights.

    checkpoints/step-000020/
        adapter.safetensors  optimizer.safetensors  teachers.safetensors  state.json

A checkpoint is written to a temporary folder and then renamed, so every `step-*` folder is complete. The
order of the data, the sampling and the schedule depend only on the step, so they need no state of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vigos_cli.utils.files import read_tensors

KEPT = "teachers.safetensors"  # averages and copies of the adapter that teachers have
KEEP = 2  # checkpoints of a run that stay on disk


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    adapter: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    kept: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of `step`, and delete all but the last `KEEP`."""
    folder.mkdir(parents=True, exist_ok=True)
    tidy(folder)
    place, draft = folder / f"step-{step:06d}", folder / f".draft-{os.getpid()}"
    draft.mkdir()
    save_file(dict(adapter), draft / "adapter.safetensors")
    tensors, scalars = flatten_optimizer(optimizer.state_dict())
    save_file(tensors, draft / "optimizer.safetensors")
    if kept:
        save_file({name: value.contiguous() for name, value in kept.items()}, draft / KEPT)
    (draft / "state.json").write_text(json.dumps({"step": step, "optimizer": scalars, **state}))
    for file in draft.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if place.exists():
        _delete(place)
    draft.rename(place)
    tidy(folder)
    return place


def tidy(folder: Path) -> None:
    """Delete all but the last `KEEP` checkpoints, and what a run that was killed while it saved has left."""
    for left in (*folder.glob(".draft*"), *folder.glob(".step-*")):
        shutil.rmtree(left)
    for old in saved_steps(folder)[:-KEEP]:
        _delete(old)


def _delete(place: Path) -> None:
    """Delete a checkpoint; it is renamed first, so that it is never found with files missing."""
    renamed = place.rename(place.with_name(f".{place.name}"))
    shutil.rmtree(renamed)


def saved_steps(folder: Path) -> list[Path]:
    """The folders of all complete checkpoints, oldest first; raises an OSError if `folder` cannot be read.

    (Path.glob would find nothing in such a folder, and the run would begin again and drop its metrics.)
    """
    names = os.listdir(folder) if folder.exists() else []
    places = [folder / name for name in names if re.fullmatch(r"step-\d+", name)]
    return sorted(places, key=lambda p: int(p.name.removeprefix("step-")))


def load_checkpoint(
    place: Path, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the optimizer's state into `optimizer`; return the teachers' weights and the saved counters.

    The adapter is in `adapter.safetensors`, which the caller loads.
    """
    state = json.loads((place / "state.json").read_text())
    scalars = state.pop("optimizer")
    optimizer.load_state_dict(unflatten_optimizer(read_tensors(place / "optimizer.safetensors"), scalars))
    kept = place / KEPT
    return read_tensors(kept) if kept.exists() else {}, state


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state dict into named tensors and plain JSON, so that nothing is pickled.

    A tensor's name is its path in the nested state: `0.exp_avg`, `0.__bnb_optimizer_quant_state__.qmap1`.
    """
    tensors: dict[str, Tensor] = {}

    def plain(values: Mapping[Any, Any], *path: str) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        for name, value in values.items():
            here = (*path, str(name))
            if isinstance(value, Tensor):
                tensors[".".join(here)] = value.detach().cpu().contiguous().clone()
            else:
                rest[str(name)] = plain(value, *here) if isinstance(value, Mapping) else value
        return rest

    return tensors, {"groups": state["param_groups"], "state": plain(state["state"])}


def unflatten_optimizer(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten_optimizer`."""
    state = deepcopy(scalars["state"])
    for name, value in tensors.items():
        *path, field = name.split(".")
        values = state
        for part in path:
            values = values.setdefault(part, {})
        values[field] = value
    return {"state": {int(i): values for i, values in state.items()}, "param_groups": scalars["groups"]}
