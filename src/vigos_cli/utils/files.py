"""Write files and folders completely or not at all, and read JSON lines and tensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.utils.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A temporary file to write to; it replaces `path` at the end, so a kill leaves no partial file."""
    draft = path.with_name(f".{path.name}.draft")
    yield draft
    draft.replace(path)


@contextmanager
def drafted_folder(path: Path) -> Iterator[Path]:
    """The name of a temporary folder to create; at the end it replaces `path`."""
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # left by a killed run
    yield draft
    shutil.rmtree(path, ignore_errors=True)
    draft.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, completely or not at all."""
    with drafted(path) as draft:
        draft.write_text(json.dumps(value, indent=1, default=str) + "\n")


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a JSON-lines file, completely or not at all."""
    with drafted(path) as draft:
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file up to the first damaged line, such as an incomplete last line."""
    if not path.exists():
        return []
    lines = []
    content = path.read_text(encoding="utf-8", errors="replace")
    for text in content.split("\n"):  # splitlines would also split at U+2028
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; UserError if it is damaged or cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        file.open("rb").close()  # safetensors says of every file that cannot be opened that there is none
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged or incomplete: {one_line(error)}") from error
