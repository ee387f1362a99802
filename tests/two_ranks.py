"""Run vigos as one of two processes; in the second, each rollout takes some seconds longer.

python tests/two_ranks.py SECONDS distill ...
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from vigos_cli.__main__ import main
from vigos_cli.training import step


def delayed(function: Any, seconds: float) -> Any:
    """Wrap the function so that it starts `seconds` later."""

    def wrapped(*args: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*args, **options)

    return wrapped


if __name__ == "__main__":
    wait = float(sys.argv.pop(1))
    if os.environ["RANK"] == "1":
        step.sample_rollouts = delayed(step.sample_rollouts, wait)
    main()
