"""What makes two runs the same, and the folder of a sweep's cell, which is named after it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from vigos_cli.config.provenance import flat
from vigos_cli.config.schema import AblateRun, DistillRun, may_change


def as_distill(config: AblateRun) -> DistillRun:
    """What of a cell is a run; the rest is about the sweep and its report."""
    return DistillRun(**{item.name: getattr(config, item.name) for item in fields(DistillRun)})


def digest(config: AblateRun) -> str:
    """Ten digits that stand for all that a continued run must have in common with its start.

    Keys at the schema's default are left out, so that a key which a later version adds makes no new cell.
    """
    usual, content = flat(asdict(DistillRun())), flat(asdict(as_distill(config)))
    return hashed({k: v for k, v in content.items() if not may_change(k) and v != usual.get(k)})


def hashed(content: Any) -> str:
    """Ten digits that stand for something that JSON can hold."""
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def cell_folder_name(sweep: Path, name: str, key: str) -> str:
    """That of the cell with this key if it is there, under whatever name it was first asked for."""
    there = sorted(path.name for path in sweep.glob(f"*-{key}"))
    slug = re.sub(r"[^\w.,=-]+", "_", name.replace("+", ""))[:100]
    return there[0] if there else f"{slug or 'cell'}-{key}"
