"""Everything that docs/method.md names exists: functions, configuration keys, options and links."""

import ast
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from vigos_cli.config.schema import DistillRun

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", PAGE)
FUNCTIONS = sorted({text for text in CODE if re.fullmatch(r"[\w/]+\.py:[\w.]+", text)})
FILES = sorted(set(re.findall(r"\b[\w/]+\.py\b", PAGE)))
METHODS = sorted({text for text in CODE if re.fullmatch(r"[A-Z]\w+\.\w+", text)})
GROUPS = "|".join(field.name for field in fields(DistillRun) if is_dataclass(field.default_factory))
KEYS = sorted({match[0] for text in CODE if (match := re.match(rf"(?:{GROUPS})\.[a-z_]+(?=$|=)", text))})
OPTIONS = sorted({pair for text in CODE for pair in re.findall(r"(?<![.\w])([a-z]+)=([a-z]\w*)\b", text)})


def names(file: Path) -> set[str]:
    """The names that a file defines: functions, classes, constants, and members as `Class.name`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef):
                    found.add(f"{node.name}.{inner.name}")
                elif isinstance(inner, ast.Assign):
                    found |= {f"{node.name}.{t.id}" for t in inner.targets if isinstance(t, ast.Name)}
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_on_the_page_exist(name):
    file, function = name.split(":")
    assert function in names(ROOT / "src" / "vigos_cli" / file)


@pytest.mark.parametrize("name", METHODS)
def test_members_of_classes_on_the_page_exist(name):
    places = {ROOT / "src" / "vigos_cli" / text.split(":")[0] for text in FUNCTIONS}
    assert any(name in names(place) for place in places)


@pytest.mark.parametrize("name", FILES)
def test_files_on_the_page_exist(name):
    assert any((place / name).is_file() for place in (ROOT / "src" / "vigos_cli", ROOT))


@pytest.mark.parametrize("key", KEYS)
def test_configuration_keys_on_the_page_exist(key):
    value = DistillRun()
    for part in key.split("."):
        assert is_dataclass(value) and part in {field.name for field in fields(value)}
        value = getattr(value, part)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_options_on_the_page_exist(group, option):
    assert (ROOT / "conf" / group / f"{option}.yaml").is_file()


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)h][^)#]*)", PAGE))
def test_links_on_the_page_lead_to_files(path):
    assert (ROOT / "docs" / path).exists()


def test_the_page_names_enough():
    """Checks that the patterns above still match the page."""
    assert len(FUNCTIONS) > 25 and len(METHODS) > 1 and len(KEYS) > 8 and len(OPTIONS) > 4
