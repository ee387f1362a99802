"""Which arms imitate a teacher that reads a context its base was never trained in.

The card of a tiny model (`card.json`) has the accuracy of every routing's teachers in their own contexts. An
arm whose teacher is often wrong there says something about the base, and nothing about the method. Other
models have no such card.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vigos_cli.config.compose import restored
from vigos_cli.config.schema import DistillRun, RoutingConfig
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.models.pretrained import resolve_path

CARD = "card.json"
ENOUGH = 0.9  # share of right answers below which a teacher counts as untrained for its context
NOTE = "teacher untrained for this context"


def teacher_context(routing: RoutingConfig, name: str) -> dict[str, Any]:
    """All that decides what a teacher reads."""
    teacher = asdict(routing.teachers[name])
    return {"format": routing.student.format, **{key: teacher[key] for key in ("sees", "told", "prompt")}}


def imitated(routing: RoutingConfig) -> tuple[str, ...]:
    """The teachers whose distribution a student moves towards; not those that a target moves away from."""
    names: dict[str, None] = {}
    for rule in supervision_rules(routing):
        target = routing.targets.get(rule.by)
        for name in (target.base, target.plus) if target else (rule.by,):
            if name in routing.teachers:
                names[name] = None
    return tuple(names)


def tells_answer(told: list[Any]) -> bool:
    """Whether a teacher is told what the answer of this very question is."""
    return any(
        entry in ("answer", "solution")
        or (
            (isinstance(entry, Mapping) and "row" not in entry)
            and ("sibling" in entry or entry.get("column") == "demonstration")
        )
        for entry in told
    )


def tells_another_answer(told: list[Any]) -> bool:
    """Whether a teacher is told the answer of another question, which it should repeat: a control."""
    others = [entry for entry in told if isinstance(entry, Mapping) and "row" in entry]
    return any(entry["column"] == "answer" for entry in others)


def untrained_teachers(config: Mapping[str, Any]) -> list[str]:
    """What the card says about the imitated teachers of a cell that are too often wrong.

    A teacher that is told the answer has to know it whatever the picture shows. Any other teacher has to be
    right where the base is: on pictures that agree with the usual look, and on questions without one. A
    teacher that is told another question's answer should be wrong, so it is not judged.
    """
    card = Path(resolve_path(config["model"]["path"])) / CARD
    if not card.is_file():
        return []
    known = json.loads(card.read_text(encoding="utf-8")).get("teachers", [])
    return list(_below(restored(config, DistillRun).routing, known))


def _below(routing: RoutingConfig, known: list[dict[str, Any]]) -> Iterator[str]:
    for name in imitated(routing):
        context = teacher_context(routing, name)
        if tells_another_answer(context["told"]):
            continue
        figures = next((entry["answers"] for entry in known if entry["context"] == context), None)
        needed = [kind for kind in figures or {} if kind != "conflicts" or tells_answer(context["told"])]
        if figures and needed and (least := min(figures[kind]["mean"] for kind in needed)) < ENOUGH:
            yield f"{name} answers {least:.0%} rightly"
