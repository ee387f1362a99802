"""The calls of a micro-batch: which tokens share one, and that they add up to the plain loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from logit_rows import row_of
from torch import Tensor
from written_rollouts import BROKEN, RIGHT, WRONG, prepared, routed, write

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.method.routing import route
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.hidden_states import hidden_states
from vigos_cli.supervision.loss_calls import Reading, composed_target, loss_calls, read_teachers, score_call
from vigos_cli.supervision.micro_batches import micro_batches
from vigos_cli.supervision.teacher_weights import TeacherWeights
from vigos_cli.training.step import weigh_terms
from vigos_cli.types import Kind, Segments
from vigos_cli.utils.errors import UserError


def with_supervise(config: Any, **parts: Any) -> Any:
    """The configuration with another table of who supervises what."""
    supervise = replace(config.routing.supervise, **{"all": None, **parts})
    return replace(config, routing=replace(config.routing, supervise=supervise))


def mixed_row(config: Any, kinds: Sequence[Kind]) -> Supervised:
    """One rollout whose tokens are of these kinds."""
    row = row_of(config, [0] * len(kinds))
    segments = Segments(tuple(kinds), True, "")
    return replace(row, segments=segments, terms=route(segments, config.routing))


KINDS = (Kind.REASONING, Kind.DELIMITERS, Kind.REASONING, Kind.ANSWER, Kind.END)


def calls_of(config: Any, rows: Sequence[Supervised]) -> list[tuple[str, list[int]]]:
    """Each call as its name and the tokens of the first row, after checking that none is lost or double."""
    calls = loss_calls(rows, config.routing, config.loss)
    for by in {call.by for call in calls}:
        got = sorted(token for call in calls if call.by == by for token in call.tokens)
        assert got == sorted(
            (b, i) for b, row in enumerate(rows) for term in row.terms if term.by == by for i in term.tokens
        )
    for call in calls:
        assert len(call.tokens) == len(call.terms)
        assert all(i in term.tokens for (_, i), term in zip(call.tokens, call.terms, strict=True))
    return [(call.by, sorted(i for b, i in call.tokens if b == 0)) for call in calls]


# ---- what shares a call


def test_parts_with_the_same_teacher_and_divergence_share_a_call():
    config = with_supervise(
        routed("vcsd"), reasoning="image", answer="image", end="black", delimiters="image"
    )
    rows = [mixed_row(config, KINDS), mixed_row(config, KINDS[:2])]
    assert calls_of(config, rows) == [("black", [4]), ("image", [0, 1, 2, 3])]


def test_another_divergence_of_the_same_teacher_is_a_call_of_its_own():
    own = {"by": "image", "divergence": "jsd"}
    config = with_supervise(routed("vcsd"), reasoning="image", answer=own)
    rows = [mixed_row(config, KINDS)]
    assert sorted(calls_of(config, rows)) == [("image", [0, 2]), ("image", [3])]
    specs = {call.spec.divergence: len(call.tokens) for call in loss_calls(rows, config.routing, config.loss)}
    assert specs == {"forward_kl": 2, "jsd": 1}


def test_a_rule_with_token_weights_has_a_call_of_its_own():
    weighed = {"by": "crop", "token_weight": {"plus": "crop", "minus": "masked"}}
    config = with_supervise(routed("opd_v"), reasoning="crop", answer=weighed, end=weighed)
    rows = [mixed_row(config, KINDS)]
    assert sorted(calls_of(config, rows)) == [("crop", [0, 2]), ("crop", [3]), ("crop", [4])]
    for call in loss_calls(rows, config.routing, config.loss):
        assert bool(call.rule.token_weight) == (call.tokens[0][1] in (3, 4))
        assert call.rule is not None and call.rule.part == call.terms[0].kind.value


def test_an_edge_with_a_clip_of_its_own_is_a_call_of_its_own():
    config = with_supervise(routed("vcsd"), reasoning={"by": "image", "edge_clip": 0.01})
    (edge, inner) = sorted(
        loss_calls([mixed_row(config, KINDS)], config.routing, config.loss), key=lambda c: c.tokens
    )
    assert edge.tokens == ((0, 0),) and edge.spec.clip_value == 0.01
    assert inner.tokens == ((0, 2),) and inner.spec.clip_value == 0.05


def test_two_names_for_one_token_are_two_calls():
    config = routed("vgs")
    assert calls_of(config, [row_of(config, [0, 0])]) == [("seeing", [0, 1]), ("visual", [0, 1])]


# ---- with the model


def rows_of(student: Any, config: Any, indices: Sequence[int] = (0, 1)) -> list[Supervised]:
    """Two rollouts of different length for each prompt."""
    prompter, items = prepared(student, config, indices)
    texts = {0: (RIGHT, BROKEN), 1: (WRONG, RIGHT)}
    rollouts = [
        (item, write(student, item, text, draw, finished=text != BROKEN))
        for item in items
        for draw, text in enumerate(texts[int(item.key) % 2])
    ]
    return supervise_all(rollouts, prompter, config)


@torch.no_grad()
def log_probs(student: Any, context: str, row: Supervised, temperature: float = 1.0) -> Tensor:
    """The log-probabilities at every sampled token of one rollout, which is read alone."""
    hidden_TH = hidden_states(student, context, [row])[0]
    places = [position - 1 for position in row.contexts[context].positions if position is not None]
    return (hidden_TH[places] @ student.head_VH.T / temperature).log_softmax(-1)


def loss_of(
    student: Any, config: Any, rows: Sequence[Supervised], size: int
) -> tuple[float, dict[str, Tensor]]:
    """The loss of a batch in micro-batches of this size, and its gradient."""
    weights = TeacherWeights.of_run(student, config.routing, config.teacher)
    rows, _ = weigh_terms(rows, config)
    total, gradient = 0.0, {name: torch.zeros_like(p) for name, p in student.adapter.items()}
    for micro in micro_batches(rows, size):
        teachers = read_teachers(student, micro, weights)
        hidden_BTH = hidden_states(student, STUDENT, micro)
        read = Reading(micro, hidden_BTH, teachers, weights.heads(teachers), student, config)
        parts = [score_call(call, read)[0] for call in loss_calls(micro, config.routing, config.loss)]
        loss = torch.stack(parts).sum()
        total += float(loss.detach())
        for (_, kept), g in zip(
            gradient.items(), torch.autograd.grad(loss, list(student.adapter.values())), strict=True
        ):
            kept += g
    return total, gradient


def test_a_target_of_three_contexts_equals_the_plain_computation(tiny):
    config = routed(
        "purified_opsd", "routing.student.sees=black"
    )  # so that the student is far from the target
    rows = rows_of(tiny, config)
    costs = []
    for row in rows:
        both, alone, plain = (log_probs(tiny, name, row).double() for name in ("both", "alone", "plain"))
        difference = both - alone
        difference = difference - difference.mean(-1, keepdim=True)
        q = (plain + 10 * (difference / 10).tanh()).softmax(-1)
        p = log_probs(tiny, STUDENT, row).double().exp()
        m = (p + q) / 2
        costs.append(((q * (q / m).log()).sum(-1) + (p * (p / m).log()).sum(-1)) / 2)
    expected = float(torch.cat(costs).mean())
    assert expected > 0.01, "the contexts differ"
    for size in (1, 3):
        assert loss_of(tiny, config, rows, size)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_the_visual_target_of_vgs_equals_the_plain_computation(tiny):
    """The student sees black here, so that it is not its own teacher."""
    config = routed("vgs", "routing.student.sees=black")
    rows = rows_of(tiny, config)
    costs = []
    for row in rows:
        seeing, blind, own = (
            log_probs(tiny, name, row).double() for name in ("seeing", "blind", "blind_student")
        )
        target = (own + seeing - blind).log_softmax(-1)
        logp = log_probs(tiny, STUDENT, row).double()
        p = logp.exp()
        costs.append((p * (logp - seeing)).sum(-1) + 2 * (p * (logp - target)).sum(-1))
    expected = float(torch.cat(costs).mean())
    assert expected > 0.01
    assert loss_of(tiny, config, rows, 3)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["vcsd", "opd_v"])
def test_the_gradient_does_not_depend_on_the_micro_batch(tiny, name):
    config = routed(name)
    rows = rows_of(tiny, config)
    loss, whole = loss_of(tiny, config, rows, 4)
    largest = max(float(g.abs().max()) for g in whole.values())
    assert loss > 1e-4 and largest > 1e-4
    for size in (1, 3):
        same, split = loss_of(tiny, config, rows, size)
        assert same == pytest.approx(loss, rel=1e-5)
        assert max(float((whole[k] - split[k]).abs().max()) for k in whole) < 1e-5 * largest


def test_the_margin_of_opd_v_equals_the_plain_computation(tiny):
    config = routed("opd_v")
    rows = rows_of(tiny, config)
    total, zero, tokens = 0.0, 0, 0
    for row in rows:
        crop, masked, own = (log_probs(tiny, name, row).double() for name in ("crop", "masked", STUDENT))
        at = torch.tensor(row.rollout.ids)[:, None]
        margin_N = (crop.gather(1, at) - masked.gather(1, at))[:, 0]
        top = own.topk(100, -1).indices

        def entries(logp: Tensor, top: Tensor = top) -> Tensor:
            kept = logp.gather(1, top).exp()
            return torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], -1).clamp(min=1e-300)

        p, q = entries(own), entries(crop)
        m = (p + q) / 2
        jsd_N = ((q * (q / m).log()).sum(-1) + (p * (p / m).log()).sum(-1)) / 2
        total += float((margin_N.clamp(min=0) * jsd_N).sum())
        zero += int((margin_N <= 0).sum())
        tokens += len(row.rollout.ids)
    assert 0 < zero < tokens, "some tokens are not selected"
    assert loss_of(tiny, config, rows, 2)[0] == pytest.approx(total / tokens, rel=1e-3)


def test_an_exempt_token_that_the_tokenizer_lacks_is_named(tiny):
    config = routed("vcsd", "routing.targets.vcsd.exempt=['<|nothing|>']")
    with pytest.raises(
        UserError, match=r"routing\.targets\.vcsd\.exempt: the tokenizer has no token <\|nothing"
    ):
        composed_target(config.routing, "vcsd", tiny)
    target = composed_target(routed("vcsd").routing, "vcsd", tiny)
    assert target is not None
    names = ("<|endoftext|>", "<|im_end|>")
    assert target.exempt == tuple(tiny.tokenizer.convert_tokens_to_ids(name) for name in names)
    assert composed_target(routed("vcsd").routing, "image", tiny) is None


def test_every_rule_of_a_published_method_finds_its_teachers(tiny):
    for name in ("vcsd", "purified_opsd", "opd_v", "vgs", "opsa"):
        config = routed(name)
        rows = rows_of(tiny, config, [0])
        weights = TeacherWeights.of_run(tiny, config.routing, config.teacher)
        teachers = read_teachers(tiny, rows, weights)
        assert set(teachers) == set(config.routing.teachers)
        assert len(supervision_rules(config.routing)) == (2 if name == "vgs" else 1)
