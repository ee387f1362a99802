"""Base weights that a run has done with, for the next run of this process (the next cell of a sweep).

lay_aside(student, config.model, config.adapter)     # the student is of no more use
base, processor = take(config.model, config.adapter) or load(...)
"""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.config import AdapterConfig, ModelConfig

if TYPE_CHECKING:
    from vigos_cli.model import Student

_idle: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # one at most: a second would need its memory too


def lay_aside(student: Student, config: ModelConfig, adapter: AdapterConfig) -> None:
    """Keep the student's base and processor, without its adapter and as they were loaded."""
    base: Any = student.net.unload()
    base.gradient_checkpointing_disable()
    if student.vision_guard:
        student.vision_guard.remove()
    _idle.clear()
    _idle[_key(config, adapter)] = (base, student.processor)


def take(config: ModelConfig, adapter: AdapterConfig) -> tuple[Any, Any] | None:
    """The base and the processor that were laid aside, if they are this model's; others are let go."""
    found = _idle.get(_key(config, adapter))
    _idle.clear()
    return found


def _key(config: ModelConfig, adapter: AdapterConfig) -> tuple[Any, ...]:
    """All that the loaded weights depend on; a folder's files may have been replaced since."""
    changed = sorted((str(file), file.stat().st_mtime_ns) for file in Path(config.path).glob("*.*"))
    return (*astuple(config), adapter.quantise, *changed)
