"""Errors that a user can put right, and the two ways in which a Hydra callback ends the program.

A UserError is shown as one line. Which exit code it gives stands in `vigos_cli.cli.launch`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can put right, such as missing weights; shown as one line, exit 1."""


class ConfigError(UserError):
    """A mistake in the user's configuration; the message is one line that names it, exit 2."""


class RunRefused(BaseException):
    """A mistake found before the run; not an Exception, since Hydra swallows those in callbacks."""


class Stopped(BaseException):
    """A callback has done what was asked for, or told of what went wrong: the program ends with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def nearest(word: str, words: Iterable[str]) -> str:
    """`did you mean x? ` when some word is close to what was typed, else nothing."""
    close = get_close_matches(str(word), list(words), n=1)
    return f"did you mean {close[0]}? " if close else ""
