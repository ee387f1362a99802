"""Code of one of two processes that run vigos; in the second, each rollout takes some seconds longer."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import warm

from vigos_cli.training import step


def delayed(function: Any, seconds: float) -> Any:
    """Wrap the function so that it starts `seconds` later."""

    def wrapped(*args: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*args, **options)

    return wrapped


def vigos(arguments: Sequence[str], seconds: float) -> None:
    """Code of each process: the command line `vigos <arguments>`."""
    if os.environ["RANK"] == "1":
        step.sample_rollouts = delayed(step.sample_rollouts, seconds)
    warm.vigos(arguments)
