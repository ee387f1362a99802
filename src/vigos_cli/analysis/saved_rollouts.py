"""Read the rollouts of an earlier run, to score them under another routing.

earlier = read_saved_rollouts(config)      # row of the data -> its lines of rollouts.jsonl, by draw
rollouts = restored_rollouts(student, prepared, earlier)

App. A of the paper compares methods on the same rollouts.
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
# Keys in which the scoring run may differ from the run that sampled.
OWN = ("out", "resume", "limit", "rollout", "rollouts", "looking", "routing", "loss")


def read_saved_rollouts(config: RolloutRun) -> tuple[Lines, int | None]:
    """The lines of `config.rollouts/rollouts.jsonl`, by row and draw, and that run's `limit`.

    Raises ConfigError if they were sampled from another student, prompt or data.
    """
    folder = Path(config.rollouts or "")
    lines = read_lines(folder / "rollouts.jsonl")
    if not lines or not (folder / "config.json").is_file():
        raise ConfigError(f"rollouts={folder}: not the output folder of vigos rollout")
    saved = json.loads((folder / "config.json").read_text())
    for name, then, now in differences(saved, config):
        if name.split(".")[0] not in OWN or name.startswith("routing.student."):
            raise ConfigError(f"rollouts={folder}: these were sampled with {name}={then}, not {now}")
    rows: Lines = {}
    for line in sorted(lines, key=lambda line: (line["row"], line["draw"])):
        rows.setdefault(line["row"], []).append(line)
    if config.limit is not None:
        rows = {row: rows[row] for row in sorted(rows)[: config.limit]}
    return rows, saved["limit"]


def restored_rollouts(
    student: Student, prepared: Sequence[Prepared], earlier: Mapping[int, Sequence[Mapping[str, Any]]]
) -> list[tuple[Prepared, Rollout]]:
    """The saved rollouts of these samples. Raises UserError if the data has changed since."""
    rollouts = []
    for item in prepared:
        for line in earlier[int(item.key)]:
            if (line["id"], line["prompt_tokens"]) != (item.sample.id, len(item.prompt.ids)):
                raise UserError(
                    f"row {item.key} of the data is {item.sample.id}, but its saved rollouts are of "
                    f"{line['id']}: the data have changed"
                )
            request = Request(item.key, item.prompt, line["draw"])
            rollouts.append((item, as_rollout(student, request, line["token_ids"])))
    return rollouts
