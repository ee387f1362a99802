"""PALR of a cell, measured after it has learned: what do its teachers support its tokens with?

Leaves in the cell's folder what `vigos rollout looking=true` does: rollouts.jsonl, summary.json, the page.

    looking/base           rollouts of the untrained student, scored under the cell's routing
    looking/own            rollouts of the cell's own adapter, likewise
    looking/looked.json    how many rows, and the seconds; its presence says that the cell is measured

All cells are asked the same rows, one rollout each: the first of the training data as SEED draws them. So the
untrained student's rollouts are sampled once for all cells that start alike, and scored once a routing.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

from vigos_cli.ablation.cells import SUMMARY
from vigos_cli.ablation.once import once
from vigos_cli.config.provenance import recorded
from vigos_cli.config.run_digest import hashed
from vigos_cli.config.schema import KINDS, AblateRun, RolloutRun, RoutingConfig, RunConfig
from vigos_cli.utils.files import drafted_folder, write_json

LOOKING, BASE, OWN = "looking", "base", "own"  # folders
LOOKED, ERROR = "looked.json", "error.txt"  # files of the first
SEED = 0
WHENCE = ("rollouts",)  # where a run has its rollouts from; sampled anew they would be the same


def look(config: AblateRun) -> None:
    """Measure a finished cell where that is asked for and not done; a failure is written down beside it."""
    cell = Path(config.out)
    if not wanted(asdict(config), config.palr_rows, cell):
        return
    folder, began = cell / LOOKING, time.perf_counter()
    folder.mkdir(exist_ok=True)
    for name in (ERROR, LOOKED):
        (folder / name).unlink(missing_ok=True)
    try:
        base = as_rollout_run(cell, config.palr_rows, own=False)
        with once(cell.parent / f".looking-{_digest(base)}.lock", lambda: is_done(base) or _copied(base)):
            if not is_done(base):
                base.rollouts = _beside(base, but=(*WHENCE, "routing"))
                _sample(base)
        own = as_rollout_run(cell, config.palr_rows, own=True)
        if not is_done(own):
            _sample(own)
        seconds = round(time.perf_counter() - began, 2)
        write_json(folder / LOOKED, {"rows": config.palr_rows, "seconds": seconds})
    except Exception as error:
        (folder / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
        print(f"vigos: PALR of {cell.name} failed: {error} (traceback in {folder / ERROR})", file=sys.stderr)


def wanted(config: Mapping[str, Any], rows: int, cell: Path) -> bool:
    """Whether the cell has a PALR on so many rows that is not measured yet."""
    if not rows or left_out(config["routing"]):
        return False
    path = cell / LOOKING / LOOKED
    return not path.exists() or json.loads(path.read_text())["rows"] != rows


def left_out(routing: Mapping[str, Any]) -> str | None:
    """Why a routing has no PALR; None where it has one."""
    if routing["completion"] == "reference":
        return "it learns from the reference itself and has no teacher"
    cells = [routing[kind] for kind in KINDS if kind != "invalid"]
    roles = {role for cell in cells for role in (cell if isinstance(cell, list) else [cell])}
    if routing["completion"] != "student" or not roles - {"none", "target"}:
        return "no token has a teacher"
    if routing["reference_text"] == "solution" and roles - {"none", "target", "perception"}:
        return "its teachers are told a worked solution, and a wrong answer is none"
    return None


def diagnosed(routing: RoutingConfig) -> RoutingConfig:
    """The routing whose PALR is taken: a plain student is asked for the structure, or it has no segments."""
    if routing.student == "structured":
        return routing
    return replace(routing, student="structured", description=routing.reasoning)


def as_rollout_run(cell: Path, rows: int, *, own: bool) -> RolloutRun:
    """`vigos rollout looking=true`, of what the cell started from or of its own adapter."""
    saved = json.loads((cell / SUMMARY).read_text())["config"]  # its prompts are settled
    parts: dict[str, Any] = {}
    for item in fields(RunConfig):
        make, value = item.default_factory, saved[item.name]
        parts[item.name] = cast(Any, make)(**value) if is_dataclass(make) else value
    adapter = replace(parts["adapter"], path=str(cell / "adapter")) if own else parts["adapter"]
    parts |= {
        "seed": SEED,
        "out": str(cell / LOOKING / (OWN if own else BASE)),
        "resume": "auto",
        "limit": min(rows, saved["limit"] or rows),
        "routing": diagnosed(parts["routing"]),
        "rollout": replace(parts["rollout"], n=1),
        "adapter": adapter,
    }
    return RolloutRun(**parts, looking=True)


def is_done(run: RolloutRun) -> bool:
    """Whether its folder holds just this, finished."""
    return (Path(run.out) / SUMMARY).exists() and _same(run, Path(run.out), WHENCE)


def _sample(run: RolloutRun) -> None:
    from vigos_cli.utils.quiet import quieten

    quieten()
    from vigos_cli.analysis.rollout_run import sample_settled

    if not _same(run, Path(run.out), ()):  # of other rows, or begun in another way or place
        shutil.rmtree(run.out, ignore_errors=True)
    sample_settled(run)


def _copied(run: RolloutRun) -> bool:
    """Take over the same run of a cell beside this one; whether there was one."""
    if (found := _beside(run, WHENCE)) is None:
        return False
    with drafted_folder(Path(run.out)) as draft:
        shutil.copytree(found, draft)
    return True


def _beside(run: RolloutRun, but: tuple[str, ...]) -> str | None:
    """The folder of a finished run in a cell beside this one that differs in these groups at most."""
    sweep = Path(run.out).parents[2]
    for summary in sorted(sweep.glob(f"[!.]*/{LOOKING}/{BASE}/{SUMMARY}")):
        if _same(run, summary.parent, but):
            return str(summary.parent)
    return None


def _same(run: RolloutRun, folder: Path, but: tuple[str, ...]) -> bool:
    """Whether the run in the folder was started with this configuration, the groups `but` aside."""
    path = folder / "config.json"
    if not path.exists():
        return False
    return _content(asdict(run), but) == _content(json.loads(path.read_text()), but)


def _content(config: Mapping[str, Any], but: tuple[str, ...]) -> dict[str, Any]:
    ignored = {"out", "resume", *but}  # the student's form always counts: it is its prompt
    content = recorded(json.loads(json.dumps(config)), RolloutRun)
    return {k: v for k, v in content.items() if k.split(".")[0] not in ignored or k == "routing.student"}


def _digest(run: RolloutRun) -> str:
    """The same for cells whose untrained rollouts are the same."""
    return hashed(_content(asdict(run), (*WHENCE, "routing")))
