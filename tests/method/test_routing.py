"""Each routing gives every token the teachers that the method specifies."""

from __future__ import annotations

from functools import cache

import pytest

from vigos_cli.cli.explain import options
from vigos_cli.config.compose import job
from vigos_cli.config.schema import DistillRun, LossConfig, RoutingConfig, SuperviseConfig, TeacherContext
from vigos_cli.config.supervision_terms import supervision_rules, trains
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.method.routing import fallback_teachers, route, routing_table, rule_spec
from vigos_cli.method.segments import parse
from vigos_cli.types import Kind, Segments, Term

D, R, A, X, E, I = (  # noqa: E741
    Kind.DESCRIPTION,
    Kind.REASONING,
    Kind.ANSWER,
    Kind.DELIMITERS,
    Kind.END,
    Kind.INVALID,
)
VALID = Segments(kinds=(X, D, D, X, R, X, A, X, E, R, E), valid=True, reason="")
THINK = Segments(kinds=(X, R, R, X, R, X, A, X, E, R, E), valid=True, reason="")  # without a description
BROKEN = Segments(kinds=(I,) * 5, valid=False, reason="no_box")
EVERY = tuple(range(len(VALID.kinds)))

# For each option: the tokens of VALID (or THINK) that each name supervises, and the names for BROKEN.
SEGMENTS = {"perception": (1, 2), "reasoning": (4, 6, 9)}
EXPECTED: dict[str, tuple[dict[str, tuple[int, ...]], tuple[str, ...]]] = {
    "vigos": (SEGMENTS, ("fallback",)),
    "vigos_code": (SEGMENTS, ("fallback",)),
    "no_perception": ({"reasoning": (4, 6, 9)}, ("fallback",)),
    "no_reasoning": ({"perception": (1, 2)}, ("fallback",)),
    "no_reference": (SEGMENTS, ("perception", "reasoning")),
    "other_answer": (SEGMENTS, ("fallback",)),
    "noise_image": (SEGMENTS, ("fallback",)),
    "opsd": ({"privileged": EVERY}, ("privileged",)),
    "opsd_structured": ({"privileged": EVERY}, ("privileged",)),
    "sft": ({"tokens": (0, 3, 4, 5, 6, 7, 8, 9, 10)}, ()),
    "two_pass": ({}, ()),
    "opsd_original": ({"privileged": EVERY}, ("privileged",)),
    "op2sd": ({"donor": EVERY}, ("donor",)),
    "sdft": ({"shown": EVERY[3:]}, ("shown",)),
    "vicur": ({"cued": EVERY}, ("cued",)),
    "vision_opd": ({"crop": EVERY}, ("crop",)),
    "s2vopd": ({"clean": EVERY}, ("clean",)),
    "vcsd": ({"vcsd": EVERY}, ("vcsd",)),
    "purified_opsd": ({"purified": EVERY}, ("purified",)),
    "opd_v": ({"crop": EVERY}, ("crop",)),
    "sdpo": ({"hinted": EVERY}, ("hinted",)),
    "u_opsd": ({"agreeing": EVERY}, ("agreeing",)),
    "vgs": ({"seeing": EVERY, "visual": EVERY}, ("seeing", "visual")),
    "opsa": ({"constant": EVERY}, ("constant",)),
}


@cache
def routing(name: str) -> RoutingConfig:
    run = job("distill", [f"routing={name}", "rollout.n=8"])
    assert isinstance(run, DistillRun)
    return run.routing


def supervised(terms: tuple[Term, ...]) -> dict[str, tuple[int, ...]]:
    """The tokens of each name; asserts that none occurs twice."""
    found: dict[str, list[int]] = {}
    for term in terms:
        found.setdefault(term.by, []).extend(term.tokens)
    assert all(len(tokens) == len(set(tokens)) for tokens in found.values())
    return {by: tuple(sorted(tokens)) for by, tokens in found.items()}


def test_every_option_is_tested():
    assert set(EXPECTED) == set(options("routing"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_tokens_are_supervised_by_the_teachers_of_the_method(name):
    config = routing(name)
    valid, broken = EXPECTED[name]
    whole = VALID if config.student.format == "structured" else THINK
    skipped = 3 if name == "sdft" else 0
    assert supervised(route(whole, config)) == valid
    assert supervised(route(BROKEN, config)) == dict.fromkeys(broken, (0, 1, 2, 3, 4)[skipped:])
    assert trains(config) == bool(valid or broken)


@pytest.mark.parametrize("name", ["vigos", "no_reference", "opsd_structured", "sft", "two_pass"])
def test_a_term_holds_the_tokens_of_one_kind_in_order(name):
    config = routing(name)
    for segments in (VALID, BROKEN):
        for term in route(segments, config):
            assert term.tokens == tuple(i for i, kind in enumerate(segments.kinds) if kind is term.kind)
            assert term.tokens and term.weight == 1
            assert term.by in routing_table(config)[term.kind]
            assert supervision_rules(config)[term.rule].by == term.by


def test_the_reasoning_teacher_supervises_the_answer():
    terms = route(VALID, routing("vigos"))
    assert terms == (
        Term("perception", D, (1, 2), 0),
        Term("reasoning", R, (4, 9), 1),
        Term("reasoning", A, (6,), 2),
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
    segments = parse(text, ends, 1, True, spans=config.student.spans)
    found = supervised(route(segments, config))
    after = text.index("<think>") + len("<think>") - 13
    assert found["perception"] == (0,)
    assert found["reasoning"] == tuple(range(after, len(text) - 13))


def test_the_authors_program_clips_the_last_description_and_the_first_reasoning_token_once_more():
    config, loss = routing("vigos_code"), LossConfig(clip="none")
    rules = supervision_rules(config)
    edges = {(t.by, t.tokens) for t in route(VALID, config) if t.edge}
    assert edges == {("perception", (2,)), ("reasoning", (4,))}
    for term in route(VALID, config):
        spec = rule_spec(rules[term.rule], loss, edge=term.edge)
        assert (spec.clip, spec.clip_value) == (("token", 0.05) if term.edge else ("none", 0.05))


def test_an_empty_rollout_has_no_terms():
    empty = Segments(kinds=(), valid=False, reason="empty")
    assert all(route(empty, routing(name)) == () for name in ("vigos", "opsd", "sft", "vgs"))


def test_the_fallback_is_who_supervises_nothing_else():
    assert fallback_teachers(routing("vigos")) == {"fallback"}
    assert not fallback_teachers(routing("no_reference")) and not fallback_teachers(routing("opsd"))


# ---- what a rule leaves open comes from `loss`

LOSS = LossConfig(
    divergence="jsd",
    invalid="skew_kl",
    clip="entry",
    clip_value=0.3,
    temperature=2.0,
    beta=0.2,
    alpha=0.3,
    top_k=7,
    top_k_of="student",
    tail="renormalise",
)
STATED = {
    "divergence": "reverse_kl",
    "clip": "scale",
    "clip_value": 0.1,
    "temperature": 3.0,
    "beta": 0.9,
    "alpha": 0.8,
    "top_k": 5,
    "top_k_of": "teacher",
    "tail": "bucket",
}


def spec_of(part: str, cell: object) -> DivergenceSpec:
    table = RoutingConfig(teachers={"a": TeacherContext()}, supervise=SuperviseConfig(**{part: cell}))
    (rule,) = supervision_rules(table)
    return rule_spec(rule, LOSS)


@pytest.mark.parametrize(
    "part", ["description", "reasoning", "answer", "delimiters", "end", "all", "invalid"]
)
def test_a_name_alone_takes_everything_from_the_loss(part):
    options = {"clip": "entry", "clip_value": 0.3, "temperature": 2.0, "beta": 0.2, "alpha": 0.3}
    divergence = "skew_kl" if part == "invalid" else "jsd"
    wanted = DivergenceSpec(divergence, **options, top_k=7, top_k_of="student", tail="renormalise")
    assert spec_of(part, "a") == spec_of(part, {"by": "a"}) == wanted


@pytest.mark.parametrize("part", ["reasoning", "invalid", "all"])
@pytest.mark.parametrize("key", STATED)
def test_a_stated_key_belongs_to_the_routing(part, key):
    open_, stated = spec_of(part, "a"), spec_of(part, {"by": "a", key: STATED[key]})
    changed = {name for name in STATED if getattr(open_, name) != getattr(stated, name)}
    assert changed == {key} and getattr(stated, key) == STATED[key]


def test_without_a_teacher_the_loss_is_not_asked():
    assert spec_of("all", "tokens") == DivergenceSpec("cross_entropy")
    assert spec_of("all", {"by": "constant", "advantage": -2}) == DivergenceSpec("advantage", advantage=-2)
