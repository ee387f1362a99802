"""One-entry cache of the loaded base model, reused by the next cell of a sweep.

keep(student.release(), student.processor, config.model, config.adapter)
base, processor = take(config.model, config.adapter) or load(...)
"""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import AdapterConfig, ModelConfig

_kept: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # at most one entry, because each holds a whole model


def keep(
    base: Any, processor: Any, config: ModelConfig, adapter: AdapterConfig, *, sharded: bool = False
) -> None:
    """Store a base model without adapter, and its processor; replaces the stored one."""
    _kept.clear()
    _kept[(sharded, *_key(config, adapter))] = (base, processor)


def take(config: ModelConfig, adapter: AdapterConfig, *, sharded: bool = False) -> tuple[Any, Any] | None:
    """Remove and return the stored base and processor if they match; otherwise drop them, return None."""
    found = _kept.get((sharded, *_key(config, adapter)))
    _kept.clear()
    return found


def _key(config: ModelConfig, adapter: AdapterConfig) -> tuple[Any, ...]:
    """Everything that the loaded weights depend on, with the times at which a folder's files changed."""
    changed = sorted((str(file), file.stat().st_mtime_ns) for file in Path(config.path).glob("*.*"))
    return (*astuple(config), adapter.quantise, *changed)
