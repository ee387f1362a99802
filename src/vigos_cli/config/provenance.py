"""What a run records about itself: commit, versions of packages, configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vigos_cli.config.paths import PACKAGE
from vigos_cli.config.removed_keys import without_removed
from vigos_cli.config.run_folder import has_results
from vigos_cli.config.schema import RunConfig, may_change, on_resume
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.files import read_lines, write_json
from vigos_cli.utils.machine_errors import REMOVED

PACKAGES = ("vigos", "torch", "transformers", "peft", "bitsandbytes", "hydra-core", "numpy", "pillow")
CHANGES = "changes.jsonl"  # in a run's folder: one line for each resume with changed values


def commit() -> str | None:
    """The commit of the checkout, with `+` if files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", str(PACKAGE)) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """The versions of Python and of the packages."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}}


def claim(out: Path, config: RunConfig, **where: Any) -> None:
    """Record the configuration in the run's folder, or compare it with the one recorded there.

    If all changed keys are keys that may change, config.json gets their new values, and a new line of
    changes.jsonl records the change together with `where`, such as the step. Otherwise `same_run` raises a
    ConfigError. The configuration of a start that failed before its first result is replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    started, kept = out / "config.json", has_results(out)
    if not kept:
        (out / CHANGES).unlink(missing_ok=True)
    if kept and started.exists():
        changed = same_run(json.loads(started.read_text()), config)
        if not changed:
            return
        last = read_lines(out / CHANGES)[-1:]
        if not last or last[0]["changed"] != changed:  # it is there if a run was killed directly after this
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            with (out / CHANGES).open("a") as file:
                file.write(json.dumps({"time": now, **where, "changed": changed}) + "\n")
        if rounded := [key for key in changed if on_resume(key) == "same up to rounding"]:
            values = ", ".join(f"{key}={changed[key][1]} instead of {changed[key][0]}" for key in rounded)
            print(f"vigos: resuming with {values}; results stay the same up to rounding", file=sys.stderr)
    write_json(started, asdict(config))


def check_claimed(out: Path) -> None:
    """Raise a UserError if the run's folder was removed since `claim`; what was in it would be missing."""
    if not (out / "config.json").exists():
        raise UserError(f"{out}: {REMOVED}")


def check_form(saved: dict[str, Any], where: str) -> None:
    """Raise a ConfigError if a configuration was recorded before a routing defined its teachers."""
    if isinstance(saved.get("routing", {}).get("student"), str):
        raise ConfigError(
            f"{where} was written by an earlier version of vigos, whose routings had another form: "
            "choose another folder"
        )


def same_run(saved: dict[str, Any], config: RunConfig) -> dict[str, list[Any]]:
    """Compare the recorded configuration of a run with the one that it is resumed with.

    Returns the keys that have changed, except `out` and `resume`, each with its old and its new value.
    Raises a ConfigError that names the first changed key that must not change.
    """
    check_form(saved, f"{config.out}")
    changed = {}
    for name, then, now in differences(saved, config):
        if not may_change(name):
            raise ConfigError(
                f"resume=auto: this run was started with {name}={then}, not {now}: "
                "choose another folder with out="
            )
        if name not in ("out", "resume"):
            changed[name] = [then, now]
    return changed


def differences(saved: dict[str, Any], config: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """The keys in which a recorded configuration differs from this one: name, old and new value."""
    now, then = flat(asdict(config)), recorded(saved, type(config))
    for name in sorted({*now, *then}):
        if now.get(name) != then.get(name):
            yield name, then.get(name), now.get(name)


def recorded(saved: dict[str, Any], schema: type[RunConfig]) -> dict[str, Any]:
    """A recorded configuration with dotted keys; keys added since then have their default."""
    return {**flat(asdict(schema())), **without_removed(flat(saved))}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as a flat one with dotted keys."""
    items: dict[str, Any] = {}
    for name, value in tree.items():
        items |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return items
