"""The program of a math worker, which compares pairs of answers with math-verify.

It reads one JSON line for each pair, and answers whether math-verify holds the two equal.

    parent                      child
    {"pair": [gold, answer]} -> parse, verify both ways -> {"equal": true | false | null}

`null` means that an expression could not be parsed. The child limits its own memory, and an alarm ends it
should its parent be gone. It is run by its path, so that it imports nothing of vigos, and nothing of torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

MEMORY = 512 * 2**20  # bytes of address space
LONGEST_RUN = 60  # seconds by the clock


def main(seconds: float) -> None:
    """Answer until the input ends; a pair that takes more processor time than `seconds` ends the process.

    Both signals end it by their default action, in the midst of whatever it does.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # what the libraries print must not end up among the answers
    os.dup2(silence, 2)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import logging

    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)

    @lru_cache(maxsize=512)  # the gold of many samples is one
    def read(text: str) -> list[Any]:
        return parse(
            f"${text}$",
            extraction_config=[LatexExtractionConfig()],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=0,  # the alarm it would set is ours, and the parent has its own clock
        )

    def equal(gold: str, answer: str) -> bool | None:
        first, second = read(gold), read(answer)
        if not first or not second:
            return None
        # it is asymmetric: either way will do
        return any(
            verify(a, b, strict=True, float_rounding=12, timeout_seconds=None)
            for a, b in ((first, second), (second, first))
        )

    equal("x^2-1", "(x+1)(x-1)")  # loads what is loaded late
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        signal.alarm(LONGEST_RUN)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            result = equal(*json.loads(line)["pair"])
        except (Exception, RecursionError):
            result = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps({"equal": result}), file=answers, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
