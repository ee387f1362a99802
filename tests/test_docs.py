"""The pages of the project: generated lists are current, links are valid, and command lines compose."""

from __future__ import annotations

import re
import shlex
from functools import cache
from itertools import zip_longest
from pathlib import Path
from textwrap import dedent

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from tools import file_map, routing_picture
from typer.main import get_command

from vigos_cli.cli.app import app
from vigos_cli.config.compose import job

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
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", without_code(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


# ---- generated lists and pictures


@pytest.mark.parametrize("page", file_map.LISTS)
def test_the_lists_of_folders_and_files_are_current(page):
    assert text_of(page) == file_map.renewed(page), f"{page}: {RENEW}"


def test_every_module_has_a_docstring():
    silent = [file for file in file_map.SOURCE.rglob("*.py") if not file_map.first_sentence(file)]
    assert not silent


def test_the_file_map_names_every_module():
    shown = "\n".join(file_map.file_map())
    files = [file for file in file_map.SOURCE.rglob("*.py") if file.name != "__init__.py"]
    assert [file for file in files if f"(../{file.relative_to(ROOT).as_posix()})" not in shown] == []


def test_the_picture_of_the_routing_is_current():
    assert routing_picture.PICTURE.read_text(encoding="utf-8") == routing_picture.drawing(), RENEW


# ---- numbers


@pytest.mark.slow
def test_the_memory_in_the_readme_equals_the_plan(tmp_path, capsys, monkeypatch):
    from conftest import no_hub

    from vigos_cli.models import planned_config
    from vigos_cli.training.distill import distill

    monkeypatch.setattr(planned_config, "fetch", no_hub)
    paper = ["trainer=paper", "rollout.max_new_tokens=4096"]
    recipes = ([], ["adapter=lora"], ["adapter=lora", *paper])
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text_of("README.md"), re.M)
    assert rows
    for option, *shown in rows:
        for recipe, gib in zip(recipes, shown, strict=True):
            distill(job("distill", [f"model={option}", "plan=true", f"out={tmp_path}/out", *recipe]))
            assert re.search(rf"peak\W+{gib}\b", capsys.readouterr().out), (option, recipe)


# ---- links


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if re.match(r"\w+:", target):  # a link to another site
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        here = file.exists()
        if here and heading:
            here = heading in anchors(file.resolve().relative_to(ROOT).as_posix())
        broken += [] if here else [target]
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_files_and_modules_that_a_page_names_exist(page):
    text = text_of(page)
    folders = "src|conf|docs|experiments|tests"
    files = re.findall(rf"\b(?:{folders})/[\w./-]*\.(?:py|yaml|md)\b(?!` \(new\))", text)
    assert [name for name in files if not (ROOT / name).exists()] == []
    modules = [name.replace(".", "/") for name in re.findall(r"-m (vigos_cli\.[\w.]+)", text)]
    assert [name for name in modules if not (ROOT / "src" / f"{name}.py").exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_names_that_a_page_places_in_a_file_exist_there(page):
    """For example `CHOICES` in `config/`."""
    lost = []
    for name, place in re.findall(r"`(\w+)` in (?:the )?`([\w/.]+(?:/|\.py))`", text_of(page)):
        where = next((at for at in (ROOT / place, file_map.SOURCE / place) if at.exists()), None)
        files = [] if where is None else [where] if where.is_file() else where.rglob("*.py")
        pattern = re.compile(rf"^(?:class |def )?{name}\b", re.MULTILINE)
        lost += [] if any(pattern.search(file.read_text(encoding="utf-8")) for file in files) else [name]
    assert lost == []


# ---- command lines


def command_lines(page: str) -> list[list[str]]:
    """The words after `vigos`, of every command in a page's `sh` blocks and in its text."""
    text = text_of(page)
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(vigos [a-z]+ [^`]*=[^`]*)`", without_code(text).replace("\n", " "))
    found = [
        re.match(r"\s*(?:vigos|(?:torchrun|accelerate launch) .*-m vigos_cli) (.*)", line) for line in lines
    ]
    return [shlex.split(match[1], comments=True) for match in found if match]


def singles(overrides: list[str]) -> list[list[str]]:
    """Replace swept lists by single values: one line for each value, or only the first of numbers."""
    values = []
    for override in OverridesParser.create().parse_overrides(overrides):
        word = override.input_line or ""
        if override.is_sweep_override():
            options = [f"{word.partition('=')[0]}={value}" for value in override.sweep_string_iterator()]
            values.append(options[:1] if re.search(r"=[\d,.]+$", word) else options)
        else:
            values.append([word])
    lines = zip_longest(*values)
    return [[word or own[0] for word, own in zip(line, values, strict=True)] for line in lines] or [[]]


@cache
def compose_once(command: str, overrides: tuple[str, ...]) -> None:
    job(command, list(overrides))


def write_examples(page: str, folder: Path) -> None:
    """Write the option files that a page shows into a folder for `--config-dir`."""
    shown = re.findall(r"`conf/(\S+)` \(new\).*?```yaml\n(.*?)```", text_of(page), re.DOTALL)
    shown += re.findall(r"```yaml\n# mine/(\S+\.yaml): [^\n]*\n(.*?)```", text_of(page), re.DOTALL)
    for name, text in shown:
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)])
def test_every_command_line_composes(page, tmp_path):
    """Like `vigos ... --cfg job`: Typer checks flags, Hydra overrides, and the schema values."""
    group = get_command(app)
    write_examples(page, tmp_path)
    own = [f"hydra.searchpath=[file://{tmp_path}]"] if any(tmp_path.iterdir()) else []
    for name, *words in command_lines(page):
        if "NAME" in " ".join(words).replace("OWNER/NAME", ""):
            continue  # a template with a placeholder
        command = group.commands[name]  # pyright: ignore[reportAttributeAccessIssue]
        context = command.make_context(name, words, resilient_parsing="--help" in words)
        for overrides in singles(list(context.params["overrides"] or [])):
            compose_once(name, (*own, *overrides))
