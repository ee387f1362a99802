"""Errors that a user can correct, and exceptions that end the program without a message of their own.

`vigos_cli.cli.launch` prints a UserError as one line and chooses the exit code.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A problem that the user can solve, such as missing weights; printed as one line, exit code 1."""


class ConfigError(UserError):
    """A mistake in the configuration; printed as one line that names it, exit code 2."""


class FolderInUse(ConfigError):
    """Another process writes to the folder of the run."""


class RunRefused(BaseException):
    """A callback found a mistake before the run. Hydra ignores an Exception from a callback."""


class Stopped(BaseException):
    """Everything is done or has been reported; the program ends with exit code `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of an error on one line of at most `limit` characters; its type if it has no text."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def nearest(word: str, words: Iterable[str]) -> str:
    """`did you mean x? ` if a word is similar to the one that was typed, otherwise an empty text."""
    close = get_close_matches(str(word), list(words), n=1)
    return f"did you mean {close[0]}? " if close else ""
