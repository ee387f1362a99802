"""Each routing gives every token the teachers that the method specifies."""

from __future__ import annotations

from functools import cache

import pytest

from vigos_cli.cli.explain import options
from vigos_cli.config.compose import job
from vigos_cli.config.schema import KINDS, DistillRun, RoutingConfig
from vigos_cli.method.routing import roles, route, routing_table, trains
from vigos_cli.method.segments import parse
from vigos_cli.types import Kind, Role, Segments, Term

D, R, A, X, E, I = (  # noqa: E741
    Kind.DESCRIPTION,
    Kind.REASONING,
    Kind.ANSWER,
    Kind.DELIMITERS,
    Kind.END,
    Kind.INVALID,
)
VALID = Segments(kinds=(X, D, D, X, R, X, A, X, E, R, E), valid=True, reason="")
BROKEN = Segments(kinds=(I,) * 5, valid=False, reason="no_box")
EVERY = tuple(range(len(VALID.kinds)))

# For each option: the tokens of VALID that each teacher supervises, and the teachers of BROKEN.
SEGMENTS = {"perception": (1, 2), "reasoning": (4, 6, 9)}
EXPECTED: dict[str, tuple[dict[str, tuple[int, ...]], tuple[str, ...]]] = {
    "vigos": (SEGMENTS, ("reference",)),
    "vigos_code": (SEGMENTS, ("reference",)),
    "no_perception": ({"reasoning": (4, 6, 9)}, ("reference",)),
    "no_reasoning": ({"perception": (1, 2)}, ("reference",)),
    "no_reference": (SEGMENTS, ("perception", "reasoning")),
    "other_answer": (SEGMENTS, ("reference",)),
    "noise_image": (SEGMENTS, ("reference",)),
    "opsd": ({"privileged": (0, 3, 4, 5, 6, 7, 8, 9, 10)}, ("privileged",)),
    "opsd_structured": ({"privileged": EVERY}, ("privileged",)),
    "sft": ({"target": (0, 3, 4, 5, 6, 7, 8, 9, 10)}, ()),
    "two_pass": ({}, ()),
}


@cache
def routing(name: str) -> RoutingConfig:
    run = job("distill", [f"routing={name}"])
    assert isinstance(run, DistillRun)
    return run.routing


def supervised(terms: tuple[Term, ...]) -> dict[str, tuple[int, ...]]:
    """The tokens of each teacher; asserts that none occurs twice."""
    found: dict[str, list[int]] = {}
    for term in terms:
        found.setdefault(term.role, []).extend(term.tokens)
    assert all(len(tokens) == len(set(tokens)) for tokens in found.values())
    return {role: tuple(sorted(tokens)) for role, tokens in found.items()}


def test_every_option_is_tested():
    assert set(EXPECTED) == set(options("routing"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_tokens_are_supervised_by_the_teachers_of_the_method(name):
    config = routing(name)
    valid, broken = EXPECTED[name]
    assert supervised(route(VALID, config)) == valid
    assert supervised(route(BROKEN, config)) == dict.fromkeys(broken, (0, 1, 2, 3, 4))
    assert trains(config) == bool(valid or broken)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_term_holds_the_tokens_of_one_kind_in_order(name):
    config = routing(name)
    for segments in (VALID, BROKEN):
        for term in route(segments, config):
            assert term.tokens == tuple(i for i, kind in enumerate(segments.kinds) if kind is term.kind)
            assert term.tokens and term.weight == 1
            assert term.role in routing_table(config)[term.kind]


def test_the_reasoning_teacher_supervises_the_answer():
    terms = route(VALID, routing("vigos"))
    assert terms == (
        Term(Role.PERCEPTION, D, (1, 2)),
        Term(Role.REASONING, R, (4, 9)),
        Term(Role.REASONING, A, (6,)),
    )


@pytest.mark.parametrize("name", ["vigos", "opsd", "no_reference"])
def test_the_end_of_turn_of_an_invalid_rollout_is_supervised(name):
    text = "<description>red"
    ends = (13, 14, 15, 16, 16)  # one token per letter, then the end of turn, which has no text
    segments = parse(text, ends, 1, True)
    assert not segments.valid and len(segments.kinds) == 4
    config = routing(name)
    assert all(tokens == (0, 1, 2, 3) for tokens in supervised(route(segments, config)).values())
    assert route(segments, config)


def test_only_opsd_supervises_delimiters_and_the_end_of_a_valid_rollout():
    text = "<description>a</description><think>b</think>\\boxed{c}"
    ends = (13, *range(14, len(text) + 1), len(text))
    content = {0, text.index("b") - 13, text.index("c}") - 13}
    segments = parse(text, ends, 1, True)
    assert segments.valid
    for name in ("vigos", "no_reference"):
        found = supervised(route(segments, routing(name)))
        assert {i for tokens in found.values() for i in tokens} == content
    (tokens,) = supervised(route(segments, routing("opsd_structured"))).values()
    assert tokens == tuple(range(len(segments.kinds)))


def test_with_the_authors_spans_the_reasoning_teacher_gets_more_tokens():
    text = "<description>a</description><think>b</think>\\boxed{c}"
    ends = (13, *range(14, len(text) + 1), len(text))
    config = routing("vigos_code")
    segments = parse(text, ends, 1, True, spans=config.spans)
    found = supervised(route(segments, config))
    after = text.index("<think>") + len("<think>") - 13
    assert found["perception"] == (0,)
    assert found["reasoning"] == tuple(range(after, len(text) - 13))


def test_a_cell_of_the_table_becomes_roles():
    assert roles("none") == () == roles([]) == roles(["none"])
    assert roles("target") == (Role.TARGET,)
    assert roles(["perception", "reasoning"]) == (Role.PERCEPTION, Role.REASONING)
    with pytest.raises(ValueError, match="techer"):
        roles("techer")


def test_an_empty_rollout_has_no_terms():
    empty = Segments(kinds=(), valid=False, reason="empty")
    assert all(route(empty, routing(name)) == () for name in EXPECTED)


def test_the_table_has_a_row_for_every_kind():
    assert tuple(kind.value for kind in routing_table(routing("vigos"))) == KINDS
