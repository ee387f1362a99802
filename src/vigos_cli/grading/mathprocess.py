"""The program of a math worker, which compares pairs of expressions or equations.

It reads one JSON line for each pair, and answers whether the two are equal.

    parent                                       child
    {"pair": [gold, answer], "seconds": s} -> parse, compare -> {"equal": true | false | null}

math-verify parses them, and holds two expressions with variables equal in either direction. Two numbers are
compared with 50 digits, and two equations in several variables by whether one is a multiple of the other.
`null` means that a pair could not be parsed, or not compared with certainty: no verdict rests on a comparison
of rounded numbers. The child limits its own memory, and an alarm ends it should its parent be gone. It is run
by its path, so that it imports nothing of vigos, and nothing of torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MEMORY = 512 * 2**20  # bytes of address space
LONGEST_RUN = 60  # seconds by the clock
BITS = 2_000  # of the largest integer in an expression
DIGITS = 50  # to which two numbers must agree


def main() -> None:
    """Answer until the input ends; a pair that takes more processor time than it was given ends the process.

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
    equal = comparison()
    equal("x^2-1", "(x+1)(x-1)")  # loads what is loaded late
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        signal.alarm(LONGEST_RUN)
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
        try:
            result = equal(*asked["pair"])
        except (Exception, RecursionError):
            result = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps({"equal": result}), file=answers, flush=True)


def comparison() -> Callable[[str, str], bool | None]:
    """The function that compares two LaTeX texts; it imports sympy and math-verify."""
    import logging

    import sympy
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

    def number(value: Any) -> bool:
        return isinstance(value, sympy.Expr) and not value.free_symbols

    def huge(value: Any) -> bool:
        """Whether rounded numbers cannot tell this from its neighbours."""
        if not isinstance(value, sympy.Basic):
            return False
        return any(
            abs(int(n.p)).bit_length() > BITS or int(n.q).bit_length() > BITS
            for n in value.atoms(sympy.Rational)
        ) or any(
            power.exp.is_number and power.base.is_number and abs(power.exp) > BITS
            for power in value.atoms(sympy.Pow)
        )

    def same_number(a: Any, b: Any) -> bool | None:
        difference = (a - b).evalf(DIGITS, maxn=4 * DIGITS)
        if difference == 0:
            return True
        scale = max(abs(a.evalf(DIGITS)), abs(b.evalf(DIGITS)), sympy.Float(1))
        if abs(difference) > scale * sympy.Float(10) ** -9:
            return False
        return (a - b).equals(0)  # exactly, or None

    def sides(text: str) -> Any:
        """Left side minus right side of an equation; None where it is none."""
        parts = [read(part) for part in text.split("=")]
        if len(parts) != 2 or not all(parts):
            return None
        left, right = (part[0] for part in parts)
        return left - right if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr) else None

    def equal(gold: str, answer: str) -> bool | None:
        if "=" in gold and "=" in answer:
            first, second = sides(gold), sides(answer)
            if first is not None and second is not None:
                if huge(first) or huge(second):
                    return None
                if first.free_symbols != second.free_symbols or len(first.free_symbols) < 2:
                    return sympy.expand(first - second) == 0 or sympy.expand(first + second) == 0
                ratio = sympy.simplify(first / second)
                return bool(ratio.is_number and ratio != 0)
        first, second = read(gold), read(answer)
        if not first or not second:
            return None
        if huge(first[0]) or huge(second[0]):
            return None
        if number(first[0]) and number(second[0]):
            return same_number(first[0], second[0])
        # math-verify is asymmetric: either way will do
        return any(
            verify(a, b, strict=True, float_rounding=12, timeout_seconds=None)
            for a, b in ((first, second), (second, first))
        )

    return equal


if __name__ == "__main__":
    main()
