"""Files and folders on disk, whole or not there: a kill never leaves half of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of `path` once all of it is written."""
    draft = path.with_name(f".{path.name}.draft")
    yield draft
    draft.replace(path)


@contextmanager
def drafted_folder(path: Path) -> Iterator[Path]:
    """The name of a folder to make, which takes the place of `path` once it is filled."""
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # what a kill has left
    yield draft
    shutil.rmtree(path, ignore_errors=True)
    draft.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is either whole or not there."""
    with drafted(path) as draft:
        draft.write_text(json.dumps(value, indent=1, default=str) + "\n")


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a JSON-lines file, whole or not at all."""
    with drafted(path) as draft:
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file up to the first damaged line, such as a last one that a kill cut short."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):  # U+2028 ends no line
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; a UserError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged or cut short: {' '.join(str(error).split())[:200]}") from error
