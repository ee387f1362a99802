"""Hold back rows of a run's data for `bench=holdout`, and limit how many of them are asked.

    held = hold_back(out, data, config)      # None for a run without bench=holdout

The rows and the number that is asked are written once, to holdout.json; a resumed run reads them there, even
if it has another `bench.batch`. So the same rows are asked before, during and after training.

The limit, `bench.share`, is counted in sampled tokens and not in seconds, so that a run on a faster machine
asks the same rows. Training samples `trainer.batch` answers in each step. It then also scores them and
learns from them, so in time the share is usually smaller; the end of a run prints it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path

from vigos_cli.config.provenance import flat
from vigos_cli.config.run_digest import hashed
from vigos_cli.config.schema import DistillRun, may_change
from vigos_cli.data.fingerprint import fingerprint
from vigos_cli.data.holdout import FILE, Holdout, choose_holdout, read_holdout
from vigos_cli.data.load import TableData
from vigos_cli.evaluation.held_back import unprotected
from vigos_cli.training.schedule import total_steps
from vigos_cli.types import Sample
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import write_json

LEAST = 16  # rows that are asked however short the run is; with fewer an interval says nothing


def hold_back(out: Path, data: Sequence[Sample], config: DistillRun) -> Holdout | None:
    """The rows that the run holds back, and how many it asks; None if it has no bench=holdout.

    All processes call it; the first one chooses the rows. Raises ConfigError if no row can be held back.
    """
    if "holdout" not in config.bench.tasks:
        return None
    if not isinstance(data, TableData):
        raise ConfigError("bench=holdout needs rows of your own; with data=priorworld use bench=priorworld")
    content = process_group.gather(_content(out, data, config) if process_group.rank() == 0 else None)[0]
    assert content
    return read_holdout(data, content)


def _content(out: Path, data: TableData, config: DistillRun) -> dict[str, object]:
    """The content of holdout.json: read from the run's folder, or made and written there."""
    task, text_only = config.bench.tasks["holdout"], config.data.text_only == "keep"
    settings = {name: value for name, value in flat(asdict(config)).items() if not may_change(name)}
    key, file = hashed([fingerprint(data), settings]), out / FILE
    saved = json.loads(file.read_text()) if file.exists() else {}
    if saved.get("key") == key:
        return saved
    held = choose_holdout(data, task.rows, text_only=text_only)
    fitting = rows_in_share(config, total_steps(config, len(data) - len(held.left_out)))
    allowed = min(len(held.rows), task.limit or len(held.rows))
    held = replace(held, asked=number_asked(allowed, fitting))
    notes = []
    if fitting < allowed:
        share = f"{config.bench.share:.0%} of the run (bench.share)"
        many = f"{held.asked} of the {len(held.rows)} rows held back are asked"
        few = f"{many}, the least number; so the evaluations take more than {share}"
        notes.append(few if fitting < held.asked else f"{many}, so that the evaluations take at most {share}")
    notes.append(unprotected(config.adapter.path, held))
    content = {"key": key, **replace(held, note="; ".join(filter(None, notes))).content()}
    write_json(file, content)
    return content


def number_asked(allowed: int, fitting: int | float) -> int:
    """How many of the `allowed` held-back rows a run asks, if `fitting` rows fit in the share."""
    return int(min(allowed, max(LEAST, fitting)))


def rows_in_share(config: DistillRun, steps: int) -> int | float:
    """How many rows all evaluations of a run can ask within `bench.share` of the run.

    It is the same for every routing, so that the cells of a sweep ask the same rows. An answer counts as many
    tokens as it may have. In process, a smaller batch than that of the rollouts takes accordingly longer.
    """
    bench, rollout = config.bench, config.rollout
    if bench.share == 1:
        return inf
    rollouts = steps * config.trainer.batch * rollout.max_new_tokens
    during = (steps - 1) // config.trainer.eval_every if config.trainer.eval_every else 0
    answers = 2 * (1 + bench.samples) + during  # to each row: those during training are greedy only
    slower = max(1.0, rollout.batch / bench.batch) if rollout.name == "hf" else 1.0
    fitting = bench.share / (1 - bench.share) * rollouts / (answers * bench.max_new_tokens * slower)
    return int(fitting)
