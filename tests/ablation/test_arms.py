"""Finished cells are grouped into arms."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sweeps import ROWS, SHARES, cell, finish, make

from vigos_cli.ablation.arms import arm_labels, read_sweep
from vigos_cli.ablation.cells import add_to_list, cell_folder, read_list
from vigos_cli.ablation.paper_results import PAPER_RESULTS
from vigos_cli.ablation.untrained_answers import has_untrained_answers
from vigos_cli.config.choices import CHOICES
from vigos_cli.config.provenance import same_run
from vigos_cli.config.run_digest import as_distill, digest
from vigos_cli.utils.errors import ConfigError


def test_an_old_record_without_a_new_key_belongs_to_the_same_arm_and_cell(tmp_path):
    before, after = cell("seed=1", ROWS), cell("seed=2", ROWS)
    assert digest(cell("seed=1", ROWS, "rollout.url=http://elsewhere/v1").config) == before.key
    for one in (before, after):
        finish(tmp_path, one, steps=1)
        (cell_folder(tmp_path, one) / "before.json").write_text("{}")
    add_to_list(tmp_path, [before, after])
    listed = read_list(tmp_path)
    for young in (listed[0]["config"], record := asdict(as_distill(before.config))):
        del young["rollout"]["prefill"], young["bench"]["tasks"]["priorworld"]["limit"]
    (tmp_path / "cells.json").write_text(json.dumps(listed))
    (cell_folder(tmp_path, before) / "config.json").write_text(json.dumps(record))
    assert [(arm.trained, len(arm.runs)) for arm in read_sweep(tmp_path).arms] == [(False, 1), (True, 2)]
    same_run(record, as_distill(before.config))
    with pytest.raises(ConfigError, match=r"rollout\.prefill=auto"):
        same_run(record, replace(before.config, rollout=replace(before.config.rollout, prefill="none")))
    third = cell("seed=3", ROWS)
    third.config.out = str(cell_folder(tmp_path, third))
    Path(third.config.out).mkdir()
    assert has_untrained_answers(third.config)


def test_an_arm_is_named_after_the_keys_in_which_it_differs():
    configs = [
        {"seed": 1, "routing.name": "vigos", "routing.student.spans": "paper", "loss.beta": 0.5},
        {"seed": 2, "routing.name": "vigos", "routing.student.spans": "paper", "loss.beta": 0.5},
        {"seed": 1, "routing.name": "vigos", "routing.student.spans": "code", "loss.beta": 0.5},
        {"seed": 1, "routing.name": "sft", "routing.student.spans": "paper", "loss.beta": 0.5},
    ]
    varied = ["routing.name", "routing.student.spans"]
    labels = arm_labels(configs, [None] * 4, varied)
    assert labels == ["vigos, routing.student.spans=paper"] * 2 + ["vigos, routing.student.spans=code", "sft"]
    assert arm_labels(configs, ["mine", "mine", "other", "other"], varied)[:2] == ["mine", "mine"]
    assert len(set(arm_labels(configs, ["mine"] * 4, varied))) == 3


def test_cells_that_differ_in_keys_that_may_change_are_one_arm(tmp_path):
    make(tmp_path, [(cell("seed=1", ROWS, "rollout.batch=4"), SHARES), (cell("seed=2", ROWS), SHARES)])
    results = read_sweep(tmp_path)
    assert [(arm.trained, len(arm.runs)) for arm in results.arms] == [(False, 1), (True, 2)]
    assert list(results.varied) == ["seed"] and "rollout.batch" not in results.fixed


def test_the_papers_results_are_under_the_names_that_arms_have():
    untrained = {f"untrained, {form} prompt" for form in CHOICES["routing.student.format"]}
    assert untrained == {name for name in PAPER_RESULTS if name.startswith("untrained")}
    assert PAPER_RESULTS.keys() - untrained == {"vigos", "opsd_structured"}
