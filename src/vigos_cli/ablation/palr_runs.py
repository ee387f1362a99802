"""Measure PALR in a finished cell: what its teachers' support of each token depends on.

It writes the same files as `vigos rollout looking=true` (rollouts.jsonl, summary.json, the page) to the cell:

    looking/base           rollouts of the untrained student, scored under the cell's routing
    looking/own            rollouts of the cell's own adapter, scored in the same way
    looking/looked.json    the number of rows and the seconds; written last, so it marks a measured cell

All cells use the same rows, one rollout each: the first rows of the training data in the order of SEED. So
the untrained student's rollouts are sampled once for all cells with the same model, adapter, prompt and data,
and they are scored once per routing.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from vigos_cli.ablation.cells import SUMMARY
from vigos_cli.ablation.made_once import find_made, lock_file, made_once
from vigos_cli.config.compose import restored
from vigos_cli.config.provenance import recorded
from vigos_cli.config.routing_checks import why_no_palr
from vigos_cli.config.schema import AblateRun, RolloutRun, RoutingConfig, may_change
from vigos_cli.utils.files import drafted_folder, write_json

LOOKING, BASE, OWN = "looking", "base", "own"  # folders
LOOKED, ERROR = "looked.json", "error.txt"  # files in the folder LOOKING
SEED = 0
SOURCE = ("rollouts",)  # key of the saved rollouts; not compared, because sampling again gives the same ones


def measure_palr(config: AblateRun) -> None:
    """Measure a finished cell if PALR is asked for and missing; a failure is written to looking/error.txt."""
    cell = Path(config.out)
    if not needs_palr(config.routing, config.palr_rows, cell):
        return
    folder, began = cell / LOOKING, time.perf_counter()
    folder.mkdir(exist_ok=True)
    for name in (ERROR, LOOKED):
        (folder / name).unlink(missing_ok=True)
    try:
        _measure_base(as_rollout_run(cell, config.palr_rows, own=False))
        own = as_rollout_run(cell, config.palr_rows, own=True)
        if not is_done(own):
            _sample(own)
        seconds = round(time.perf_counter() - began, 2)
        write_json(folder / LOOKED, {"rows": config.palr_rows, "seconds": seconds})
    except Exception as error:
        (folder / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
        print(f"vigos: PALR of {cell.name} failed: {error} (traceback in {folder / ERROR})", file=sys.stderr)


def needs_palr(routing: RoutingConfig, rows: int, cell: Path) -> bool:
    """Whether PALR on this number of rows is asked for, exists for the routing, and is not measured yet."""
    if not rows or why_no_palr(routing):
        return False
    path = cell / LOOKING / LOOKED
    return not path.exists() or json.loads(path.read_text())["rows"] != rows


def structured_routing(routing: RoutingConfig) -> RoutingConfig:
    """The routing for which PALR is measured: a student that only thinks gets the structured form."""
    if routing.student.format == "structured":
        return routing
    supervise = routing.supervise
    if supervise.all is None:
        supervise = replace(supervise, description=supervise.reasoning)
    return replace(routing, student=replace(routing.student, format="structured"), supervise=supervise)


def as_rollout_run(cell: Path, rows: int, *, own: bool) -> RolloutRun:
    """`vigos rollout looking=true` with the cell's own adapter, or with the weights that it started from."""
    saved = json.loads((cell / SUMMARY).read_text())["config"]  # here the prompts are already chosen
    run = cast(RolloutRun, restored(saved, RolloutRun))
    run.seed, run.resume, run.limit = SEED, "auto", min(rows, saved["limit"] or rows)
    run.out = str(cell / LOOKING / (OWN if own else BASE))
    run.routing = structured_routing(run.routing)
    run.rollout = replace(run.rollout, n=1)
    if own:
        run.adapter = replace(run.adapter, path=str(cell / "adapter"))
    return replace(run, looking=True)  # checks the whole once more


def is_done(run: RolloutRun) -> bool:
    """Whether the run's folder contains this run and the run is finished."""
    return _key_of(Path(run.out), SOURCE) == _key(asdict(run), SOURCE)


def _measure_base(run: RolloutRun) -> None:
    """Score the untrained student's rollouts, sampled once for all routings.

    Cells with the same sampling share a lock. If one of them has finished with the same routing, its scored
    rollouts are copied. If one has finished with another routing, its rollouts are scored again.
    """
    sampling = (*SOURCE, "routing")
    lock = lock_file(Path(run.out).parents[2], "looking", _key(asdict(run), sampling))
    with made_once(lock, lambda: is_done(run) or _copied(run)) as missing:
        if missing:
            if source := _in_other_cells(run, sampling):
                run.rollouts = str(source)
            _sample(run)


def _sample(run: RolloutRun) -> None:
    from vigos_cli.utils.quiet import quieten

    quieten()
    from vigos_cli.analysis.rollout_run import sample_settled

    out = Path(run.out)
    if _started_key(out, ()) != _key(asdict(run), ()):  # other rows, or started with other values
        shutil.rmtree(out, ignore_errors=True)
    sample_settled(run)


def _copied(run: RolloutRun) -> bool:
    """Copy the same run from another cell of the sweep; return whether there was one."""
    if (source := _in_other_cells(run, SOURCE)) is None:
        return False
    with drafted_folder(Path(run.out)) as draft:
        shutil.copytree(source, draft)
    return True


def _in_other_cells(run: RolloutRun, ignored: tuple[str, ...]) -> Path | None:
    """The folder of a finished run in the sweep that differs at most in the ignored groups."""
    places = (path.parent for path in Path(run.out).parents[2].glob(f"[!.]*/{LOOKING}/{BASE}/{SUMMARY}"))
    return find_made(places, _key(asdict(run), ignored), lambda place: _key_of(place, ignored))


def _key_of(place: Path, ignored: tuple[str, ...]) -> dict[str, Any] | None:
    """The key of the finished run in a folder; None if none is there."""
    return _started_key(place, ignored) if (place / SUMMARY).exists() else None


def _started_key(place: Path, ignored: tuple[str, ...]) -> dict[str, Any] | None:
    path = place / "config.json"
    return _key(json.loads(path.read_text()), ignored) if path.exists() else None


def _key(config: Mapping[str, Any], ignored: tuple[str, ...]) -> dict[str, Any]:
    """The configuration on which a run's rollouts depend, without the ignored groups.

    Keys that may change in a resumed run do not count. `routing.student` always counts, because it determines
    the prompt.
    """
    content = recorded(json.loads(json.dumps(config)), RolloutRun)
    return {
        k: v
        for k, v in content.items()
        if k.startswith("routing.student.") or not (may_change(k) or k.split(".")[0] in ignored)
    }
