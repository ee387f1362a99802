"""The experiment `rivals` has every published method beside ViGOS, and lists a cell for each seed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import warm
import yaml

from vigos_cli.config.paths import config_dir, experiments_dir

NEEDS_ANOTHER_CHECKPOINT = {"vgs"}  # with the initial model as its teacher it learns nothing


def params() -> dict[str, str]:
    file = experiments_dir() / "rivals.yaml"
    return yaml.safe_load(file.read_text())["hydra"]["sweeper"]["params"]


def published() -> set[str]:
    """The routings whose head names a paper of their own."""
    heads = {
        file.stem: file.read_text().split("name:")[0] for file in (config_dir() / "routing").glob("*.yaml")
    }
    return {name for name, head in heads.items() if re.search(r"^# arXiv \d{4}\.\d{5}", head, re.MULTILINE)}


def test_every_published_method_is_a_rival():
    methods = params()["routing"].split(",")
    assert len(methods) == len(set(methods))
    assert set(methods) == {"vigos", "opsd_structured"} | (published() - NEEDS_ANOTHER_CHECKPOINT)
    assert len(published()) == 13


def test_the_heads_of_published_methods_say_what_is_left_open_missing_and_their_recipe():
    for name in published():
        head = (config_dir() / "routing" / f"{name}.yaml").read_text().split("name:")[0]
        first, *rest = head.splitlines()
        assert first.startswith("# ") and len(first) <= 110 and not first.endswith(".")
        assert "# Recipe:" in head or " Recipe:" in head, name
        assert any(word in head for word in ("Missing here:", "Left open", "Deviation")), name
        assert all(line.startswith("#") for line in rest)


@pytest.mark.slow
def test_the_list_has_a_cell_for_each_method_and_seed(tmp_path: Path):
    done = warm.run(warm.vigos, ["ablate", "+experiment=rivals", "cells=list", f"out={tmp_path}"], check=True)
    own = params()
    expected = [
        f"routing={method},seed={seed}"
        for seed in own["seed"].split(",")
        for method in own["routing"].split(",")
    ]
    assert re.findall(r"^not run\s+(\S+)", done.stdout, re.MULTILINE) == expected
    assert f"{len(expected)} cells, {len(expected)} of them to run" in done.stdout
    said = re.search(r"^# (\d+) cells", (experiments_dir() / "rivals.yaml").read_text(), re.MULTILINE)
    assert said and int(said[1]) == len(expected)
