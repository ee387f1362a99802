"""What a run records about the code that made it."""

import re

import pytest

from vigos_cli.config.paths import PACKAGE
from vigos_cli.config.provenance import commit


@pytest.mark.skipif(not (PACKAGE.parents[1] / ".git").exists(), reason="not a checkout")
def test_a_checkout_records_its_commit():
    assert re.fullmatch(r"[0-9a-f]{40}\+?", commit() or "")
