"""The pages of the project: generated lists are current, links lead somewhere, and command lines compose."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from tools import file_map, routing_picture

ROOT = Path(__file__).parents[1]
RENEW = "not current; run: nox -s reference"
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for place in ("*.md", "docs/*.md", "conf/*.md", "experiments/*.md", "src/vigos_cli/tiny/*.md")
    for page in ROOT.glob(place)
)


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", without_code(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


# ---- what is generated


@pytest.mark.parametrize("page", file_map.LISTS)
def test_the_lists_of_folders_and_files_are_current(page):
    assert text_of(page) == file_map.renewed(page), f"{page}: {RENEW}"


def test_every_module_says_what_it_holds():
    silent = [file for file in file_map.SOURCE.rglob("*.py") if not file_map.first_sentence(file)]
    assert not silent


def test_the_file_map_names_every_module():
    shown = "\n".join(file_map.file_map())
    files = [file for file in file_map.SOURCE.rglob("*.py") if file.name != "__init__.py"]
    assert [file for file in files if f"(../{file.relative_to(ROOT).as_posix()})" not in shown] == []


def test_the_picture_of_the_routing_is_current():
    assert routing_picture.PICTURE.read_text(encoding="utf-8") == routing_picture.drawing(), RENEW


# ---- links


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if re.match(r"\w+:", target):  # another site
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        here = file.exists()
        if here and heading:
            here = heading in anchors(file.resolve().relative_to(ROOT).as_posix())
        broken += [] if here else [target]
    assert broken == []
