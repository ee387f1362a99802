"""Rollouts of an earlier run, scored again under another routing (App. A compares methods on the same ones).

earlier = read(config)                 # row of the data -> its lines of rollouts.jsonl, in the order of draws
rollouts = again(student, prepared, earlier)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vigos_cli.config.provenance import differences
from vigos_cli.config.schema import RolloutRun
from vigos_cli.generation.sampler import Request, as_rollout
from vigos_cli.models.student import Student
from vigos_cli.supervision.batches import Prepared
from vigos_cli.types import Rollout
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.files import read_lines

Lines = dict[int, list[dict[str, Any]]]
OWN = ("out", "resume", "limit", "rollout", "rollouts", "looking", "routing")  # what scoring may change


def read(config: RolloutRun) -> tuple[Lines, int | None]:
    """The lines at `config.rollouts`, by row and draw, and the run's `limit`.

    Raises ConfigError where they were sampled from another student, prompt or data.
    """
    folder = Path(config.rollouts or "")
    lines = read_lines(folder / "rollouts.jsonl")
    if not lines or not (folder / "config.json").is_file():
        raise ConfigError(f"rollouts={folder}: not the folder of a run of vigos rollout")
    saved = json.loads((folder / "config.json").read_text())
    for name, then, now in differences(saved, config):
        if name.split(".")[0] not in OWN or name == "routing.student":
            raise ConfigError(f"rollouts={folder}: these were sampled with {name}={then}, not {now}")
    rows: Lines = {}
    for line in sorted(lines, key=lambda line: (line["row"], line["draw"])):
        rows.setdefault(line["row"], []).append(line)
    if config.limit is not None:
        rows = {row: rows[row] for row in sorted(rows)[: config.limit]}
    return rows, saved["limit"]


def again(
    student: Student, prepared: Sequence[Prepared], earlier: Mapping[int, Sequence[Mapping[str, Any]]]
) -> list[tuple[Prepared, Rollout]]:
    """What was sampled for these samples. Raises UserError where the data has changed since."""
    rollouts = []
    for item in prepared:
        for line in earlier[int(item.key)]:
            if (line["id"], line["prompt_tokens"]) != (item.sample.id, len(item.prompt.ids)):
                raise UserError(f"row {item.key} is {item.sample.id}; the rollouts there are of {line['id']}")
            request = Request(item.key, item.prompt, line["draw"])
            rollouts.append((item, as_rollout(student, request, line["token_ids"])))
    return rollouts
