"""The program of a math worker, which compares pairs of expressions or equations.

It reads one JSON line for each pair, and answers whether the two are equal.

    parent                                       child
    {"pair": [gold, answer], "seconds": s} -> parse, compare -> {"equal": true | false | null,
                                                                   "left": seconds of s}

math-verify parses them, and compares two expressions with variables. sympy compares two numbers exactly. Two
equations in several variables are equal if one is a multiple of the other. The answer is `null` if a pair
could not be parsed, or not be compared with certainty: no verdict depends on rounded numbers. The program
limits its own memory and time. It is run by its path, so it imports nothing of vigos, and no torch.
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

import sympy
from math_verify import LatexExtractionConfig, parse, verify

MEMORY = 512 * 2**20  # bytes of address space
LONGEST_PAIR = 30  # seconds by the clock for one pair, on a busy machine
BITS = 2_000  # of the largest integer in an expression


def main() -> None:
    """Answer until the input ends.

    A signal ends the process if a pair takes more processor time than it was given, or too long by the clock.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # what the libraries print must not mix with the answers
    with contextlib.suppress(ValueError, OSError):  # the machine may have a lower limit
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    equal("x^2-1", "(x+1)(x-1)")  # makes the libraries load what they load at the first use
    for line in sys.stdin:
        signal.alarm(LONGEST_PAIR)
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
        try:
            result = equal(*asked["pair"])
        except Exception:
            result = None
        left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps({"equal": result, "left": left}), file=answers, flush=True)


def equal(gold: str, answer: str) -> bool | None:
    """Whether two LaTeX texts are equal; None if that is not certain."""
    if "=" in gold and "=" in answer:
        first, second = _sides(gold), _sides(answer)
        if first is not None and second is not None:
            if first.free_symbols != second.free_symbols or len(first.free_symbols) < 2:
                return sympy.expand(first - second) == 0 or sympy.expand(first + second) == 0
            return bool(sympy.simplify(first / second).is_number)
    first, second = _read(gold), _read(answer)
    if first is None or second is None or _huge(first) or _huge(second):
        return None
    if all(isinstance(value, sympy.Expr) and not value.free_symbols for value in (first, second)):
        return (first - second).equals(0)  # exact, or None
    return verify(first, second, strict=True, float_rounding=12, timeout_seconds=None)


@lru_cache(maxsize=512)  # many samples have the same gold
def _read(text: str) -> Any:
    """The expression as sympy reads it; None if it is none."""
    found = parse(
        f"${text}$",
        extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=0,  # it would use the alarm that this program sets
    )
    if not found or not isinstance(found[0], sympy.Basic):
        return found[0] if found else None
    # `i` and `2i` come with different assumptions: symbols of one name are made the same
    return found[0].xreplace({symbol: sympy.Symbol(str(symbol)) for symbol in found[0].free_symbols})


def _sides(text: str) -> Any:
    """The left side minus the right side of an equation; None if it is no equation of two expressions."""
    parts = [_read(part) for part in text.split("=")]
    if len(parts) != 2 or not all(isinstance(part, sympy.Expr) for part in parts):
        return None
    return parts[0] - parts[1]


def _huge(value: Any) -> bool:
    """Whether rounded numbers cannot distinguish this value from its neighbours."""
    return any(
        max(abs(int(n.p)).bit_length(), int(n.q).bit_length()) > BITS for n in value.atoms(sympy.Rational)
    ) or any(
        power.exp.is_number and power.base.is_number and abs(power.exp) > BITS
        for power in value.atoms(sympy.Pow)
    )


if __name__ == "__main__":
    main()
