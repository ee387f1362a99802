"""What the tests keep of composed configurations gives the same as Hydra itself."""

from __future__ import annotations

from typing import Any

import config_cache
import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from vigos_cli.config import compose
from vigos_cli.utils.errors import ConfigError

CASES = [
    ("distill", ["out=here", "seed=3", "trainer.lr=1e-3"]),
    ("eval", ["bench=paper", "out=${oc.env:HOME}/x"]),
    ("ablate", ["+experiment=main", "+arm=jsd_0.9", "out='a b'"]),
    ("rollout", ["model=qwen2vl_7b", "routing=vcsd", "++data.columns.question=q"]),
]


def composed(command: str, overrides: list[str]) -> tuple[Any, ...]:
    """The content, unresolved because `${now:}` changes, the flags of some nodes, and the dataclass."""
    config = compose.compose(command, overrides)
    flags = [node._metadata.flags for node in (config, config.model, config.hydra)]
    return OmegaConf.to_container(config), flags, compose.typed(config, command)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "overrides"), CASES)
def test_a_configuration_is_that_of_hydra(command, overrides):
    with config_cache.switched_off():
        expected = composed(command, overrides)
    for _ in range(2):  # the second time from what is kept
        found = composed(command, overrides)
        assert found == expected
        found[2].seed = -1  # a caller may change what it gets
        found[2].model.name = "another"


def test_a_wrong_value_is_refused_every_time():
    for _ in range(2):
        with pytest.raises(ConfigCompositionException, match="lrr"):
            compose.job("distill", ["trainer.lrr=1"])
        with pytest.raises(ConfigError, match=r"trainer\.steps"):
            compose.job("distill", ["trainer.steps=-2"])


def test_a_file_that_has_changed_is_read_again(tmp_path):
    own = tmp_path / "loss" / "mine.yaml"
    own.parent.mkdir()
    chosen = [f"hydra.searchpath=[file://{tmp_path}]", "loss=mine"]
    for beta in ("0.1", "0.25"):
        own.write_text(f"name: mine\ndivergence: jsd\nbeta: {beta}\n")
        assert compose.job("distill", chosen).loss.beta == float(beta)
