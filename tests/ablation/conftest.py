"""Fixtures for the reports of sweeps."""

import pytest


@pytest.fixture
def no_plots(monkeypatch):
    """Leave out the figures, which take long; one test draws them."""
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
