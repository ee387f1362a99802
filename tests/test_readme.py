"""The README's map of the source names every file, and no file that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vigos_cli"


def mapped() -> set[str]:
    text = (ROOT / "README.md").read_text()
    block = re.search(r"```text\nsrc/vigos_cli/\n(.*?)```", text, re.DOTALL)
    assert block
    files, folder = set(), ""
    for line in block[1].splitlines():
        match = re.match(r"( *)(\S+)", line)
        if not match:
            continue
        depth, name = len(match[1]), match[2]
        if name.endswith("/"):
            folder = name
        else:  # files of one kind may share a line
            names = re.findall(r"\S+\.py", line)
            files |= {(folder if depth > 2 else "") + name for name in names}
    return files


def test_the_map_is_true():
    there = {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.py") if p.name != "__init__.py"}
    assert mapped() == there


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)h][^)]*)\)", (ROOT / "README.md").read_text()))
def test_what_the_readme_links_to_exists(name):
    path, _, heading = name.partition("#")
    assert (ROOT / path).exists()
    if heading:
        headings = re.findall(r"^#+ (.*)", (ROOT / path).read_text(), re.MULTILINE)
        assert heading in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
