"""The checks on a real card; `nox -s gpu` runs them and writes gpu-report.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu.check_gpu import run_checks
from gpu.sizes import TRUE


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device with 16 GB or more")
def test_the_checks_pass_on_the_first_visible_card():
    file = Path("gpu-report.md").absolute()
    report = run_checks(TRUE, file)
    print(file)
    assert not report.failed, f"{file} has the messages of {[one.name for one in report.failed]}"
    assert report.missing() == []
