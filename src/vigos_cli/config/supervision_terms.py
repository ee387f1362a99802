"""The table `routing.supervise` as a list of rules: a part, who supervises it, and how.

>>> supervision_rules(routing)
(Rule(part='description', by='perception', ...), Rule(part='reasoning', by='reasoning', ...), ...)

A cell of the table is `none`, a name, a term (a mapping that names its teacher with `by`), or a list:

    supervise:
      reasoning: reasoning
      invalid: {by: fallback, divergence: reverse_kl, weight: 2}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vigos_cli.config.checks import is_count, is_number
from vigos_cli.config.choices import CHOICES
from vigos_cli.config.loss_teacher import LossConfig
from vigos_cli.config.routing_group import PARTS, RoutingConfig, SuperviseConfig
from vigos_cli.utils.errors import ConfigError, nearest

NONE = "none"
WHOLE = "all"  # of `top_k`: the whole vocabulary, whatever `loss.top_k` says


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell of the table. A value of None comes from `loss` (see `vigos_cli.method.routing`)."""

    part: str  # of PARTS
    by: str  # a teacher, a target, `tokens`, or `constant`
    divergence: str | None = None
    beta: float | None = None
    alpha: float | None = None
    clip: str | None = None
    clip_value: float | None = None
    edge_clip: float | None = None  # limit in nats for the first and the last token of the part's tokens
    top_k: int | str | None = None  # WHOLE, or a number of entries
    top_k_of: str | None = None
    tail: str | None = None
    temperature: float | None = None
    advantage: float = -0.5  # of `constant`
    weight: float | None = None
    token_weight: Mapping[str, Any] | None = None  # {plus: NAME, minus: NAME}
    select: Mapping[str, Any] | None = None  # see `_check_select` in `routing_checks`
    divide_by: str = "supervised"  # the mean is over the supervised tokens, or over all sampled tokens
    index: int | None = None  # its place in the list, if the part has several rules

    @property
    def place(self) -> str:
        """The key of the configuration that holds this rule."""
        return f"routing.supervise.{self.part}"

    def key(self, name: str) -> str:
        """The key of the configuration that sets one value of this rule."""
        return ".".join([self.place, *([] if self.index is None else [str(self.index)]), name])


KEYS = tuple(item.name for item in fields(Rule) if item.name not in ("part", "index"))
WORDS = {  # the keys with a fixed set of values
    "divergence": CHOICES["loss.divergence"],
    "clip": CHOICES["loss.clip"],
    "tail": CHOICES["loss.tail"],
    "top_k_of": CHOICES["loss.top_k_of"],
    "divide_by": ("supervised", "all"),
}
POSITIVE = ("clip_value", "edge_clip", "temperature")
SHARES = ("beta", "alpha")


def supervision_rules(routing: RoutingConfig) -> tuple[Rule, ...]:
    """The rules of the table, part by part. Raises ConfigError for a term that cannot be read."""
    return tuple(_rules(routing.supervise))


def _rules(table: SuperviseConfig) -> Iterator[Rule]:
    for part in PARTS:
        cell, seen = getattr(table, part), set()
        for index, entry in enumerate(cell if isinstance(cell, list) else [cell]):
            if entry is None or entry == NONE:
                continue
            rule = replace(_rule(part, entry), index=index if isinstance(cell, list) else None)
            if rule.by in seen:
                raise ConfigError(f"{rule.place} names {rule.by} twice")
            seen.add(rule.by)
            yield rule


def _rule(part: str, entry: Any) -> Rule:
    place = f"routing.supervise.{part}"
    if isinstance(entry, str):
        return Rule(part, entry)
    if isinstance(entry, Mapping) and "by" not in entry and set(entry) & set(KEYS):
        raise ConfigError(f"{place}={dict(entry)}: `by` is missing, the name of who supervises")
    if not isinstance(entry, Mapping) or not isinstance(entry.get("by"), str):
        raise ConfigError(
            f"{place}={entry}: write none, the name of a teacher, or a term such as {{by: NAME, weight: 2}}"
        )
    for key, value in entry.items():
        if key not in KEYS:
            raise ConfigError(
                f"{place}.{key}: {nearest(str(key), KEYS)}a term has the keys {', '.join(KEYS)}"
            )
        if key in WORDS and value is not None and value not in WORDS[key]:
            near = nearest(str(value), WORDS[key])
            raise ConfigError(f"{place}.{key}={value}: {near}choose one of {', '.join(WORDS[key])}")
        if value is not None and (key, value) != ("top_k", WHOLE):
            _check_number(f"{place}.{key}", str(key), value)
    return Rule(part, **{str(key): value for key, value in entry.items()})


def _check_number(place: str, key: str, value: Any) -> None:
    if key in POSITIVE and not (is_number(value) and value > 0):
        raise ConfigError(f"{place}={value}: must be a number greater than 0")
    if key == "weight" and not (is_number(value) and value >= 0):
        raise ConfigError(f"{place}={value}: must be a number, at least 0")
    if key in SHARES and not (is_number(value) and 0 <= value <= 1):
        raise ConfigError(f"{place}={value}: must be a number between 0 and 1")
    if key == "top_k" and not is_count(value):
        raise ConfigError(f"{place}={value}: must be a whole number of at least 1, or all")
    if key == "advantage" and not is_number(value):
        raise ConfigError(f"{place}={value}: must be a number")


def sources(routing: RoutingConfig, by: str) -> tuple[str, ...]:
    """The teachers that must read a rollout for a rule by this name; none for `tokens` and `constant`."""
    if by in routing.teachers:
        return (by,)
    if by not in routing.targets:
        return ()
    target = routing.targets[by]
    of = (target.support["of"],) if target.support else ()
    return tuple(dict.fromkeys((target.base, target.plus, target.minus, *of)))


def teachers_of(routing: RoutingConfig, rule: Rule) -> tuple[str, ...]:
    """Every teacher that a rule needs: those of `by`, of its token weights and of its selection."""
    weighing = rule.token_weight or {}
    chosen = (rule.select or {}).get("of", ())
    return tuple(dict.fromkeys((*sources(routing, rule.by), *_names(weighing), *chosen)))


def _names(weighing: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(weighing[key]) for key in ("plus", "minus") if key in weighing)


def trains(routing: RoutingConfig) -> bool:
    """Whether any part is supervised at all."""
    return bool(supervision_rules(routing))


WEIGHTS = {  # the weight of a part in `loss`; the other parts have the weight 1
    "description": "description_weight",
    "reasoning": "reasoning_weight",
    "answer": "reasoning_weight",
    "invalid": "invalid_weight",
}


def rule_weight(rule: Rule, loss: LossConfig) -> float:
    """The factor of a rule's tokens in the loss: the routing's, or that of `loss` for its part."""
    if rule.weight is not None:
        return rule.weight
    return getattr(loss, WEIGHTS[rule.part]) if rule.part in WEIGHTS else 1.0
