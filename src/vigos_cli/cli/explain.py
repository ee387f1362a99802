"""The configuration tables in `vigos COMMAND --help` and in conf/README.md.

python -m vigos_cli.cli.explain > conf/README.md
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

from vigos_cli.cli.mistakes import groups
from vigos_cli.config.paths import config_dir, experiments_dir
from vigos_cli.config.schema import CHOICES, COMMANDS, SAME_BYTES, SAME_UP_TO_ROUNDING, AnyRun
from vigos_cli.reporting.markdown import markdown_table

_HEAD = """\
# Configuration

`nox -s reference` generates this file from `src/vigos_cli/config/` and the files in this folder.

Choose options with `GROUP=OPTION`, set keys with `KEY=VALUE`, add experiments with `+experiment=NAME`:
`vigos distill model=qwen2vl loss=reverse_kl trainer.lr=1e-5`. Your own options go into a folder with the
same subfolders; pass it with `--config-dir`. `rollout` and `eval` use only some of the groups. Values on the
command line have priority over every default.

**The defaults in the tables are those of `vigos distill` with `model=tiny`.** Each `model` option brings
defaults of its own. For example, `loss=vigos` sets `loss.clip=token`, but the table shows `none`, because
`model=tiny` sets `loss.clip=none`; with every other model the default is `token`. Every `model` option except
`tiny` starts from the settings of `model=qwen2vl`: it chooses `adapter=qlora`, `data=vision_sr1`,
`prompt=vigos` and `trainer=gpu24`, and sets `rollout.max_new_tokens=1024`, `bench.max_new_tokens=1024` and
batches of 16 for both. `vigos distill model=qwen2vl --cfg job` prints all values of such a run and does not
start it.
"""


def options(group: str) -> dict[str, str]:
    """The options of a group, each with the first comment of its file; also of `experiment` and `arm`."""
    if group == "arm":
        return _arms()
    folder = experiments_dir() if group == "experiment" else config_dir() / group
    return {file.stem: _summary(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.yaml"))}


def _arms() -> dict[str, str]:
    """The arms of all experiments, each with its overrides."""
    import yaml

    arms: dict[str, str] = {}
    for file in sorted(experiments_dir().glob("*.yaml")):
        for name, overrides in yaml.safe_load(file.read_text(encoding="utf-8")).get("arms", {}).items():
            arms[name] = " ".join(f"{key}={_shown(value)}" for key, value in overrides.items())
    return arms


def _summary(text: str) -> str:
    comments = re.findall(r"^# (?!@package)(.*)", text, re.MULTILINE)
    return comments[0].rstrip(":") if comments else ""


def comments(schema: type) -> dict[str, str]:
    """The comment after each field of a dataclass of the schema, inherited fields included."""
    found: dict[str, str] = {}
    for cls in reversed(schema.__mro__[:-1]):
        source = inspect.getsource(cls)
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                _, hash_sign, comment = lines[node.lineno - 1].partition("  # ")
                found[node.target.id] = comment if hash_sign else ""
    return found


def print_groups(command: str) -> None:
    """Print the groups of a command with options and defaults, and the keys outside groups."""
    from rich.console import Console
    from rich.table import Table

    chosen, values = defaults(command)
    table = Table("group", "default", "other options", box=None, title="Groups", title_justify="left")
    for group in groups(command):
        others = [name for name in options(group) if name != chosen[group]]
        table.add_row(f"[bold cyan]{group}[/]", chosen[group], ", ".join(others))
    table.add_row("[bold cyan]+experiment[/]", "", ", ".join(options("experiment")))
    single = Table("key", "default", "", box=None, title="\nKeys", title_justify="left")
    notes = comments(COMMANDS[command])
    for key in (item.name for item in fields(COMMANDS[command]) if item.name not in chosen):
        value = _shown(values[key]).replace("${started:%Y-%m-%d_%H-%M-%S}", "<time>")
        single.add_row(f"[bold cyan]{key}[/]", value, notes[key])
    console = Console()
    console.print(table)
    console.print(single)
    console.print(
        f"\nTo print the keys of a group with values: vigos {command} --cfg job -p trainer\n",
        markup=False,
    )


def defaults(command: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The default option of each group, and the values of the keys outside groups.

    They are read from the files without Hydra, because composing takes a second and help should be fast.
    """
    import yaml

    def read(name: str) -> dict[str, Any]:
        return yaml.safe_load((config_dir() / f"{name}.yaml").read_text(encoding="utf-8"))

    values = vars(COMMANDS[command]())
    entries: list[Any] = []
    for file in (read("base"), read(command)):
        entries += file["defaults"]
        values |= {key: value for key, value in file.items() if key in values}
    chosen = _choices(entries)
    chosen |= _choices(read(f"model/{chosen['model']}").get("defaults", []))  # a model overrides options
    own = groups(command)
    return {g: chosen[g] for g in own}, {key: v for key, v in values.items() if key not in own}


def _choices(entries: list[Any]) -> dict[str, str]:
    """The options in a defaults list: `- group: option`, `- override /group: option`."""
    named = {group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items()}
    return {group.removeprefix("override /"): name for group, name in named.items()}


def reference() -> str:
    """The text of conf/README.md."""
    from vigos_cli.config.compose import compose

    composed = compose("distill", [])
    hints = get_type_hints(AnyRun)
    parts = [_HEAD, "## Keys of a run", "", _key_table(AnyRun, composed, "")]
    parts += ["", *_resume_table()]
    for group in (name for name in hints if is_dataclass(hints[name])):
        default = composed.hydra.runtime.choices[group]
        parts += [
            "",
            f"## {group}",
            "",
            inspect.getdoc(hints[group]) or "",
            "",
            _option_table(group, default),
        ]
        parts += ["", _key_table(hints[group], composed, f"{group}.")]
    parts += ["", "## +experiment", "", _option_table("experiment", None)]
    parts += ["", "## +arm", "", "The arms of the experiments; `+arm=A,B` runs two of them.", ""]
    parts.append(_option_table("arm", None))
    return "\n".join(parts) + "\n"


def _resume_table() -> Iterator[str]:
    """The table of keys that may change when a run is resumed."""
    yield "## Keys that may change when a run is resumed"
    yield ""
    yield "`resume=auto` continues the run in the folder `out`. Name it with `out=` at the first start too,"
    yield "since its default contains the time. The class of a key says what happens if its value changes:"
    yield ""
    groups = {name for name, kind in get_type_hints(AnyRun).items() if is_dataclass(kind)}
    same_bytes = ", ".join(f"`{key}.*`" if key in groups else f"`{key}`" for key in SAME_BYTES)
    rounding = ", ".join(f"`{key}`" for key in SAME_UP_TO_ROUNDING)
    same = "is accepted: the adapter and all responses are byte for byte as without the change"
    changed = (
        "is accepted: sums are taken in another order, so results differ by rounding; "
        "with `adapter.dropout`, other units are dropped too"
    )
    rows = [
        ("same bytes", same_bytes, same),
        ("same up to rounding", rounding, changed),
        ("another run", "all other keys", "is refused: choose another folder with `out=`"),
    ]
    yield markdown_table(("class", "keys", "a change"), rows, marked=True)
    yield ""
    yield "`changes.jsonl` in the folder of the run and `summary.json` record the accepted changes."


def _option_table(group: str, default: str | None) -> str:
    rows = [
        # Only an arm has no text: one without settings of its own.
        (f"`{name}`{' (default)' if name == default else ''}", summary or "the settings of the experiment")
        for name, summary in options(group).items()
    ]
    return markdown_table(("option", "meaning"), rows, marked=True)


def _key_table(schema: Any, composed: Any, prefix: str) -> str:
    heads = ("key", "type", "default", "meaning")
    return markdown_table(heads, _key_rows(schema, composed, prefix), marked=True)


def _key_rows(schema: Any, composed: Any, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    notes, hints = comments(schema), get_type_hints(schema)
    for item in fields(schema):
        kind, key = hints[item.name], prefix + item.name
        if is_dataclass(kind):
            if prefix:  # not a group: a part of one
                yield from _key_rows(kind, composed, f"{key}.")
            continue
        if get_origin(kind) is dict and is_dataclass(get_args(kind)[1]):
            yield f"`{key}`", "mapping", "", notes[item.name]
            if not (name := next(iter(_raw(composed, key)), None)):
                for field, *row in _field_rows(get_args(kind)[1]):
                    yield f"`{key}.<name>.{field}`", row[0], row[1], row[2]
                continue
            inner = get_args(kind)[1]
            rows = _key_rows(inner, composed, f"{key}.{name}.")
            yield from ((row[0].replace(f"{key}.{name}.", f"{key}.<name>."), *row[1:]) for row in rows)
            continue
        shown = " | ".join(CHOICES[key]) if key in CHOICES else str(item.type)
        value = _shown(_raw(composed, key))
        default = (
            f"`{value}`" if value and len(value) < 60 and "\n" not in value else "a text" if value else ""
        )
        yield f"`{key}`", shown, default, notes[item.name]


def _field_rows(schema: Any) -> Iterator[tuple[str, str, str, str]]:
    """The fields of a schema with the defaults of the schema itself: name, type, default, meaning."""
    notes = comments(schema)
    for item in fields(schema):
        default = item.default if item.default_factory is MISSING else item.default_factory()
        yield item.name, str(item.type), f"`{_shown(default)}`", notes[item.name]


def _raw(composed: Any, key: str) -> Any:
    """A value without resolving its interpolations."""
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(composed, parent) if parent else composed
    return cast(dict[str, Any], OmegaConf.to_container(node))[name]


def _shown(value: Any) -> str:
    """A value as a user would type it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    return str(value) if value != "" else '""'


if __name__ == "__main__":
    print(reference(), end="")
