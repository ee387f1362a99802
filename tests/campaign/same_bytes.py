"""Compare the folders of two runs byte by byte, apart from times, memory and their place.

    different(whole, resumed)      # [] if all is the same, otherwise
    ["metrics.jsonl, line 3: loss: 0.31 instead of 0.29", "checkpoints/.step-000002: left over"]

JSON files are compared field by field, so that a difference has a name; every other file as bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Fields that are times, or that depend on them or on the memory of the machine.
TIMES = re.compile(r"(seconds|tokens_per_second|peak)(/.*)?|peak_gib|evaluation_share|minutes")
# Logs of what was printed, of a killed attempt too; locks, which hold nothing; and times of a sweep's page.
UNCOMPARED = re.compile(r".*\.log|\.[^/]*\.lock")
SWEEP_TIMES = re.compile(r"[\d.]+ a run \(mean\), \d+ in total")


def different(expected: Path, found: Path, most: int = 5) -> list[str]:
    """What differs between two folders, at most so many lines; empty if nothing does."""
    lines: list[str] = []
    for line in _differences(expected, found):
        lines.append(line)
        if len(lines) == most:
            break
    return lines


def _differences(expected: Path, found: Path) -> Iterator[str]:
    names, others = _names(expected), _names(found)
    yield from (f"{name}: missing" for name in sorted(names - others))
    yield from (f"{name}: left over" for name in sorted(others - names))
    for name in sorted(names & others):
        one, other = expected / name, found / name
        if one.is_dir() or one.read_bytes() == other.read_bytes():
            continue
        one, other = _content(one, expected), _content(other, found)
        if one != other:
            yield from (f"{name}{where}" for where in _where(one, other))


def _names(folder: Path) -> set[str]:
    """All files and folders below a folder; what was left over by a kill counts too."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not UNCOMPARED.fullmatch(path.name) and "__pycache__" not in path.parts
    }


def _content(file: Path, folder: Path) -> Any:
    """The content without times, with HERE for the folder around it; bytes if the file is not text."""
    raw = file.read_bytes()
    if file.suffix in (".safetensors", ".png"):
        return raw
    text = raw.decode("utf-8").replace(str(folder.parent), "HERE")
    match file.suffix:
        case ".json":
            return _without_times(json.loads(text))
        case ".jsonl":
            return [_without_times(json.loads(line)) for line in text.splitlines()]
        case ".csv":
            return [_without_times(row) for row in csv.DictReader(io.StringIO(text))]
        case ".html":
            return SWEEP_TIMES.sub("TIME", text)
    return text


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if not TIMES.fullmatch(k)}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def _where(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """The first places at which two contents differ, each with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        if list(one) != list(other) and one.keys() == other.keys():
            yield f"{at}: fields in another order"
        for key in dict.fromkeys([*one, *other]):
            if one.get(key) != other.get(key):
                yield from _where(one.get(key), other.get(key), f"{at}: {key}")
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield f"{at}: {len(other)} entries instead of {len(one)}"
        for number, (a, b) in enumerate(zip(one, other, strict=False), 1):
            if a != b:
                yield from _where(a, b, f"{at}, line {number}")
    elif isinstance(one, bytes):
        yield f"{at}: other bytes"
    elif isinstance(one, str) and isinstance(other, str) and "\n" in one:
        for number, (a, b) in enumerate(zip(one.splitlines(), other.splitlines(), strict=False), 1):
            if a != b:
                yield f"{at}, line {number}: {b[:80]!r} instead of {a[:80]!r}"
                return
        yield f"{at}: another length"
    else:
        yield f"{at}: {str(other)[:80]} instead of {str(one)[:80]}"
