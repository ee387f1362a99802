"""Rollouts of full length with a chosen form, for the dry run.

>>> engine = ForcedTurns(student, config.rollout.max_new_tokens, structured=True)
>>> engine.roll_out(job)        # samples without an end of turn, then replaces each turn by a valid one
>>> engine.valid = False        # from now on: nothing is sampled, and every turn is invalid
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vigos_cli.generation.engine import InProcess
from vigos_cli.generation.sampler import SamplingJob, as_rollout, roll_out
from vigos_cli.method.segments import DESCRIPTION, DESCRIPTION_END, THINK, THINK_END
from vigos_cli.models.student import Student
from vigos_cli.types import Rollout
from vigos_cli.utils.errors import UserError

FILLER = "a"  # its first token fills the description and the reasoning


class ForcedTurns(InProcess):
    """An engine whose rollouts all have `length` tokens and the same form.

    Random or greedy samples would nearly always be invalid, so only the teachers of invalid turns would run.
    """

    def __init__(self, student: Student, length: int, *, structured: bool):
        super().__init__(replace(student, banned_ids=(*student.banned_ids, *student.stop_ids)))
        self.real, self.length, self.structured, self.valid = student, length, structured, True

    def roll_out(self, job: SamplingJob) -> list[Rollout]:
        """Sample, if valid turns are wanted, and return the forced turns."""
        if self.valid:
            roll_out(self.student, job)
        return [
            as_rollout(self.real, request, self._turn(len(request.prompt.prefill) > 0))
            for request in job.requests
        ]

    def _turn(self, opened: bool) -> tuple[int, ...]:
        make = valid_turn if self.valid else invalid_turn
        return make(self.real, self.length, structured=self.structured, opened=opened)


def valid_turn(student: Student, length: int, *, structured: bool, opened: bool) -> tuple[int, ...]:
    """The `length` sampled tokens of a valid turn, the end of the turn included.

    `opened` says that the pre-fill has the first tag already. Raises UserError if they are too few.
    """
    tags = [DESCRIPTION, f" {DESCRIPTION_END} {THINK} ", f" {THINK_END} \\boxed{{1}}"]
    if not structured:
        tags = [THINK, tags[-1]]
    pieces = [_ids(student, text) for text in (" " if opened else f"{tags[0]} ", *tags[1:])]
    end = min(student.stop_ids & {student.tokenizer.eos_token_id} or student.stop_ids)
    parts = len(pieces) - 1  # description and reasoning, or reasoning alone
    room = length - sum(map(len, pieces)) - 1
    if room < parts:
        raise UserError(
            f"rollout.max_new_tokens={length} is too small: "
            f"a valid turn has at least {length - room + parts} tokens"
        )
    filler, first = _ids(student, FILLER)[0], room // parts
    lengths = (first, room - first) if structured else (room,)
    turn = list(pieces[0])
    for count, piece in zip(lengths, pieces[1:], strict=True):
        turn += [filler] * count + piece
    return (*turn, end)


def invalid_turn(student: Student, length: int, **form: Any) -> tuple[int, ...]:
    """The `length` sampled tokens of a turn that is cut off before any tag."""
    return (_ids(student, FILLER)[0],) * length


def _ids(student: Student, text: str) -> list[int]:
    return student.tokenizer(text, add_special_tokens=False)["input_ids"]
