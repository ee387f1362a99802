"""Import torch and transformers in less time, and keep their objects away from the garbage collector.

    with heavy_imports():
        from vigos_cli.training.distill import distill

These modules make about a million objects that live as long as the process. The collector would look at all
of them several times while they are made, and again in each of its full passes during a run.

bitsandbytes, which PEFT imports, calls `torch.compile` for four functions while it is imported, and this
imports torch's compiler, which takes a second. Inside the block these calls wait until a function is used.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import inside the block without the collector, which leaves out everything that exists at its end.

    Later blocks change nothing: what a run leaves behind must be collected.
    """
    if "transformers" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    import torch

    compile_now = torch.compile
    torch.compile = compiled_at_first_call(compile_now)
    try:
        yield
        gc.freeze()
    finally:
        torch.compile = compile_now
        gc.enable()


def compiled_at_first_call(compile_now: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` in all its forms, but the function is compiled when it is called for the first time."""

    def compile_later(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        if function is None:  # @torch.compile(dynamic=False)
            return lambda decorated: compile_later(decorated, **options)
        compiled = cache(lambda: compile_now(function, **options))

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            return compiled()(*arguments, **named)

        return call

    return compile_later
