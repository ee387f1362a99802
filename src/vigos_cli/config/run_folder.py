"""Tell whether a run's folder has results, or only what a start leaves that failed before its first result.

    has_results(Path("runs/a"))     # False if it has config.json and data.json only

A folder without results is used again: its files are overwritten, and no configuration or data are compared.
Only files that vigos itself writes count as such. Any other file is a result, so nothing of a user's is lost.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

# Files that Hydra and the launchers write by themselves, and the marks of the processes of a run.
TRACES = re.compile(
    r"\.hydra|\.slurm|\.submitit|multirun\.yaml|optimization_results\.yaml|[^/]*\.log|\.writer\.lock|\.seen-.*"
)
# Files that are written before the first result. Where another program may use the name, some fields of ours.
STARTS = {
    "config.json": {"seed", "out", "resume", "model", "routing"},
    "data.json": {"format", "rows", "texts", "pictures"},
    "contamination.json": {"key", "rows", "left_out"},
    "holdout.json": {"key", "rows", "left_out"},
    "engine.json": {"name", "url", "model"},
    "contamination.jsonl": None,
    "picture_hashes.jsonl": None,
    "changes.jsonl": None,
    "error.txt": None,
}


def has_results(out: Path) -> bool:
    """Whether a folder exists and has any result."""
    return first_result(out) is not None


def first_result(out: Path) -> Path | None:
    """The first file of the folder that is a result, by name; None if there is none.

    A folder in it that has no results is none, and neither is an empty JSON-lines file.
    """
    if not out.is_dir():
        return None
    for path in sorted(out.iterdir()):
        if TRACES.fullmatch(path.name):
            continue
        if path.is_dir():
            if first_result(path):
                return path
        elif not _before_results(path):
            return path
    return None


def _before_results(file: Path) -> bool:
    """Whether vigos has written this file before the first result of a run."""
    if file.suffix == ".jsonl" and not file.stat().st_size:
        return True
    if (draft := re.fullmatch(r"\.(.+)\.draft", file.name)) and draft[1] in STARTS:
        return True  # the start was killed while it wrote the file
    if file.name not in STARTS:
        return False
    fields = STARTS[file.name]
    if fields is None:
        return True
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and fields <= content.keys()
