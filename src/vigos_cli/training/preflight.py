"""What keeps a run from learning anything, or makes it learn from less than its settings say.

    print("\\n".join(notes(config, len(data))))     # what is allowed but may not have been meant, a line each
    empty = EmptySteps(steps)
    empty.see(line)                                # UserError where no row can be used, step after step

Settings that contradict each other are refused earlier, in `vigos_cli.config.schema`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vigos_cli.config.schema import DistillRun
from vigos_cli.method.routing import trains
from vigos_cli.utils.errors import UserError

PATIENCE = 3  # steps in a row without a usable row before a run gives up
HINTS = {
    "prompt_too_long": "raise model.max_prompt, or lower model.max_pixels",
    "no_other_answer": "all rows have the same answer, so routing.reference_text=other_answer has no other",
}


def notes(config: DistillRun, rows: int) -> list[str]:
    """What a user should know before a run with this many rows of data starts."""
    if config.routing.completion == "two_pass":
        return []  # its student is measured and never trained: that is what it is for
    if not trains(config.routing):
        return [f"routing={config.routing.name}: no token has a teacher, so the student is only measured"]
    prompts = config.trainer.batch // config.rollout.n
    if rows < prompts:
        return [
            f"data: {rows} rows are fewer than the {prompts} prompts of a step, so each step repeats rows; "
            f"trainer.batch={rows * config.rollout.n} takes each row once"
        ]
    return []


class EmptySteps:
    """Gives up when no row could be used in three steps in a row, or in any step of a shorter run."""

    def __init__(self, steps: int):
        self.limit, self.steps = min(PATIENCE, steps), 0
        self.rules: Counter[str] = Counter()

    def see(self, line: Mapping[str, Any]) -> None:
        """Look at the report of one step. Raises UserError, on all processes alike."""
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
