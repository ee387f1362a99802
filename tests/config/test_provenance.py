"""The record of the code version in a run."""

import re
from dataclasses import asdict

import pytest

from vigos_cli.cli.mistakes import keys
from vigos_cli.config.paths import PACKAGE
from vigos_cli.config.provenance import commit, same_run
from vigos_cli.config.removed_keys import REMOVED
from vigos_cli.config.schema import AnyRun, DistillRun
from vigos_cli.utils.errors import ConfigError


@pytest.mark.skipif(not (PACKAGE.parents[1] / ".git").exists(), reason="this is not a git checkout")
def test_a_checkout_records_its_commit():
    assert re.fullmatch(r"[0-9a-f]{40}\+?", commit() or "")


def test_an_older_run_is_resumed_if_its_removed_keys_had_their_defaults():
    config = DistillRun()
    saved = asdict(config)
    for key, removed in REMOVED.items():
        group, _, name = key.partition(".")
        saved.setdefault(group, {})[name] = removed.default
    assert same_run(saved, config) == {}
    saved["model"]["attention"] = "eager"
    with pytest.raises(ConfigError, match=r"model\.attention=eager"):
        same_run(saved, config)


def test_no_removed_key_exists():
    assert REMOVED.keys().isdisjoint(keys(AnyRun))
