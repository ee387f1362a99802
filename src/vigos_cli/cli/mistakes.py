"""Error messages for mistakes on the command line: at most three lines, with a suggestion.

vigos distill trainer.lrr=1  ->  trainer.lrr=1: there is no key or group trainer.lrr; did you mean trainer.lr?
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from vigos_cli.config.removed_keys import IMPOSSIBLE, REMOVED
from vigos_cli.config.schema import COMMANDS, AnyRun
from vigos_cli.utils.errors import ConfigError, UserError, one_line

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

ADDED = ("experiment", "arm")  # groups outside the schema: `+` adds an option of them
WHOLE = {  # keys of mappings, which OmegaConf names by their class
    "SuperviseConfig": "routing.supervise",
    "SupervisedRollouts": "routing.rollouts",
    "TeacherContext": "routing.teachers.NAME",
    "TargetConfig": "routing.targets.NAME",
}
LAUNCHERS = {  # options of hydra/launcher that other packages bring
    "hydra/launcher/joblib": "hydra-joblib-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
}
_SIGNS = "+~"  # at the start of an override: + appends, ++ forces, ~ deletes


def keys(schema: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a schema; `*` stands for any name in a mapping."""
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


def open_mappings() -> tuple[str, ...]:
    """The beginnings, such as `data.columns.`, of keys whose last part is a name of the user's own."""
    return tuple(key[:-1] for key in keys(AnyRun) if key.endswith(".*"))


def groups(command: str) -> list[str]:
    """The configuration groups that a command uses, in the order of its schema."""
    hints = get_type_hints(COMMANDS[command])
    return [item.name for item in fields(COMMANDS[command]) if is_dataclass(hints[item.name])]


def split_override(override: str) -> tuple[str, str, str | None]:
    """The sign, key and value of an override; the value is None without `=`."""
    body = override.lstrip(_SIGNS)
    key, equals, value = body.partition("=")
    return override[: len(override) - len(body)], key.strip(), value if equals else None


def folder_of(overrides: list[str]) -> Path:
    """The folder that the overrides name with `out=`; the current one without it."""
    named = [value for _, key, value in map(split_override, overrides) if key == "out" and value]
    return Path(named[-1] if named else ".")


def quoted(start: str, value: str) -> str:
    """`start` and the value in the quotes of Hydra's syntax: one text, whatever its characters are."""
    return f"{start}'{value.replace(chr(39), chr(92) + chr(39))}'"


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
    """The keys of overrides with a single value, which all jobs of a sweep share."""
    return [
        item.key_or_group
        for item in _parsed(overrides)
        if not item.is_sweep_override() and "/" not in item.key_or_group
    ]


def sweeps(overrides: list[str]) -> bool:
    """Whether some override lists several values or chooses an experiment or an arm."""
    return any(
        item.is_sweep_override() or item.key_or_group in ("experiment", "arm") for item in _parsed(overrides)
    )


def _parsed(overrides: list[str]) -> list[Override]:
    """The overrides as Hydra parses them; empty if one is malformed, which Hydra reports later."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return []


def explain(error: BaseException, command: str, overrides: list[str]) -> str | None:
    """The message for a mistake of the user; None if the error is not a mistake of the user."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _missing_option(error.missing_cfg_file or "", list(error.options))
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: not YAML ({error.problem})"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return (
            _old_key(error)
            or _culprit(error, command, overrides)
            or _in_a_file(error, command)
            or _shorten(error)
        )
    if isinstance(error, ValueError | TypeError) and (line := _word_in_a_list(error, overrides)):
        return line
    if type(error).__module__.startswith("submitit.") or "are you indeed on a slurm cluster" in str(error):
        return f"hydra/launcher: {one_line(error, 600)}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None


def _word_in_a_list(error: BaseException, overrides: list[str]) -> str | None:
    """The message for `supervise.all.clip` where `all` is a list; OmegaConf's error names only `clip`."""
    word = re.search(r"(?:base 10: |Index )'(.*?)'", str(error))
    if word is None:
        return None
    for override in overrides:
        before, found, after = split_override(override)[1].rpartition(f".{word[1]}")
        if found and (not after or after.startswith(".")):
            entry = f"{before}.0{found}{after}"
            return f"{override}: {before} is a list; write the number of an entry, as in {entry}"
    return None


def _old_key(error: BaseException) -> str | None:
    """The message for a removed key in a file of the user's own, such as a routing in --config-dir."""
    text = f"{error}\n{error.__cause__ or ''}"
    if "is not a subclass of StudentContext" in text:  # OmegaConf does not name the key of a whole mapping
        return f"the key routing.student is a mapping now; {REMOVED['routing.student'].instead}"
    full = re.search(r"full_key: (\S+)", text)
    if full and full[1] in REMOVED:
        return f"the key {full[1]} was removed; {REMOVED[full[1]].instead}"
    if full and full[1] in IMPOSSIBLE:
        return f"{full[1]}: {IMPOSSIBLE[full[1]]}"
    return None


def _in_a_file(error: BaseException, command: str) -> str | None:
    """The message for a wrong key, or a value of a wrong kind, in a file of the user's own."""
    text = f"{error}\n{error.__cause__ or ''}"
    full = re.search(r"full_key: (\S+)", text)
    if other := re.search(r"is not a subclass of (\w+)\. value: (?!{)(.*)", text):
        key = full[1] if full else WHOLE.get(other[1], other[1])
        return f"{key}={other[2]}: must be a mapping of keys to values"
    if full and re.search(r"Key '.*' not in '", text):
        return f"{full[1]}: there is no such key{_meant(full[1], command)}"
    if full and "is not a ListConfig" in text:
        return f"{full[1]}: must be a list, in square brackets"
    return None


def _missing_option(file: str, options: list[str]) -> str:
    """The message for an option that does not exist, such as `routing/vigoss`."""
    group, _, option = file.rpartition("/")
    hint = f"; pip install {LAUNCHERS[file]}" if file in LAUNCHERS else ""
    close = get_close_matches(option, options, n=1)
    meant = f"; did you mean {group}={close[0]}?" if close else ""
    return f"{group}={option}: there is no such option{hint}{meant}\n{group}: {', '.join(sorted(options))}"


def _culprit(error: BaseException, command: str, overrides: list[str]) -> str | None:
    """The message for the wrong override; each is checked here, without parsing Hydra's message."""
    chain = str(error) + str(error.__cause__ or "")
    for override in overrides:
        sign, key, value = split_override(override)
        if value is None and "~" not in sign:
            meant = f", such as {key}=..." if _known(key, command) else _meant(key, command)
            return f"{override}: overrides have the form KEY=VALUE{meant}"
        if "/" in key or key.startswith("hydra"):
            continue
        if key in ADDED and not sign:
            return f"{override}: needs a plus sign: +{override}"
        if (name := key.removeprefix("bench.tasks.")) != key and "." not in name:
            return (
                f"{override}: choose the benchmark with bench={name} or bench=[{name},...], then set a key "
                f"of it, such as {key}.path=..."
            )
        if not _known(key, command):
            return f"{override}: there is no key or group {key}{_meant(key, command)}"
        if value and "Ambiguous value" in chain and override in chain:
            return (
                f"{override}: add -m to run all these values, or write a list as {key}=[{value}], or put one "
                f"text in quotes: {_in_a_shell(key, value)}"
            )
        if value and not _parsed([override]):
            return (
                f"{override}: Hydra cannot read this value; if it is one text, put it in quotes: "
                f"{_in_a_shell(key, value)}"
            )
        if f"full_key: {key}\n" in chain + "\n":
            return f"{override}: {_first_line(error.__cause__ or error)}"
        if "+" in sign and "Could not append" in chain and key in chain:
            return f"{override}: {key} exists already: leave out the plus sign"
    return None


def _in_a_shell(key: str, value: str) -> str:
    """An override whose value is one text, as it is typed in a shell."""
    text = quoted(f"{key}=", value.strip("'\""))
    return shlex.quote(text) if re.search(r'["$`\\!]', text) else f'"{text}"'


def _known(key: str, command: str) -> bool:
    """Whether a command has this key or group."""
    if key.split("@")[0] in [*groups(command), *ADDED, "bench.tasks", "data.columns", "judge.options"]:
        return True
    if re.fullmatch(r"routing\.(teachers|targets)\.[^.]+", key):
        return True  # a new teacher or target, as a mapping
    patterns = (re.escape(name).replace(r"\*", "[^.]+") for name in keys(COMMANDS[command]))
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def _meant(key: str, command: str) -> str:
    """`; did you mean x?`, for a key with the same last word, otherwise with a similar spelling."""
    names = [*groups(command), *keys(COMMANDS[command]), *ADDED]
    same_leaf = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2] and name != key]
    close = same_leaf or get_close_matches(key, names, n=1)
    if not close and (leaf := get_close_matches(key, [name.rpartition(".")[2] for name in names], n=1)):
        close = [name for name in names if name.rpartition(".")[2] == leaf[0]]
    if close and close[0] in ADDED:
        close = [f"+{close[0]}"]
    return f"; did you mean {' or '.join(close[:2])}?" if close else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _shorten(error: BaseException) -> str:
    """Hydra's own message, at most three lines."""
    lines = [line.strip() for line in f"{error}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    return "\n".join([line for line in dict.fromkeys(lines) if not line.startswith("To append")][:3])
