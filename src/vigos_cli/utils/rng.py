"""Randomness without state: every draw is a hash of what it is for.

    >>> uniforms(0, "rollout", 12, "sample-7", draw=1, count=4)     # the same at any batch size

So a resumed run, another batch size and another number of processes draw the same numbers, and there is no
generator to save.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch


def key(*parts: object) -> int:
    """A 64-bit number that depends on nothing but `parts`."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def uniforms(*parts: object, count: int) -> np.ndarray:
    """`count` numbers in [0, 1)."""
    return np.random.Generator(np.random.Philox(key=key(*parts))).random(count)


def permutation(*parts: object, count: int) -> np.ndarray:
    """A random order of `range(count)`."""
    return np.random.Generator(np.random.Philox(key=key(*parts))).permutation(count)


@contextmanager
def torch_seed(*parts: object) -> Iterator[None]:
    """Within it torch's own draws (initial weights, dropout) depend on `parts`; its state is put back."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(key(*parts) % 2**63)
        yield
