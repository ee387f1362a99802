"""Detect runs that would learn nothing, or from less data than their settings say.

    print("\\n".join(notes(config, len(data))))   # one line for each setting that may be a mistake
    empty = EmptySteps(steps)
    empty.see(line)                              # UserError if no row can be used in several steps

Settings that contradict each other are refused earlier, in `vigos_cli.config.schema`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from vigos_cli.config.schema import DistillRun
from vigos_cli.config.supervision_terms import trains
from vigos_cli.data.holdout import Holdout
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError

PATIENCE = 3  # steps in a row without a usable row after which a run stops
HINTS = {
    "prompt_too_long": "raise model.max_prompt, or lower model.max_pixels",
    "no_other_answer": "all rows have the same answer, so routing=other_answer has no other",
}


def notes(config: DistillRun, rows: int, held: Holdout | None = None) -> list[str]:
    """Lines to print before a run with this many rows to train on starts, and with these held back."""
    lines = []
    if held:
        lines.append(f"holdout: {len(held.left_out)} of {len(held.data)} rows are held back from training")
        lines += [f"holdout: {held.note}"] if held.note else []
    return lines + _of_settings(config, rows)


def _of_settings(config: DistillRun, rows: int) -> list[str]:
    if config.routing.student.writes == "caption":
        return []  # this control measures the student and never trains it
    if not trains(config.routing):
        return [f"routing={config.routing.name}: no token has a teacher, so nothing is trained"]
    prompts = config.trainer.batch // config.rollout.n
    if rows < prompts:
        return [
            f"data: {rows} rows are fewer than the {prompts} prompts of a step, so each step repeats rows; "
            f"trainer.batch={rows * config.rollout.n} takes each row once"
        ]
    return []


class EmptySteps:
    """Stops a run if no row could be used in three steps in a row, or in all steps of a shorter run."""

    def __init__(self, steps: int):
        self.limit, self.steps = min(PATIENCE, steps), 0
        self.rules: Counter[str] = Counter()
        self.unsupervised = 0  # steps in a row in which no token had a teacher

    def _see_supervision(self, line: Mapping[str, Any]) -> None:
        """Warn once if the rollouts of several steps in a row have no supervised token."""
        nothing = line["rollouts"] and not line.get("supervised_tokens")
        self.unsupervised = self.unsupervised + 1 if nothing else 0
        if self.unsupervised == self.limit and process_group.rank() == 0:
            print(
                f"vigos: no token of {self.limit} steps in a row is supervised: does a rollout have the "
                "sibling, or disagree, as the routing asks?",
                file=sys.stderr,
            )

    def see(self, line: Mapping[str, Any]) -> None:
        """Check the report of one step. Raises UserError, on all processes at the same step."""
        self._see_supervision(line)
        if line["rollouts"]:
            self.steps = 0
            self.rules.clear()
            return
        self.steps += 1
        for name, count in line.items():
            if name.startswith("counts/") and not name.startswith("counts/step_"):
                self.rules[name.removeprefix("counts/")] += count
        if self.steps >= self.limit:
            rules = ", ".join(f"{rule} {n}" for rule, n in self.rules.most_common())
            hint = next((HINTS[rule] for rule, _ in self.rules.most_common() if rule in HINTS), "")
            raise UserError(
                f"no row could be used in {self.steps} steps in a row, so nothing is learned ({rules})"
                + (f": {hint}" if hint else "")
            )
