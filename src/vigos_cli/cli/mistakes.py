"""A user's mistake in at most three lines: what was typed, what is wrong, the nearest right word.

vigos distill trainer.lrr=1  ->  trainer.lrr=1: there is no key trainer.lrr; did you mean trainer.lr?
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from vigos_cli.config.removed_keys import REMOVED
from vigos_cli.config.schema import COMMANDS, AnyRun
from vigos_cli.utils.errors import ConfigError, UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

ADDED = ("experiment", "arm")  # groups outside the schema: options of theirs are added with a plus
_SIGNS = "+~"  # of an override: append, force, delete


def keys(schema: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a schema; `*` stands for a name of the user's own in a mapping."""
    hints = get_type_hints(schema)
    for item in fields(schema):
        kind, key = hints[item.name], prefix + item.name
        if get_origin(kind) is dict:
            value = get_args(kind)[1]
            yield from keys(value, f"{key}.*.") if is_dataclass(value) else [f"{key}.*"]
        elif is_dataclass(kind):
            yield from keys(kind, f"{key}.")
        else:
            yield key


def groups(command: str) -> list[str]:
    """The configuration groups that a command uses, in the order of its schema."""
    hints = get_type_hints(COMMANDS[command])
    return [item.name for item in fields(COMMANDS[command]) if is_dataclass(hints[item.name])]


def split_override(override: str) -> tuple[str, str, str | None]:
    """An override's sign, key and value; the value is None without `=`."""
    body = override.lstrip(_SIGNS)
    key, equals, value = body.partition("=")
    return override[: len(override) - len(body)], key.strip(), value if equals else None


def check_known(command: str, overrides: list[str]) -> None:
    """Raise a ConfigError for a removed key, or a group that this command does not use."""
    foreign = {item.name for item in fields(AnyRun)} - {item.name for item in fields(COMMANDS[command])}
    for override in overrides:
        key = split_override(override)[1]
        if key in REMOVED:
            raise ConfigError(f"{override}: the key {key} was removed; {REMOVED[key].instead}")
        head = re.split(r"[.@]", key)[0]
        if head in foreign:
            raise ConfigError(f"{override}: `vigos {command}` does not use {head}")


def fixed_keys(overrides: list[str]) -> list[str]:
    """Keys of the overrides that are the same in every job of a sweep."""
    return [
        item.key_or_group
        for item in _parsed(overrides)
        if not item.is_sweep_override() and "/" not in item.key_or_group
    ]


def sweeps(overrides: list[str]) -> bool:
    """Whether the overrides list several values of anything, or name an experiment or an arm of one."""
    return any(
        item.is_sweep_override() or item.key_or_group in ("experiment", "arm") for item in _parsed(overrides)
    )


def _parsed(overrides: list[str]) -> list[Override]:
    """The overrides as Hydra reads them; none when one is ill-formed: Hydra will stop there by itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return []


def explain(error: BaseException, command: str, overrides: list[str]) -> str | None:
    """The message for a mistake of the user's; None when the error is no such thing."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _missing_option(error.missing_cfg_file or "", list(error.options))
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _culprit(error, command, overrides) or _shorten(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None


def _missing_option(file: str, options: list[str]) -> str:
    """`routing/vigoss`: an option that no folder of the search path has."""
    group, _, option = file.rpartition("/")
    hint = "; pip install hydra-joblib-launcher" if file == "hydra/launcher/joblib" else ""
    close = get_close_matches(option, options, n=1)
    meant = f"; did you mean {group}={close[0]}?" if close else ""
    return f"{group}={option}: there is no such option{hint}{meant}\n{group}: {', '.join(sorted(options))}"


def _culprit(error: BaseException, command: str, overrides: list[str]) -> str | None:
    """The override to blame, found by looking at each rather than by reading Hydra's prose."""
    chain = str(error) + str(error.__cause__ or "")
    for override in overrides:
        sign, key, value = split_override(override)
        if value is None and "~" not in sign:
            meant = f", such as {key}=..." if _known(key, command) else _meant(key, command)
            return f"{override}: an override is KEY=VALUE{meant}"
        if "/" in key or key.startswith("hydra"):
            continue
        if key in ADDED and not sign:
            return f"{override}: {key}s are added, with a plus: +{override}"
        if (name := key.removeprefix("bench.tasks.")) != key and "." not in name:
            return (
                f"{override}: name the benchmark, bench={name} or bench=[{name},...], then set {key}.path=..."
            )
        if not _known(key, command):
            return f"{override}: there is no key or group {key}{_meant(key, command)}"
        if "Ambiguous value" in chain and override in chain:
            return f"{override}: several values need -m, to run them all; for a list write {key}=[{value}]"
        if f"full_key: {key}\n" in chain + "\n":
            return f"{override}: {_first_line(error.__cause__ or error)}"
        if "+" in sign and "Could not append" in chain and key in chain:
            return f"{override}: {key} is there already; leave out the plus"
    return None


def _known(key: str, command: str) -> bool:
    """Whether a key, or a group, exists for a command."""
    if key.split("@")[0] in [*groups(command), *ADDED, "bench.tasks", "data.columns", "judge.options"]:
        return True
    patterns = (re.escape(name).replace(r"\*", "[^.]+") for name in keys(COMMANDS[command]))
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def _meant(key: str, command: str) -> str:
    """`; did you mean x?`: a key with the same last word first, then the nearest spelling."""
    names = [*groups(command), *keys(COMMANDS[command]), *ADDED]
    same = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2] and name != key]
    close = same or get_close_matches(key, names, n=1)
    if not close and (leaf := get_close_matches(key, [name.rpartition(".")[2] for name in names], n=1)):
        close = [name for name in names if name.rpartition(".")[2] == leaf[0]]
    if close and close[0] in ADDED:
        close = [f"+{close[0]}"]
    return f"; did you mean {' or '.join(close[:2])}?" if close else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _shorten(error: BaseException) -> str:
    """Hydra's own words, three lines of them at most."""
    lines = [line.strip() for line in f"{error}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    return "\n".join([line for line in dict.fromkeys(lines) if not line.startswith("To append")][:3])
