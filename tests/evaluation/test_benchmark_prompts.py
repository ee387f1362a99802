"""The script that prints how each benchmark asks."""

from __future__ import annotations

import pytest
from tools import benchmark_prompts

from vigos_cli.evaluation import registry


def test_the_script_knows_every_benchmark():
    assert benchmark_prompts.ROWS.keys() == registry.WHERE.keys()


@pytest.mark.parametrize("name", registry.WHERE)
def test_two_prompts_of_each_benchmark_are_printed(name: str, capsys: pytest.CaptureFixture[str]):
    benchmark_prompts.main([name])
    printed = capsys.readouterr().out
    assert printed.count(f"== {name} ") == 2 and "<image" not in printed and "None" not in printed
    assert printed.count("pictures: none") == {"mathverse_text_only": 2, "hallusion": 1}.get(name, 0)
