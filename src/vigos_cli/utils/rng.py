"""Random numbers without state: each is a function of its purpose, step, sample and draw.

    >>> uniforms(0, "rollout", 12, "sample-7", 1, count=4)     # the same with any batch size

The key of each generator is a hash of these parts. So a resumed run, another batch size or another number
of processes gives the same numbers, and no generator has to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch


def key(*parts: object) -> int:
    """A 64-bit hash of `parts`."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def uniforms(*parts: object, count: int) -> np.ndarray:
    """`count` random numbers in [0, 1)."""
    return np.random.Generator(np.random.Philox(key=key(*parts))).random(count)


def permutation(*parts: object, count: int) -> np.ndarray:
    """A random order of `range(count)`."""
    return np.random.Generator(np.random.Philox(key=key(*parts))).permutation(count)


@contextmanager
def torch_seed(*parts: object) -> Iterator[None]:
    """Seed torch (initial weights, dropout) from `parts` in this block; restore its state afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(key(*parts) % 2**63)
        yield
