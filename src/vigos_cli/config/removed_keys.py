"""Keys of earlier versions that no longer exist, and what to do instead."""

from __future__ import annotations

from typing import Any, NamedTuple

from vigos_cli.config.routing_group import PARTS


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
    "routing.student": RemovedKey(None, "write routing.student.format=structured or think"),
    **{
        f"routing.{part}": RemovedKey(
            None, f"write routing.supervise.{part}=NAME, a name in routing.teachers"
        )
        for part in PARTS
        if part != "all"
    },
    "routing.spans": RemovedKey(None, "write routing.student.spans=paper or code"),
    "routing.reasoning_sees_description": RemovedKey(
        None, "write routing.teachers.reasoning.prefix=turn (true) or think (false)"
    ),
    "routing.perception_sees_prefill": RemovedKey(
        None, "write routing.teachers.perception.prefix=turn (true) or no_prefill (false)"
    ),
    "routing.reference_text": RemovedKey(
        None, "write routing.teachers.NAME.told=[question,answer] or [question,solution] for each teacher"
    ),
    "routing.perception_image": RemovedKey(None, "write routing.teachers.perception.sees=image or noise"),
    "routing.completion": RemovedKey(None, "write routing.student.writes=rollout, reference or caption"),
    "loss.segment": RemovedKey(None, "write loss.divergence=NAME"),
    "loss.reference": RemovedKey(None, "write loss.invalid=NAME"),
    "loss.reference_weight": RemovedKey(None, "write loss.invalid_weight=NUMBER"),
    "teacher.ema_decay": RemovedKey(
        None, "write teacher.ema_rate=RATE, the share of the new student: 1 minus the decay"
    ),
    "prompt.plain": RemovedKey(None, "write prompt.think=TEXT"),
    "prompt.prefill_plain": RemovedKey(None, "write prompt.prefill_think=TEXT"),
    "judge.cache": RemovedKey(
        None, "verdicts are kept in judge.jsonl of the run: use its out= and resume=auto"
    ),
}


IMPOSSIBLE = {  # keys that never existed, and why they cannot
    "routing.student.told": "the student is never told a reference; only routing.teachers.NAME.told exists",
    "routing.student.prompt": "the student's instruction is prompt.structured or prompt.think",
}


def without_removed(flat_config: dict[str, Any]) -> dict[str, Any]:
    """A recorded configuration, with dotted keys, without removed keys that had their default."""
    return {
        key: value
        for key, value in flat_config.items()
        if key not in REMOVED or value != REMOVED[key].default
    }
