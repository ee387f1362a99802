"""The weights of the teachers: the initial ones, the student's, averages and copies of it, other checkpoints.

    weights = TeacherWeights.of_run(student, config.routing, config.teacher)
    with weights.model(student, "reasoning") as model:      # the model that reads as this teacher
        ...
    weights.follow(student, step=1)                         # after each optimizer step

The key of a teacher's weights is `initial`, `live`, `ema:RATE`, `every:STEPS`, or the path of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from vigos_cli.config.routing_checks import used_teachers
from vigos_cli.config.schema import RoutingConfig, RunConfig, TeacherConfig
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.utils.errors import UserError

INITIAL, LIVE = "initial", "live"
MOVING = ("ema:", "every:")  # the beginnings of keys whose tensors follow the student


@dataclass
class TeacherWeights:
    """Which weights each teacher has, and the tensors of those that are neither initial nor live."""

    of: Mapping[str, str]  # teacher -> key
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # key -> tensors of the adapter
    others: dict[str, Student] = field(default_factory=dict)  # path -> another checkpoint

    @classmethod
    def of_run(cls, student: Student, routing: RoutingConfig, teacher: TeacherConfig) -> TeacherWeights:
        """The weights at step 0 of a run: averages and copies begin as the student's adapter."""
        of = weight_keys(routing, teacher)
        kept = {
            key: {name: value.to(student.device) for name, value in student.adapter_state().items()}
            for key in dict.fromkeys(of.values())
            if key.startswith(MOVING)
        }
        return cls(of, kept)

    @classmethod
    def at_start(cls, routing: RoutingConfig) -> TeacherWeights:
        """The weights of a measurement without training: averages and copies are the student as it is."""
        of = weight_keys(routing, TeacherConfig())
        return cls({name: LIVE if key.startswith(MOVING) else key for name, key in of.items()})

    @contextmanager
    def model(self, student: Student, teacher: str) -> Iterator[Student]:
        """The model that reads as this teacher; inside the block its weights are those of the teacher."""
        key = self.of[teacher]
        if other := self.others.get(key):
            with other.weights(INITIAL):
                yield other
            return
        with student.weights(key, self.kept.get(key)):
            yield student

    def heads(self, teachers: Iterable[str]) -> dict[str, Tensor]:
        """The output heads (V, H) of those teachers that do not have the student's."""
        own = {name: self.others.get(self.of[name]) for name in teachers}
        return {name: other.head_VH for name, other in own.items() if other}

    def follow(self, student: Student, step: int) -> None:
        """Move averages towards the student's adapter, and renew copies; `step` counts optimizer steps."""
        for key, tensors in self.kept.items():
            kind, _, value = key.partition(":")
            for name, p in student.adapter.items():
                if kind == "ema":
                    tensors[name].lerp_(p.data, float(value))
                elif step % int(value) == 0:
                    tensors[name].copy_(p.data)

    def state(self) -> dict[str, Tensor]:
        """All kept tensors by `KEY/NAME`, for a checkpoint."""
        return {f"{key}/{name}": value for key, of_key in self.kept.items() for name, value in of_key.items()}


def load_other_checkpoints(weights: TeacherWeights, student: Student, config: RunConfig) -> None:
    """Load the checkpoints that teachers name by a path, with the student's dtype and quantisation.

    Raises UserError if one has another tokenizer: its probabilities would be of other tokens.
    """
    for path in dict.fromkeys(weights.of.values()):
        if path in (INITIAL, LIVE) or path.startswith(MOVING):
            continue
        names = " and ".join(name for name, key in weights.of.items() if key == path)
        model = replace(config.model, path=path, revision=None)
        try:
            other = load_student(model, replace(config.adapter, path=None), sharded=student.sharded)
        except UserError as error:
            raise UserError(f"the weights of the teacher {names} (routing.teachers): {error}") from error
        if other.tokenizer.get_vocab() != student.tokenizer.get_vocab():
            raise UserError(
                f"routing.teachers: the checkpoint {path} of {names} has another tokenizer than "
                f"{config.model.path}, so it cannot score the student's tokens"
            )
        weights.others[path] = other


def weight_keys(routing: RoutingConfig, teacher: TeacherConfig) -> dict[str, str]:
    """The key of each used teacher's weights; one that the routing leaves open has those of `teacher`."""
    usual = {"base": INITIAL, "live": LIVE, "ema": f"ema:{teacher.ema_rate:g}"}[teacher.weights]
    return {name: _key(routing.teachers[name].weights, usual) for name in used_teachers(routing)}


def _key(weights: Any, usual: str) -> str:
    if weights is None:
        return usual
    if isinstance(weights, str):
        return weights
    ((kind, value),) = weights.items()
    return f"{kind}:{value:g}"
