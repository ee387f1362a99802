"""An adapter's folder contains its prompt, and the example on its card runs without vigos."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from conftest import distill_config, make_student
from PIL import Image

from vigos_cli.models.adapter_folder import save_adapter, use_trained_prompt
from vigos_cli.reporting.measures import LABELS
from vigos_cli.utils.errors import ConfigError


def figures(mean: float) -> dict:
    names = dict.fromkeys(LABELS, mean)
    return {**names, "n": dict.fromkeys(LABELS, 3), "interval": {key: [0.0, 1.0] for key in LABELS}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "adapter"
    config = distill_config("routing=opsd", "prompt.think='{question} Well?'")
    summary = {"before": figures(0.25), "after": figures(0.75), "steps": 3, "adapter_modules": 28}
    save_adapter(make_student(), place, config, summary)
    return place


def test_the_card_has_the_settings_and_the_scores(folder):
    card = (folder / "README.md").read_text()
    assert "Routing `opsd`" in card and "0.250" in card and "0.750" in card
    assert (
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "builtin:tiny"
    )


@pytest.mark.slow
def test_the_cards_example_runs(folder, tmp_path):
    Image.new("RGB", (84, 84), "red").save(folder.parent / "picture.png")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    code = code.replace("max_new_tokens=1024", "max_new_tokens=8")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_an_adapter_uses_its_training_prompt_unless_a_prompt_is_set(folder):
    config = distill_config(f"adapter.path={folder}")
    use_trained_prompt(config, frozenset({"adapter"}))
    assert config.routing.student.format == "think" and config.prompt.think == "{question} Well?"
    other = distill_config(f"adapter.path={folder}")
    use_trained_prompt(other, frozenset({"prompt"}))
    assert other.routing.student.format == "structured" and other.prompt.think != "{question} Well?"


@pytest.mark.slow
def test_a_damaged_prompt_file_is_one_line(folder, tmp_path):
    (tmp_path / "vigos.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        use_trained_prompt(distill_config(f"adapter.path={tmp_path}"), frozenset())


@pytest.mark.slow
def test_a_checkpoint_can_be_loaded_as_an_adapter(tmp_path):
    from dataclasses import asdict

    import torch

    from vigos_cli.training import checkpoint
    from vigos_cli.utils.errors import UserError
    from vigos_cli.utils.files import write_json

    config, student = distill_config("adapter.r=8", "routing=opsd"), make_student("adapter.r=8")
    for p in student.adapter.values():
        torch.nn.init.constant_(p, 0.25)
    optimizer = torch.optim.AdamW(student.adapter.values())
    write_json(tmp_path / "config.json", asdict(config))
    place = checkpoint.save_checkpoint(
        tmp_path / "checkpoints", 3, adapter=student.adapter_state(), optimizer=optimizer, kept={}, state={}
    )
    loaded = make_student(f"adapter.path={place}")
    assert loaded.adapter.keys() == student.adapter.keys()
    assert all(torch.equal(loaded.adapter[name], p) for name, p in student.adapter.items())
    asked = distill_config(f"adapter.path={place}")
    use_trained_prompt(asked, frozenset())
    assert asked.routing.student.format == "think"
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        make_student(f"adapter.path={place}")
