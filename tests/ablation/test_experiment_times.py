"""The heads of the sweeps in experiments/ say how many cells there are, and how long they take."""

import pytest
from tools.experiment_times import LINE, renewed, sweeps

from vigos_cli.config.paths import experiments_dir


@pytest.mark.slow
@pytest.mark.parametrize("name", sweeps())
def test_the_time_in_the_head_is_that_of_the_forecast(name):
    text = (experiments_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    assert LINE.search(text), "the head has no line about the time"
    assert text == renewed(name), "write the times with `nox -s reference`"
