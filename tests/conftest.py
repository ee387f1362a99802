"""Fixtures: the tiny model, loaded once per session, and configurations composed by Hydra."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell sets it for a command in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of the tests would inherit it

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: test processes share the cores
    os.environ["OMP_NUM_THREADS"] = "1"

import config_cache  # noqa: F401  (before other modules import what it replaces; so does the next one)
import figures as left_out
import limits

from vigos_cli.config.compose import job
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.quiet import quieten


def distill_config(*overrides: str) -> Any:
    """The configuration of `vigos distill` with these overrides."""
    return job("distill", ["out=unused", *overrides])


def make_student(*overrides: str) -> Any:
    quieten()
    from vigos_cli.models.student_loading import load_student

    run = distill_config(*overrides)
    return load_student(run.model, run.adapter, seed=run.seed)


def with_effect(student: Any, size: float = 0.05, seed: int = 0) -> Any:
    """Give the student's adapter an effect: a random second factor."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, p in student.adapter.items():
        if "lora_B" in name:
            p.data.copy_(torch.randn(p.shape, generator=generator) * size)
    return student


def no_hub(*args: Any, **options: Any) -> Any:
    """Takes the place of `fetch` on a machine without a network and without a cache."""
    raise UserError("the hub does not answer")


@pytest.fixture
def figures(monkeypatch) -> None:
    """Let the runs of this test draw their figures."""
    monkeypatch.setattr(left_out, "drawn", True)


@pytest.fixture(scope="session")
def tiny() -> Any:
    """A student with the tiny model. Tests must not change it."""
    return make_student()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Any:
    return (yield from limits.timed(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    return (yield from limits.timed(item))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    limits.longest_first(items)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    limits.summary(terminalreporter)
