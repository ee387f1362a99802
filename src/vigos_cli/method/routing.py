"""Which teacher supervises which token: the routing table, applied to one parsed rollout.

>>> route(segments, config.routing)
(Term(role=PERCEPTION, kind=DESCRIPTION, tokens=(0, 1, 2)), Term(role=REASONING, kind=REASONING, ...), ...)
"""

from __future__ import annotations

from collections.abc import Iterable

from vigos_cli.config.schema import RoutingConfig
from vigos_cli.types import Kind, Role, Segments, Term


def roles(cell: str | Iterable[str]) -> tuple[Role, ...]:
    """The teachers named in a cell of the table; none for `none`."""
    names = [cell] if isinstance(cell, str) else list(cell)
    return tuple(Role(name) for name in names if name != "none")


def routing_table(routing: RoutingConfig) -> dict[Kind, tuple[Role, ...]]:
    """The whole table."""
    return {kind: roles(getattr(routing, kind.value)) for kind in Kind}


def route(segments: Segments, routing: RoutingConfig) -> tuple[Term, ...]:
    """The terms of one rollout, in the table's order; kinds without a teacher or a token are left out."""
    terms = []
    for kind, teachers in routing_table(routing).items():
        tokens = tuple(i for i, k in enumerate(segments.kinds) if k == kind)
        if tokens:
            terms += [Term(role, kind, tokens) for role in teachers]
    return tuple(terms)


def trains(routing: RoutingConfig) -> bool:
    """Whether any token has a teacher at all."""
    return any(routing_table(routing).values())
