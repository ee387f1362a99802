"""Find overrides that a run would ignore, because another key takes the place of theirs.

>>> ignored_keys(run, ["loss.clip=none"])              # routing=vcsd states its clip
['loss.clip: routing=vcsd states it; set routing.supervise.all.clip']
>>> ignored_keys(run, ["trainer.micro_batch=4", "trainer.micro_tokens=8192"])
['trainer.micro_batch: trainer.micro_tokens=8192 takes its place; leave out one of them']

Only what the command line itself sets is a mistake: an option of a group may set a key that another option or
the command line replaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vigos_cli.config.routing_group import WITHOUT_TEACHER, RoutingConfig
from vigos_cli.config.schema import DistillRun, RunConfig
from vigos_cli.config.supervision_terms import WEIGHTS, WHOLE, Rule, supervision_rules, trains

OF_EVERY_TEACHER = ("clip", "clip_value", "temperature", "beta", "alpha", "top_k", "top_k_of", "tail")


def ignored_keys(run: RunConfig, overrides: Sequence[str]) -> list[str]:
    """One line for each override that the run does not read."""
    return [*_ignored_loss_keys(run, overrides), *_ignored_rows(run, overrides), *_ignored_profile(run)]


def _ignored_rows(run: RunConfig, overrides: Sequence[str]) -> list[str]:
    """One line if the rows of a micro-batch are set beside its tokens."""
    if not isinstance(run, DistillRun) or run.trainer.micro_tokens is None:
        return []
    if not any(_key(override) == "trainer.micro_batch" for override in overrides):
        return []
    budget = f"trainer.micro_tokens={run.trainer.micro_tokens}"
    return [f"trainer.micro_batch: {budget} takes its place; leave out one of them"]


def _ignored_profile(run: RunConfig) -> list[str]:
    """One line if a step is to be profiled, and the routing takes no step."""
    if not isinstance(run, DistillRun) or not run.trainer.profile or trains(run.routing):
        return []
    return [f"trainer.profile: routing={run.routing.name} takes no training step that could be recorded"]


def _key(override: str) -> str:
    """The key of an override of the command line."""
    return override.lstrip("+").partition("=")[0].strip()


def _ignored_loss_keys(run: RunConfig, overrides: Sequence[str]) -> list[str]:
    """One line for each override of `loss` that no rule of the routing reads."""
    found = []
    for override in overrides:
        key = _key(override)
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
