"""Run the cells of a sweep in worker processes, and print one line for each cell that has ended.

    cell 3 of 40: routing=vigos,seed=2  0.000 before, 0.892 after  71 s
    vigos: routing=sft,seed=2-3f2a9c1b5e failed: no such file (see error.txt and output.log in its folder)

Every cell writes to output.log in its folder what it would print. The order of the cells is chosen so that no
process waits or idles for long:

- first one cell for each untrained model, because other cells wait for its answers (`untrained_answers`);
- then the long cells before the short ones, so that all processes end at about the same time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf, open_dict

from vigos_cli.ablation.cell_job import OUTPUT, run_composed
from vigos_cli.ablation.cells import ERROR, SUMMARY, Cell, cell_folder, cell_state
from vigos_cli.ablation.forecast import CellForecast
from vigos_cli.ablation.side_by_side import Job, run_side_by_side
from vigos_cli.ablation.untrained_answers import untrained_key
from vigos_cli.ablation.workers import Environment
from vigos_cli.config.ignored_keys import ignored_keys
from vigos_cli.reporting.measures import main_figure
from vigos_cli.utils.progress import Bar, duration


def run_cells(
    config: DictConfig, sweep: Path, cells: Sequence[CellForecast], environments: Sequence[Environment]
) -> None:
    """Run the unfinished cells; `config` is the composed configuration of `vigos ablate`."""
    OmegaConf.save(config, sweep / "multirun.yaml")  # as Hydra's sweeper does
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    numbers = {one.cell.key: number for number, one in enumerate(cells)}
    todo = {one.cell.key: one.cell for one in in_order([one for one in cells if _is_unfinished(one)])}
    folders = {key: cell_folder(sweep, cell) for key, cell in todo.items()}
    jobs = [Job(key, (_composed(cell, numbers[key]), folders[key])) for key, cell in todo.items()]
    with Bar("cells", len(cells), len(cells) - len(jobs)) as bar:

        def ended(job: Job, seconds: float, died: str | None) -> None:
            folder = folders[job.key]
            if died:
                _record_death(folder, died)
            bar.advance()
            if cell_state(folder) == "done":
                text = f"cell {bar.done} of {len(cells)}: {todo[job.key].name}  {_figures(folder)}"
                print(text + duration(seconds), flush=True)
            else:
                print(f"vigos: {_why_not_done(folder)}", file=sys.stderr, flush=True)

        run_side_by_side(jobs, environments, run_composed, ended)


def in_order(cells: Sequence[CellForecast]) -> list[CellForecast]:
    """The cells in the order in which they are started; see the module docstring."""
    makers: dict[str, CellForecast] = {}
    for one in cells:
        makers.setdefault(json.dumps(untrained_key(asdict(one.cell.config)), sort_keys=True), one)
    first = list(makers.values())
    others = [one for one in cells if one not in first]
    return [*first, *sorted(others, key=lambda one: -(one.remaining or 0.0))]


def _is_unfinished(one: CellForecast) -> bool:
    """Whether the cell has something to do; one that stopped because of a collapse may have to go on."""
    return one.state != "done" or one.palr != 0 or not one.cell.config.trainer.stop_on_collapse


def _composed(cell: Cell, number: int) -> DictConfig:
    """The configuration as a launcher of Hydra gives it to a job; prints what of it will be ignored."""
    assert cell.composed is not None
    for line in ignored_keys(cell.config, list(cell.composed.hydra.overrides.task)):
        print(f"vigos: {line}: {cell.name} ignores it", file=sys.stderr)
    with open_dict(cell.composed):
        cell.composed.hydra.job.id = cell.composed.hydra.job.num = number
    return cell.composed


def _record_death(folder: Path, how: str) -> None:
    """Leave an error.txt for a cell whose process has died, as a cell that fails does itself."""
    folder.mkdir(parents=True, exist_ok=True)
    more = "; if the machine has too little memory, set a smaller workers=" if how == "signal SIGKILL" else ""
    (folder / ERROR).write_text(f"the process of this cell ended with {how}{more}\n", encoding="utf-8")


def _figures(folder: Path) -> str:
    """The main figure before and after training."""
    summary = json.loads((folder / SUMMARY).read_text())
    before, after = main_figure(summary["before"]), main_figure(summary["after"])
    return "" if before is None or after is None else f"{before:.3f} before, {after:.3f} after  "


def _why_not_done(folder: Path) -> str:
    lines: Iterable[str] = ()
    if cell_state(folder) == "failed":
        lines = (folder / ERROR).read_text(encoding="utf-8").strip().splitlines()
    why = [*lines][-1] if lines else "it has not finished"
    return f"{folder.name} failed: {why} (see {ERROR} and {OUTPUT} in {folder})"
