"""The table of PALR and visual dependency that `vigos rollout looking=true` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from vigos_cli.analysis.palr import GROUPS, palr, visual_dependency
from vigos_cli.reporting.terminal_tables import print_wide


def print_palr_table(lines: Sequence[Mapping[str, Any]]) -> None:
    """Print visual dependency and PALR of each part of the turn, from lines of rollouts.jsonl."""
    leaks, depends = palr(lines), visual_dependency(lines)
    table = Table(
        title="visual dependency and PALR: means with 95 % intervals over samples", title_justify="left"
    )
    for name in ("tokens of", "visual dependency, nats", "PALR", "pull, nats", "samples"):
        table.add_column(name, justify="left" if name == "tokens of" else "right")
    for group in GROUPS:
        cells, samples = [], 0
        for found in (depends.get(group), leaks[group]):
            cells.append(f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" if found else "-")
            samples = max(samples, found["n"] if found else 0)
        pull = leaks[group]
        table.add_row(group, *cells, f"{pull['pull']:.2g}" if pull else "-", str(samples))
    print_wide(table)
