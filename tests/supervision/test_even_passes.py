"""Processes that share a split model make the same number of passes; for a whole model nothing changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vigos_cli.supervision.even_passes import even_batches, even_names, zero_loss
from vigos_cli.utils import process_group

SPLIT: Any = SimpleNamespace(sharded=True)
WHOLE: Any = SimpleNamespace(sharded=False)


def with_other(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    """Let a second process say `other`."""
    monkeypatch.setattr(process_group, "gather", lambda value: [value, other])


def test_the_process_with_fewer_micro_batches_gets_empty_ones_at_the_end(monkeypatch):
    with_other(monkeypatch, 3)
    assert even_batches(SPLIT, [["a"], ["b"]], []) == [["a"], ["b"], []]
    assert even_batches(SPLIT, [], []) == [[], [], []]
    assert even_batches(SPLIT, [[i] for i in range(5)], []) == [[i] for i in range(5)]


def test_every_process_has_the_teachers_of_all_in_the_same_order(monkeypatch):
    with_other(monkeypatch, ["fallback", "perception"])
    assert even_names(SPLIT, ["perception", "reasoning"]) == ["fallback", "perception", "reasoning"]
    assert even_names(SPLIT, []) == ["fallback", "perception"]


def test_nothing_is_exchanged_for_a_whole_model(monkeypatch):
    monkeypatch.setattr(process_group, "gather", None)
    assert even_batches(WHOLE, [["a"]], []) == [["a"]]
    assert even_names(WHOLE, ["reasoning"]) == ["reasoning"]


def test_an_idle_pass_has_a_gradient_of_zero():
    hidden = torch.full((1, 1, 2), 3.0, requires_grad=True)
    loss = zero_loss(hidden, idle=True)
    loss.backward()
    assert float(loss) == 0 and hidden.grad is not None and not hidden.grad.any()
    assert not zero_loss(hidden, idle=False).requires_grad
