"""A share or a quantile is taken over the whole batch: any micro-batch and any number of processes agree."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import make_student
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn
from written_rollouts import BROKEN, RIGHT, WRONG, prepared, routed, write

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.hidden_states import hidden_states
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.supervision.token_selection import select_tokens
from vigos_cli.utils import process_group

TEXTS = (RIGHT, BROKEN, WRONG)
Token = tuple[int, int]


@cache
def quantile_config(share: float = 0.7) -> Any:
    """VCSD's teachers, whose disagreement chooses the tokens."""
    config = routed("vcsd")
    select = {"above_quantile": share, "of": ["image", "black"]}
    supervise = replace(config.routing.supervise, all={"by": "image", "select": select})
    return replace(config, routing=replace(config.routing, supervise=supervise))


def rows_of(student: Any, config: Any) -> list[Supervised]:
    """Six rollouts of different length, each to its own question, so that no two figures are equal."""
    prompter, items = prepared(student, config, range(3, 9))
    rollouts = [
        (item, write(student, item, text, finished=text != BROKEN))
        for item, text in zip(items, TEXTS * 2, strict=True)
    ]
    return supervise_all(rollouts, prompter, config)


def chosen(
    student: Any,
    rows: Sequence[Supervised],
    config: Any,
    weights: Any = None,
    size: int = 6,
    within: int | None = None,
) -> list[Token]:
    weights = weights or TeacherWeights.of_run(student, config.routing, config.teacher)
    split: Any = {"micro_batch": size, "micro_tokens": within}
    kept = select_tokens(student, rows, weights, config.routing, **split)
    assert all(term.tokens for row in kept for term in row.terms)
    return sorted((b, i) for b, row in enumerate(kept) for term in row.terms for i in term.tokens)


@torch.no_grad()
def log_probs(student: Any, context: str, row: Supervised, head_VH: Tensor) -> Tensor:
    """The log-probabilities at every sampled token of one rollout, which is read alone."""
    hidden_TH = hidden_states(student, context, [row])[0]
    places = [position - 1 for position in row.contexts[context].positions if position is not None]
    return (hidden_TH[places] @ head_VH.T).log_softmax(-1)


def highest(values: dict[Token, float], count: int) -> list[Token]:
    """The tokens with the highest values; asserts that rounding cannot change which these are."""
    order = sorted(values, key=lambda token: -values[token])
    assert values[order[count - 1]] - values[order[count]] > 1e-5
    return sorted(order[:count])


def test_the_share_is_of_all_tokens_of_the_batch(tiny):
    config = routed("opsa")
    rows = rows_of(tiny, config)
    surprise = {
        (b, i): -float(logp_V[token])
        for b, row in enumerate(rows)
        for i, (logp_V, token) in enumerate(
            zip(log_probs(tiny, STUDENT, row, tiny.head_VH), row.rollout.ids, strict=True)
        )
    }
    expected = highest(surprise, len(surprise) // 5)
    per_row = [sum(b == row for b, _ in expected) for row in range(len(rows))]
    assert len(set(per_row)) > 1, "the rows do not have equal shares"
    for size in (1, 2, 4, 6):
        assert chosen(tiny, rows, config, size=size) == expected
    for within in (1, 2 * rows[0].length):
        assert chosen(tiny, rows, config, within=within) == expected


def divergences(student: Any, rows: Sequence[Supervised], head_VH: Tensor) -> dict[Token, float]:
    """KL(image || black) at every token, from rows that are read alone."""
    found = {}
    for b, row in enumerate(rows):
        image, black = (log_probs(student, name, row, head_VH) for name in ("image", "black"))
        kl_N = (image.exp() * (image - black)).sum(-1)
        found |= {(b, i): float(kl) for i, kl in enumerate(kl_N)}
    return found


@pytest.mark.slow
def test_the_quantile_is_of_all_tokens_of_the_batch(tiny):
    config = quantile_config()
    rows = rows_of(tiny, config)
    kl = divergences(tiny, rows, tiny.head_VH)
    above = len(kl) - 1 - int(0.7 * (len(kl) - 1))  # those above an interpolated value
    expected = highest(kl, above)
    for size in (1, 2, 4, 6):
        assert chosen(tiny, rows, config, size=size) == expected
    for within in (1, 2 * rows[0].length):
        assert chosen(tiny, rows, config, within=within) == expected


def test_teachers_of_another_checkpoint_choose_with_its_own_head(tiny):
    config = quantile_config()
    rows = rows_of(tiny, config)
    head_VH = (
        torch.cat([tiny.head_VH[1:], tiny.head_VH[:1]]) * torch.linspace(0, 1, len(tiny.head_VH))[:, None]
    )
    padded_VH = torch.cat([head_VH, torch.ones(8, head_VH.shape[1])])
    other: Any = SimpleNamespace(
        seeing=lambda prompts: nullcontext(),
        weights=lambda key: nullcontext(),
        hidden=tiny.hidden,
        batch=tiny.batch,
        head_VH=padded_VH,
    )
    weights = TeacherWeights({"image": "big", "black": "big"}, others={"big": other})
    kl = divergences(tiny, rows, padded_VH)
    count = len(kl) - 1 - int(0.7 * (len(kl) - 1))
    expected = highest(kl, count)
    assert chosen(tiny, rows, config, weights) == expected
    assert expected != highest(divergences(tiny, rows, tiny.head_VH), count)


def test_a_rule_without_a_selection_keeps_its_tokens(tiny):
    config = routed("vcsd")
    rows = rows_of(tiny, config)
    weights = TeacherWeights.of_run(tiny, config.routing, config.teacher)
    assert select_tokens(tiny, rows, weights, config.routing, micro_batch=2) == list(rows)


def test_only_the_tokens_of_the_selecting_rule_are_dropped(tiny):
    config = quantile_config()
    both = [config.routing.supervise.all, {"by": "black"}]
    config = replace(
        config,
        routing=replace(config.routing, supervise=replace(config.routing.supervise, all=both)),
    )
    rows = rows_of(tiny, config)
    weights = TeacherWeights.of_run(tiny, config.routing, config.teacher)
    kept = select_tokens(tiny, rows, weights, config.routing, micro_batch=3)
    tokens = {
        by: sum(len(t.tokens) for row in kept for t in row.terms if t.by == by) for by in ("image", "black")
    }
    every = sum(len(row.rollout.ids) for row in rows)
    assert tokens["black"] == every and 0 < tokens["image"] < every / 2


def test_an_empty_batch_has_nothing_to_choose(tiny):
    config = routed("opsa")
    weights = TeacherWeights.of_run(tiny, config.routing, config.teacher)
    assert select_tokens(tiny, [], weights, config.routing, micro_batch=2) == []


# ---- two processes


def half_of_the_rows(rank: int, port: int, folder: str) -> None:
    """Code of each process: choose among its own rows; the second has twice as many as the first."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    process_group.start(torch.device("cpu"))
    student = make_student()
    found = {}
    for name, config in (("share", routed("opsa")), ("quantile", quantile_config())):
        rows = rows_of(student, config)
        own = rows[:2] if rank == 0 else rows[2:]
        shift = 0 if rank == 0 else 2
        found[name] = [[b + shift, i] for b, i in chosen(student, own, config, size=2)]
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    process_group.wait()
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_choose_the_tokens_that_one_would(tiny, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(half_of_the_rows, args=(port, str(tmp_path)), nprocs=2)
    parts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for name, config in (("share", routed("opsa")), ("quantile", quantile_config())):
        whole = chosen(tiny, rows_of(tiny, config), config)
        together = sorted((b, i) for part in parts for b, i in part[name])
        assert together == whole
