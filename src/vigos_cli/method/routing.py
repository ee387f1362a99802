"""Which teacher supervises which token: the routing's rules, applied to one parsed rollout.

>>> route(segments, config.routing)
(Term(by='perception', kind=DESCRIPTION, tokens=(0, 1, 2)), Term(by='reasoning', kind=REASONING, ...), ...)

`rule_spec` says which divergence a rule means: what the routing states, and otherwise what `loss` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vigos_cli.config.routing_group import CONSTANT, TOKENS
from vigos_cli.config.schema import LossConfig, RoutingConfig, TargetConfig
from vigos_cli.config.supervision_terms import WHOLE, Rule, supervision_rules
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.method.targets import Contrast, check
from vigos_cli.types import Kind, Segments, Term
from vigos_cli.utils.errors import ConfigError


def routing_table(routing: RoutingConfig) -> dict[Kind, tuple[str, ...]]:
    """Who supervises each kind of token."""
    table: dict[Kind, tuple[str, ...]] = dict.fromkeys(Kind, ())
    for rule in supervision_rules(routing):
        for kind in Kind:
            if rule.part in (kind.value, "all"):
                table[kind] = (*table[kind], rule.by)
    return table


def route(segments: Segments, routing: RoutingConfig) -> tuple[Term, ...]:
    """The terms of one rollout that have a token, by kind and then in the order of the rules."""
    rules = supervision_rules(routing)
    terms: list[Term] = []
    for kind in Kind:
        tokens = [i for i, k in enumerate(segments.kinds) if k == kind]
        for place, rule in enumerate(rules):
            if rule.part in (kind.value, "all"):
                terms += _terms(rule, place, kind, tokens)
    return tuple(terms)


def fallback_teachers(routing: RoutingConfig) -> frozenset[str]:
    """Those that supervise rollouts with an invalid format and nothing else."""
    rules = supervision_rules(routing)
    other = {rule.by for rule in rules if rule.part != "invalid"}
    return frozenset(rule.by for rule in rules) - other


def _terms(rule: Rule, place: int, kind: Kind, tokens: list[int]) -> Iterator[Term]:
    """The tokens of one kind under one rule; the edges are a term of their own if they have a clip."""
    skipped = (rule.select or {}).get("skip_first", 0)
    tokens = [i for i in tokens if i >= skipped]
    edges = _edges(rule, kind, tokens)
    inner = tuple(i for i in tokens if i not in edges)
    if inner:
        yield Term(rule.by, kind, inner, place)
    if edges:
        yield Term(rule.by, kind, edges, place, edge=True)


def _edges(rule: Rule, kind: Kind, tokens: list[int]) -> tuple[int, ...]:
    """The last token of a description, and the first of any other part, if the rule clips them."""
    if rule.edge_clip is None or not tokens:
        return ()
    return (tokens[-1] if kind is Kind.DESCRIPTION else tokens[0],)


def check_targets(routing: RoutingConfig, loss: LossConfig) -> None:
    """Raise ConfigError if a divergence is not defined for the target to which a rule applies it."""
    for rule in supervision_rules(routing):
        if rule.by in routing.targets:
            try:
                check(contrast_of(routing.targets[rule.by]), rule_spec(rule, loss))
            except ConfigError as error:
                raise ConfigError(f"{rule.place}: {error}") from error


def contrast_of(target: TargetConfig, exempt: Sequence[int] = ()) -> Contrast:
    """A target of the routing as the loss computes it, with the ids of its exempt tokens."""
    support = target.support or {}
    return Contrast(
        target.base,
        target.plus,
        target.minus,
        scale=target.scale,
        centre=target.centre,
        tanh=target.tanh,
        floor=target.floor,
        support_of=support.get("of"),
        support_share=support.get("share", 0.1),
        exempt=tuple(exempt),
        temperature=target.temperature,
    )


def rule_spec(rule: Rule, loss: LossConfig, *, edge: bool = False) -> DivergenceSpec:
    """The divergence and the clip of a rule; with `edge`, those of its first or last token."""
    if rule.by == TOKENS:
        return DivergenceSpec("cross_entropy")
    if rule.by == CONSTANT:
        return DivergenceSpec("advantage", advantage=rule.advantage)

    def stated(key: str) -> Any:
        value = getattr(rule, key)
        if value is None:
            return getattr(loss, key)
        return None if key == "top_k" and value == WHOLE else value

    divergence = rule.divergence or (loss.invalid if rule.part == "invalid" else loss.divergence)
    if edge:
        assert rule.edge_clip is not None
        clip, clip_value = "token", rule.edge_clip
    else:
        clip, clip_value = stated("clip"), stated("clip_value")
    return DivergenceSpec(
        divergence,
        clip=clip,
        clip_value=clip_value,
        **{key: stated(key) for key in ("temperature", "beta", "alpha", "top_k", "top_k_of", "tail")},
    )
