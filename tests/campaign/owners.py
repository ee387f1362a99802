"""Trials with files and folders that the user may not read or write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import warm

from campaign import children, small_runs
from campaign.small_rows import write_rows
from campaign.trial import Outcome, Space, Trial

GROUP = "files of another user"
OTHER = 65534  # the user and the group nobody
NONE, READ = 0o000, 0o555


def given_away(place: Path, mode: int) -> None:
    """Make a file or a folder another user's, with this mode for everybody."""
    os.chmod(place, mode)
    if os.geteuid() == 0:
        os.chown(place, OTHER, OTHER)


def given_back(folder: Path) -> None:
    """Make everything in a folder this user's again."""
    for place in (folder, *folder.rglob("*")):
        os.chown(place, os.geteuid(), os.getegid())
        os.chmod(place, 0o755 if place.is_dir() else 0o644)


def prepared(space: Space, kind: str) -> tuple[list[str], Path]:
    """The arguments of a command and the file or folder that it may not use."""
    folder = space.folder
    out = folder / "run"
    match kind:
        case "the folder of out":
            place = folder / "theirs"
            place.mkdir()
            given_away(place, READ)
            return small_runs.command("distill", place / "run"), place
        case "out":
            out.mkdir()
            given_away(out, READ)
            return small_runs.command("distill", out), out
        case "the adapter":
            shutil.copytree(small_runs.adapter(space), folder / "adapter")
            place = folder / "adapter" / "adapter_model.safetensors"
            given_away(place, NONE)
            return small_runs.command("eval", out, f"adapter.path={folder / 'adapter'}"), place
        case "the folder of the adapter":
            shutil.copytree(small_runs.adapter(space), folder / "adapter")
            given_away(folder / "adapter", NONE)
            place = folder / "adapter"
            return small_runs.command("eval", out, f"adapter.path={place}"), place
        case "the checkpoints":
            shutil.copytree(small_runs.whole(space, "distill"), out)
            (out / "summary.json").unlink()
            given_away(out / "checkpoints", NONE)
            return small_runs.command("distill", out, "resume=auto"), out / "checkpoints"
        case "a file of a checkpoint":
            shutil.copytree(small_runs.whole(space, "distill"), out)
            (out / "summary.json").unlink()
            place = max((out / "checkpoints").iterdir()) / "adapter.safetensors"
            given_away(place, NONE)
            return small_runs.command("distill", out, "resume=auto"), place
        case "the data":
            data = write_rows(folder / "data", 8)
            given_away(data, NONE)
            return small_runs.command("rows", out, f"data.path={data}"), data
        case "the pictures":
            data = write_rows(folder / "data", 8)
            given_away(folder / "data" / "pictures", NONE)
            place = folder / "data" / "pictures"
            return small_runs.command("rows", out, f"data.path={data}"), place
        case "the model":
            shutil.copytree(small_runs.tiny(), folder / "model")
            given_away(folder / "model", NONE)
            return small_runs.command("eval", out, f"model.path={folder / 'model'}"), folder / "model"
        case "the weights of the model":
            shutil.copytree(small_runs.tiny(), folder / "model")
            place = folder / "model" / "model.safetensors"
            given_away(place, NONE)
            return small_runs.command("eval", out, f"model.path={folder / 'model'}"), place
        case "the run of compare":
            shutil.copytree(small_runs.whole(space, "eval"), folder / "other")
            place = folder / "other" / "verdicts.jsonl"
            given_away(place, NONE)
            return small_runs.command("eval", out, f"compare=[{folder / 'other'}]"), place
        case "the prompt texts":
            place = folder / "mine.yaml"
            place.write_text("structured: 'Describe, then answer: {question}'\n")
            given_away(place, NONE)
            return small_runs.command("eval", out, f"prompt.path={place}"), place
    raise AssertionError(kind)


KINDS = (
    "the folder of out",
    "out",
    "the adapter",
    "the folder of the adapter",
    "the checkpoints",
    "a file of a checkpoint",
    "the data",
    "the pictures",
    "the model",
    "the weights of the model",
    "the run of compare",
    "the prompt texts",
)


def not_mine(kind: str) -> Trial:
    """A command that may not use something that it needs: one line that names it."""

    def run(space: Space) -> Outcome:
        arguments, place = prepared(space, kind)
        done = warm.run(children.without_rights, arguments, timeout=small_runs.LIMIT)
        (space.folder / "stderr").write_text(done.stderr)
        wrong, said = small_runs.complaint(done), small_runs.lines_of(done)
        if not wrong and not any(str(one) in said[0] for one in (place, place.parent)):
            wrong = f"the line does not name it: {said[0]}"
        came = wrong or said[0]
        if not wrong and "resume=auto" in arguments:
            given_back(space.folder)
            again = warm.run(warm.vigos, arguments, timeout=small_runs.LIMIT)
            wrong = again.stderr[-300:] if again.returncode else ""
            wrong = wrong or small_runs.difference(space.folder / "run", small_runs.whole(space, "distill"))
            came = wrong or f"{came}. With the permission again: the same bytes"
        moment = f"{arguments[0]}: {kind}"
        return Outcome(not wrong, moment, "no permission", small_runs.short(came, space.folder))

    return Trial(f"owners {kind}", GROUP, run)


def no_cache(name: str, variables: Callable[[str], dict[str, str]]) -> Trial:
    """A command whose caches cannot be written: it works without them."""

    def run(space: Space) -> Outcome:
        expected, theirs, out = (
            small_runs.whole(space, "distill"),
            space.folder / "theirs",
            space.folder / "run",
        )
        theirs.mkdir()
        given_away(theirs, READ)
        environment = {k: v for k, v in os.environ.items() if k != "HOME"} | variables(str(theirs))
        done = warm.run(
            children.without_rights,
            small_runs.command("distill", out),
            env=environment,
            timeout=small_runs.LIMIT,
        )
        (space.folder / "stderr").write_text(done.stderr)
        wrong = f"exit code {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""
        wrong = wrong or small_runs.difference(out, expected)
        came = wrong or "the same bytes"
        return Outcome(
            not wrong, f"distill: {name}", "cannot be written", small_runs.short(came, space.folder)
        )

    return Trial(f"owners {name}", GROUP, run)


CACHES: dict[str, Callable[[str], dict[str, str]]] = {
    "HOME": lambda place: {"HOME": place},
    "HF_HOME": lambda place: {"HF_HOME": place, "HOME": place},
    "XDG_CACHE_HOME and MPLCONFIGDIR": lambda place: {
        "XDG_CACHE_HOME": place, "XDG_CONFIG_HOME": place, "MPLCONFIGDIR": place, "HOME": place,
    },
    "TMPDIR": lambda place: {"TMPDIR": place, "HOME": place},
    "no HOME at all": lambda place: {},
}  # fmt: skip


def trials(seed: int) -> list[Trial]:
    """Everything that a command needs and may not use, and the caches that it can do without."""
    return [*map(not_mine, KINDS), *(no_cache(*one) for one in CACHES.items())]
