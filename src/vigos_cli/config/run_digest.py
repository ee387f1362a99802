"""The digest of a run's configuration, and the folder name of a sweep's cell made from it."""

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
    """The keys of a cell that define its run; the others concern the sweep and its report."""
    return DistillRun(**{item.name: getattr(config, item.name) for item in fields(DistillRun)})


def digest(config: AblateRun) -> str:
    """Ten hexadecimal digits: a hash of all keys that must not change when a run is resumed.

    Keys with their default are left out, so that a key added by a later version does not change the digest.
    """
    usual, content = flat(asdict(DistillRun())), flat(asdict(as_distill(config)))
    return hashed({k: v for k, v in content.items() if not may_change(k) and v != usual.get(k)})


def hashed(content: Any) -> str:
    """Ten hexadecimal digits: a hash of content that JSON can represent."""
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def cell_folder_name(sweep: Path, name: str, key: str) -> str:
    """The folder name of the cell with this key: of an existing folder, or a new one made from `name`."""
    there = sorted(path.name for path in sweep.glob(f"*-{key}"))
    slug = re.sub(r"[^\w.,=-]+", "_", name.replace("+", ""))[:100]
    return there[0] if there else f"{slug or 'cell'}-{key}"
