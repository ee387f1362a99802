"""The device of a process, without a card: torch's functions are replaced."""

from __future__ import annotations

import pytest
import torch
from accelerate import PartialState
from torch import distributed

from vigos_cli.models.pretrained import pick_device


@pytest.fixture
def chosen(monkeypatch) -> list[torch.device]:
    """Two cards; the list gets every device that becomes the current one."""
    found: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: found.append(torch.device(device)))
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.mark.parametrize(
    ("rank", "expected"), [(None, "cuda:0"), ("0", "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")]
)
def test_auto_is_the_card_of_this_process(chosen, monkeypatch, rank, expected):
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert pick_device("auto") == torch.device(expected)
    assert chosen == [torch.device(expected)]


def test_choosing_a_card_does_not_join_the_processes(chosen, monkeypatch):
    """`process_group.start` joins them, with a group for objects that has no time-out."""
    PartialState._reset_state()  # accelerate joins only in a process that has not used it before
    joined: list[object] = []
    monkeypatch.setattr(distributed, "init_process_group", lambda *args, **options: joined.append(args))
    launcher = {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}
    for name, value in {**launcher, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    pick_device("auto")
    assert not joined and not distributed.is_initialized()


def test_a_named_card_becomes_the_current_one(chosen):
    assert pick_device("cuda:1") == torch.device("cuda:1") and chosen == [torch.device("cuda:1")]
    assert pick_device("cpu") == torch.device("cpu") and pick_device("cuda") == torch.device("cuda")
    assert len(chosen) == 1


def test_without_a_card_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
