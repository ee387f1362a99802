"""Write the lists of folders and files in README.md and docs/architecture.md from the source's docstrings.

`nox -s reference` runs it. Each list is between two comments, `<!-- NAME -->` and `<!-- end of NAME -->`;
the text outside them is written by hand. A file's line is the first sentence of its module docstring.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "vigos_cli"
ABBREVIATIONS = ("App", "Fig", "Eq", "Sec", "Tab", "e.g", "i.e", "fig", "eq", "sec", "tab", "cf", "vs")
# A full stop that ends a sentence, not that of "App. A" or "sec. 2".
SENTENCE = re.compile("".join(rf"(?<!\b{re.escape(word)})" for word in ABBREVIATIONS) + r"\.(?=\s+[A-Z`]|$)")


def first_sentence(module: Path) -> str:
    """The first sentence of a module's docstring, in one line and without its full stop."""
    paragraph = (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return SENTENCE.split(" ".join(paragraph.split()))[0].rstrip(":.")


def layers() -> list[str]:
    """The folders and modules in the order that import-linter checks, from top to bottom."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return contract["layers"]


def folders() -> list[str]:
    """The folders of the source that hold modules, from top to bottom."""
    return [name for name in layers() if (SOURCE / name).is_dir()]


def modules(folder: Path) -> list[Path]:
    """The modules of one folder, without its `__init__.py`."""
    return sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")


def sentence_of(folder: Path) -> str:
    """The content of a folder, in words."""
    return first_sentence(folder / "__init__.py")


def folder_list() -> Iterable[str]:
    """One line for each folder, for the README."""
    for name in folders():
        yield f"- [`{name}/`](src/vigos_cli/{name}): {sentence_of(SOURCE / name)}"


def folder_table() -> Iterable[str]:
    """One row for each folder: what it contains, and which layers it may import."""
    order = layers()
    yield "| folder | what it holds | may import |"
    yield "|---|---|---|"
    for name in folders():
        below = order[order.index(name) + 1 :]
        allowed = f"`{below[0]}` and all below it" if len(below) > 1 else f"`{below[0]}`"
        yield f"| [`{name}/`](../src/vigos_cli/{name}) | {sentence_of(SOURCE / name)} | {allowed} |"


def file_map() -> Iterable[str]:
    """One table for each folder, with one row for each file."""
    yield from _table("The package itself", modules(SOURCE))
    for name in folders():
        for folder in sorted({file.parent for file in (SOURCE / name).rglob("*.py")}):
            place = f"{folder.relative_to(SOURCE).as_posix()}/"
            yield from _table(f"`{place}`", modules(folder))


def _table(title: str, files: Iterable[Path]) -> Iterable[str]:
    yield from (f"### {title}", "", "| file | what it holds |", "|---|---|")
    for file in files:
        link = f"../{file.relative_to(ROOT).as_posix()}"
        yield f"| [`{file.name}`]({link}) | {as_cell(first_sentence(file))} |"
    yield ""


def as_cell(text: str) -> str:
    """Text as Markdown for a table. `<` is escaped outside code, because it would start an HTML tag."""
    parts = text.replace("|", r"\|").split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


LISTS: dict[str, dict[str, Callable[[], Iterable[str]]]] = {
    "README.md": {"folders": folder_list},
    "docs/architecture.md": {"folders": folder_table, "files": file_map},
}


def renewed(page: str) -> str:
    """The text of a page with new lists."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, lines in LISTS[page].items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        assert found, f"{page} lacks the comments of the list {name!r}"
        text = head + begin + "\n" + "\n".join(lines()).strip() + "\n\n" + end + tail
    return text


if __name__ == "__main__":
    for page in LISTS:
        (ROOT / page).write_text(renewed(page), encoding="utf-8")
