"""Find `loss.*` overrides that a routing would ignore, because the routing states the same key itself.

>>> ignored_loss_keys(run, ["loss.clip=none"])         # routing=vcsd states its clip
['loss.clip: routing=vcsd states it; set routing.supervise.all.clip']
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vigos_cli.config.routing_group import WITHOUT_TEACHER, RoutingConfig
from vigos_cli.config.schema import RunConfig
from vigos_cli.config.supervision_terms import WEIGHTS, WHOLE, Rule, supervision_rules

OF_EVERY_TEACHER = ("clip", "clip_value", "temperature", "beta", "alpha", "top_k", "top_k_of", "tail")


def ignored_loss_keys(run: RunConfig, overrides: Sequence[str]) -> list[str]:
    """One line for each override of `loss` that no rule of the routing reads."""
    found = []
    for override in overrides:
        key = override.lstrip("+").partition("=")[0].strip()
        if not key.startswith("loss."):
            continue
        readers = list(_readers(run.routing, key.removeprefix("loss.")))
        if not readers or any(getattr(rule, name) is None for rule, name in readers):
            continue
        places = " and ".join(dict.fromkeys(rule.key(name) for rule, name in readers))
        found.append(f"{key}: routing={run.routing.name} states it; set {places}")
    return found


def _readers(routing: RoutingConfig, key: str) -> Iterator[tuple[Rule, str]]:
    """The rules that read a key of `loss`, each with the name of the key in the rule."""
    for rule in supervision_rules(routing):
        taught = rule.by not in WITHOUT_TEACHER
        if key in ("top_k_of", "tail") and rule.top_k == WHOLE:
            yield rule, "top_k"  # all entries: there is none to choose
        elif key in OF_EVERY_TEACHER and taught:
            yield rule, key
        elif key == ("invalid" if rule.part == "invalid" else "divergence") and taught:
            yield rule, "divergence"
        elif WEIGHTS.get(rule.part) == key:
            yield rule, "weight"
