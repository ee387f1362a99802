"""Trials: hostile answers through the parser, the graders, the judge's prompt and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

from campaign.hostile_grammar import EACH, KINDS
from campaign.trial import Outcome, Space, Trial

GROUP = "hostile texts"
PATIENCE = 900  # seconds for the texts of one kind


def trials(seed: int) -> list[Trial]:
    """One trial for each kind of text."""
    return [Trial(f"hostile texts: {kind}", GROUP, partial(graded, kind=kind, seed=seed)) for kind in KINDS]


def graded(space: Space, kind: str, seed: int) -> Outcome:
    """Give the texts of a kind to everything that reads an answer, in a process of its own."""
    command = [sys.executable, "-m", "campaign.hostile_paths", kind, str(seed), str(space.folder)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    did = "parsed, graded by all benchmarks and both rules, put to the judge, saved and loaded"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, cwd=space.folder
        )
    except subprocess.TimeoutExpired:
        return Outcome(False, kind, did, f"not finished after {PATIENCE} s", EACH)
    (space.folder / "stderr.txt").write_text(done.stderr)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Outcome(False, kind, did, f"exit code {done.returncode}: {last[:200]}", EACH)
    told = json.loads(done.stdout)
    (space.folder / "report.json").write_text(done.stdout)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(told["verdicts"].items()))
    if told["faults"]:
        return Outcome(False, kind, did, f"{len(told['faults'])} faults: {told['faults'][0]}", told["texts"])
    ended = f"; {told['ended']} formulas ended at their time limit" if told["ended"] else ""
    back = (
        f"{told['calls']:,} calls without an error, none above {told['slowest'][0]:.1f} s; {verdicts}{ended}"
    )
    return Outcome(True, kind, did, back, told["texts"])
