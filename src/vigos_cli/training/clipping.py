"""Report how many supervised tokens the clip of the loss leaves without a gradient.

    bar.advance(progress_note(line))          # loss 0.041  valid 0.97  no gradient 0.62
    watch = ClipWatch(config.loss, lines)     # the lines of metrics.jsonl; a resumed run continues its count
    watch.warn(line)                          # one line on stderr after ten steps above one half
    summary["zero_gradient_rate"] = zero_gradient_rate(lines)

The rate of a step is `zero_gradient_rate` of its line. docs/method.md says what each clip removes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from vigos_cli.config.schema import LossConfig

RATE = "zero_gradient_rate"
HIGH = 0.5  # share of a step's supervised tokens
PATIENCE = 10  # steps in a row above it before the warning


def progress_note(line: Mapping[str, Any]) -> str:
    """The text of the progress line for a step."""
    note = f"loss {line['loss']:.3f}  valid {line.get('valid_rate', 0):.2f}"
    return note + (f"  no gradient {line[RATE]:.2f}" if RATE in line else "")


def zero_gradient_rate(lines: Iterable[Mapping[str, Any]]) -> float | None:
    """Share of a run's supervised tokens that had no gradient; None if no token was supervised."""
    counted = [(line[RATE], line["supervised_tokens"]) for line in lines if RATE in line]
    tokens = sum(n for _, n in counted)
    return sum(rate * n for rate, n in counted) / tokens if tokens else None


def closing_note(loss: LossConfig, rate: float | None) -> str | None:
    """The line printed at the end of a run; None if its clip always leaves a gradient."""
    if rate is None or loss.clip not in ("token", "entry"):
        return None
    limit = f"loss.clip={loss.clip} at {loss.clip_value:g} nats"
    return f"{rate:.0%} of the supervised tokens had no gradient ({limit}; see docs/method.md)"


class ClipWatch:
    """Warns once when more than half of the supervised tokens had no gradient for ten steps in a row.

    `lines` are the steps before a resume. A step without supervised tokens is ignored: it does not count as
    one of the ten, and it does not interrupt them.
    """

    def __init__(self, loss: LossConfig, lines: Iterable[Mapping[str, Any]] = ()):
        self.loss, self.steps, self.warned = loss, 0, False
        for line in lines:
            self._count(line)

    def _count(self, line: Mapping[str, Any]) -> None:
        if RATE in line:
            self.steps = self.steps + 1 if line[RATE] > HIGH else 0

    def warn(self, line: Mapping[str, Any]) -> None:
        """Count one step; print the warning on stderr after the tenth."""
        self._count(line)
        if self.steps < PATIENCE or self.warned:
            return
        self.warned = True
        print(
            f"vigos: {line.get(RATE, 0):.0%} of the supervised tokens have no gradient, more than half for "
            f"{self.steps} steps in a row: loss.clip=scale keeps a gradient; "
            f"loss.clip_value={10 * self.loss.clip_value:g} raises the limit; loss.clip=none removes it",
            file=sys.stderr,
        )
