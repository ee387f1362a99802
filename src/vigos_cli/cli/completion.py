"""Shell completion of overrides: groups, options, keys and values, without importing Hydra.

mod<TAB>        model=
model=q<TAB>    model=qwen25vl_3b  model=qwen2vl ...
trainer.l<TAB>  trainer.lr=
loss=jsd,re     loss=jsd,reverse_kl
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from textwrap import shorten
from typing import Any, get_type_hints

from vigos_cli.cli.explain import comments, options
from vigos_cli.cli.mistakes import ADDED, groups, keys
from vigos_cli.config.schema import CHOICES, COMMANDS


def complete(
    command: str, incomplete: str, environ: Mapping[str, str] = os.environ
) -> Iterator[tuple[str, str]]:
    """The candidates for the word that is being typed, each with a help text for shells that show it."""
    word, was_split = _word(incomplete, environ)
    for candidate, note in _candidates(command, word):
        if candidate.startswith(word):
            # Bash replaces only the text after the last `=`; the other shells replace the whole word.
            # Zsh evaluates the help text, so it must not contain characters that are special to zsh.
            note = shorten(re.sub(r"[^\w ,.=+-]", " ", note), 60, placeholder=" ...")
            yield candidate.rpartition("=")[2] if was_split else candidate, note


def _word(incomplete: str, environ: Mapping[str, str]) -> tuple[str, bool]:
    """The whole word, and whether the shell has split it at `=`, as bash does (COMP_WORDBREAKS)."""
    if environ.get("_VIGOS_COMPLETE") != "complete_bash":
        return incomplete, False
    words, at = environ["COMP_WORDS"].split("\n"), int(environ["COMP_CWORD"])
    words = words[: at + 1] + [""] * (at + 1 - len(words))
    if words[-1] == "=":
        return words[-2] + "=", True
    if len(words) > 2 and words[-2] == "=":
        return words[-3] + "=" + words[-1], True
    return incomplete, False


def _candidates(command: str, word: str) -> Iterator[tuple[str, str]]:
    sign = word[: len(word) - len(word.lstrip("+~"))]
    key, equals, value = word[len(sign) :].partition("=")
    if equals:
        # In a sweep, `a,b,c`, the user is typing only the last value.
        done, comma, _ = value.rpartition(",")
        for name, note in _values(command, key, sign).items():
            yield f"{sign}{key}={done}{comma}{name}", note
        return
    names = [name for name in _names(command, key, sign) if name.startswith(key)]
    for name in names:
        yield f"{sign}{name}=", _note(command, name)
    if len(names) == 1:
        # A shell adds a space after a single candidate. With several values it stops after the `=`.
        values = _values(command, names[0], sign) or {"VALUE": ""}
        yield from ((f"{sign}{names[0]}={value}", note) for value, note in values.items())


def _names(command: str, key: str, sign: str) -> list[str]:
    """The names before `=`: all groups, and the keys of a group only once that group is typed."""
    if sign:
        return list(ADDED) if sign == "+" else []
    every = [name for name in keys(COMMANDS[command]) if "*" not in name]
    if "." in key:
        return every
    if key in groups(command):
        return [key, *(name for name in every if name.startswith(f"{key}."))]
    return [*groups(command), *(name for name in every if "." not in name)]


def _note(command: str, name: str) -> str:
    """The comment of a key in the schema, or the first line of its group's docstring."""
    *path, key = name.split(".")
    if name in groups(command):
        return (_schema(command, [name]).__doc__ or "").splitlines()[0]
    return comments(_schema(command, path)).get(key, "")


def _schema(command: str, path: list[str]) -> Any:
    """The dataclass at the end of a path of keys; None if there is none."""
    schema: Any = COMMANDS[command]
    for key in path:
        schema = get_type_hints(schema).get(key) if is_dataclass(schema) else None
    return schema


def _values(command: str, key: str, sign: str) -> dict[str, str]:
    """The values after `=`, each with its help text."""
    if key in groups(command) or (key in ADDED and sign == "+"):
        return options(key)
    if key in CHOICES:
        return dict.fromkeys(CHOICES[key], "")
    *path, name = key.split(".")
    schema = _schema(command, path)
    if is_dataclass(schema) and get_type_hints(schema).get(name) is bool:
        return {"true": "", "false": ""}
    return {}
