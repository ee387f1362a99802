"""A folder in which a run failed before its first result is used again, and no other folder."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from conftest import distill_config

from vigos_cli.cli.launch import refuse_results
from vigos_cli.config.provenance import CHANGES, claim
from vigos_cli.config.run_folder import first_result, has_results
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import write_json

DATA = {"format": 2, "rows": 4, "texts": "a", "pictures": "b"}


@pytest.fixture
def failed(tmp_path):
    """The folder of a start that failed before its first result."""
    out = tmp_path / "run"
    (out / ".hydra").mkdir(parents=True)
    (out / "distill.log").write_text("")
    write_json(out / "config.json", asdict(distill_config()))
    write_json(out / "data.json", DATA)
    (out / "before" / "plain").mkdir(parents=True)
    (out / "before" / "plain" / "responses.jsonl").write_text("")
    return out


def test_a_failed_start_has_no_results(failed, tmp_path):
    assert not has_results(failed) and not has_results(tmp_path / "missing")
    refuse_results(failed)


@pytest.mark.parametrize("name", [".config.json.draft", ".data.json.draft"])
def test_a_start_that_was_killed_while_it_wrote_has_no_results(failed, name):
    (failed / name).write_text('{"seed": 0, "ou')
    assert not has_results(failed)
    refuse_results(failed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".notes.txt.draft", "of the user"),
        (".before.json.draft", "{"),
        ("before.json", "{}"),
        ("metrics.jsonl", '{"step": 1}\n'),
        ("before/plain/responses.jsonl", '{"sample_id": "a"}\n'),
        ("adapter/adapter_model.safetensors", "x"),
        ("notes.txt", "of the user"),
        ("config.json", '{"model_type": "qwen2_vl"}'),  # of another program
        ("data.json", '[{"question": "?", "answer": "4"}]'),  # rows of the user
        ("data.json", "not JSON"),
    ],
)
def test_any_other_file_is_a_result(failed, name, content):
    file = failed / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    assert first_result(failed) == failed / name.split("/")[0]
    with pytest.raises(ConfigError, match=rf"is not empty \(it contains {name.split('/')[0]}\)"):
        refuse_results(failed)


def test_the_configuration_of_a_failed_start_is_replaced_and_that_of_a_run_is_not(failed):
    (failed / CHANGES).write_text("{}\n")
    claim(failed, distill_config("trainer.lr=1"))
    assert json.loads((failed / "config.json").read_text())["trainer"]["lr"] == 1
    assert not (failed / CHANGES).exists()
    (failed / "before.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"started with trainer\.lr=1"):
        claim(failed, distill_config("trainer.lr=2", "resume=auto"))


def test_a_change_is_recorded_once_if_the_run_was_killed_before_it_recorded_the_configuration(failed):
    (failed / "before.json").write_text("{}")
    old = (failed / "config.json").read_bytes()
    for batch in (8, 8, 4):
        claim(failed, distill_config(f"rollout.batch={batch}", "resume=auto"), step=2)
        if batch == 8:
            (failed / "config.json").write_bytes(old)
    lines = [json.loads(line) for line in (failed / CHANGES).read_text().splitlines()]
    assert [line["changed"]["rollout.batch"][1] for line in lines] == [8, 4]
