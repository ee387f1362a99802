"""One-entry cache of the loaded base model, reused by the next run of this process (a sweep's next cell).

keep(student.release(), student.processor, config.model, config.adapter)
base, processor = take(config.model, config.adapter) or load(...)
"""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import AdapterConfig, ModelConfig

_kept: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # one at most: two would need the memory of two


def keep(base: Any, processor: Any, config: ModelConfig, adapter: AdapterConfig) -> None:
    """Keep a base without adapter, as it was loaded, and its processor; one that was kept before goes."""
    _kept.clear()
    _kept[_key(config, adapter)] = (base, processor)


def take(config: ModelConfig, adapter: AdapterConfig) -> tuple[Any, Any] | None:
    """The base and the processor that were kept, if they are this model's; others are dropped."""
    found = _kept.get(_key(config, adapter))
    _kept.clear()
    return found


def _key(config: ModelConfig, adapter: AdapterConfig) -> tuple[Any, ...]:
    """All that the loaded weights depend on; a folder's files may have been replaced since."""
    changed = sorted((str(file), file.stat().st_mtime_ns) for file in Path(config.path).glob("*.*"))
    return (*astuple(config), adapter.quantise, *changed)
