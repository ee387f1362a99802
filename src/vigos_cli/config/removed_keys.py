"""Keys of earlier versions that no longer exist, and what to do instead."""

from __future__ import annotations

from typing import Any, NamedTuple


class RemovedKey(NamedTuple):
    """The default of a key that no longer exists, and what to do instead of setting it."""

    default: Any
    instead: str


REMOVED = {
    "model.attention": RemovedKey("sdpa", "leave it out; transformers uses sdpa where the model has it"),
    "model.min_pixels": RemovedKey(None, "leave it out; small images keep the processor's own bound"),
    "bench.schema": RemovedKey(
        "own", "for benchmark rows with other columns use bench=plain bench.path=FILE"
    ),
    "judge.cache": RemovedKey(
        None, "verdicts are kept in judge.jsonl of the run: use its out= and resume=auto"
    ),
}


def without_removed(flat_config: dict[str, Any]) -> dict[str, Any]:
    """A recorded configuration, with dotted keys, without removed keys that had their default."""
    return {
        key: value
        for key, value in flat_config.items()
        if key not in REMOVED or value != REMOVED[key].default
    }
