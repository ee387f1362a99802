"""Check a whole routing: each name is defined, each teacher is told what it needs, and no key is ignored.

Every mistake becomes one ConfigError that names the key and what to write there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vigos_cli.config.checks import is_count, is_number
from vigos_cli.config.routing_group import (
    CAPTION,
    PARTS,
    STUDENT,
    WITHOUT_TEACHER,
    RoutingConfig,
    TeacherContext,
)
from vigos_cli.config.supervision_terms import NONE, Rule, supervision_rules, teachers_of
from vigos_cli.utils.errors import ConfigError, nearest

PICTURES = ("image", "none", "black", "noise", "blur")
DEGRADATIONS = ("downscale", "shrink_on_black", "one_sharp_region", "downscale_and_jitter", *PICTURES[2:])
TOLD = ("question", "answer", "solution")
SIBLINGS = ("right", "wrong", "majority")
CHOOSE = ("first", "shortest", "longest")  # among several rollouts of a prompt
PREFIXES = ("turn", "think", "think_code", "no_prefill")
WEIGHTS = ("initial", "live")
SEES = f"{', '.join(PICTURES)}, {{mask: ..}}, {{column: NAME}}, {{row: other}}, {{one_of: [[share, word]]}}"
TELLS = f"{', '.join(TOLD)}, {{column: NAME}}, {{row: other, column: NAME}} or {{sibling: WHICH}}"


def check_routing(routing: RoutingConfig) -> None:
    """Raise a ConfigError for the first mistake in a routing."""
    check_picture("routing.student.sees", routing.student.sees)
    for name, teacher in routing.teachers.items():
        if name in (STUDENT, CAPTION, NONE, *WITHOUT_TEACHER):
            raise ConfigError(f"routing.teachers.{name}: this name has a meaning of its own, choose another")
        _check_teacher(f"routing.teachers.{name}", teacher)
    for name in routing.targets:
        _check_target(routing, name)
    for rule in supervision_rules(routing):
        _check_rule(routing, rule)
    if routing.student.writes == "reference" and routing.teachers:
        raise ConfigError(
            "routing.student.writes=reference imitates the reference: leave out routing.teachers"
        )
    named = {rule.part for rule in supervision_rules(routing)}
    if "all" in named and len(named) > 1:
        others = ", ".join(f"routing.supervise.{part}" for part in PARTS if part in named - {"all"})
        raise ConfigError(f"routing.supervise.all covers every part: leave out {others}, or set none there")
    _check_rollouts(routing)


def check_picture(key: str, sees: Any) -> None:
    """Check what a context sees."""
    if isinstance(sees, str):
        if sees not in PICTURES:
            raise ConfigError(f"{key}={sees}: {nearest(sees, PICTURES)}choose one of {SEES}")
        return
    if isinstance(sees, Mapping):
        kinds = {"mask", "column", "row", "one_of"} & set(sees)
        if len(kinds) == 1 and set(sees) <= {*kinds, *(("area", "seed") if kinds == {"mask"} else ())}:
            (kind,) = kinds
            if kind == "mask":
                check_picture(f"{key}.mask", sees["mask"])
                area = sees.get("area", 0.33)
                if not is_number(area) or not 0 < area <= 1:
                    raise ConfigError(f"{key}.area={area}: must be a number between 0 and 1")
                if not isinstance(sees.get("seed", 0), int):
                    raise ConfigError(f"{key}.seed={sees['seed']}: must be a whole number")
            if kind == "column" and not isinstance(sees["column"], str):
                raise ConfigError(f"{key}.column={sees['column']}: write the name of a column")
            if kind == "row" and sees["row"] != "other":
                raise ConfigError(f"{key}.row={sees['row']}: only other is possible, another row of the data")
            if kind == "one_of":
                _check_shares(f"{key}.one_of", sees["one_of"])
            return
    raise ConfigError(f"{key}={sees}: choose one of {SEES}")


def _check_shares(key: str, entries: Any) -> None:
    good = isinstance(entries, list) and all(isinstance(e, list) and len(e) == 2 for e in entries)
    if not good or not all(is_number(share) and 0 <= share <= 1 for share, _ in entries):
        raise ConfigError(f"{key}={entries}: must be a list of [share, word], with shares between 0 and 1")
    if sum(share for share, _ in entries) > 1 + 1e-9:
        raise ConfigError(f"{key}={entries}: the shares add up to more than 1")
    for _, word in entries:
        if word not in DEGRADATIONS:
            raise ConfigError(
                f"{key}: {word}: {nearest(str(word), DEGRADATIONS)}choose one of {', '.join(DEGRADATIONS)}"
            )


def _check_teacher(key: str, teacher: TeacherContext) -> None:
    check_picture(f"{key}.sees", teacher.sees)
    for entry in teacher.told:
        _check_told(f"{key}.told", entry)
    if not teacher.told and teacher.sees == "none":
        raise ConfigError(f"{key} is shown nothing and told nothing: set {key}.sees or {key}.told")
    if teacher.prefix not in PREFIXES:
        raise ConfigError(
            f"{key}.prefix={teacher.prefix}: {nearest(teacher.prefix, PREFIXES)}"
            f"choose one of {', '.join(PREFIXES)}"
        )
    if teacher.missing not in ("error", "skip"):
        raise ConfigError(f"{key}.missing={teacher.missing}: choose one of error, skip")
    if teacher.weights is not None:
        check_weights(f"{key}.weights", teacher.weights)


def check_weights(key: str, weights: Any) -> None:
    """Check which weights a teacher has."""
    if isinstance(weights, str) and weights not in ("", "ema", "every", "base"):
        return  # initial, live, or a path; a path that does not exist is reported when it is loaded
    if isinstance(weights, Mapping) and len(weights) == 1:
        ((kind, value),) = weights.items()
        if kind == "ema" and is_number(value) and 0 < value <= 1:
            return
        if kind == "every" and is_count(value):
            return
    raise ConfigError(
        f"{key}={weights}: choose initial, live, {{ema: RATE}} (the share of the new student in each step), "
        "{every: STEPS}, or the path of a checkpoint"
    )


def _check_told(key: str, entry: Any) -> None:
    if isinstance(entry, str) and entry in TOLD:
        return
    if isinstance(entry, Mapping):
        names = set(entry)
        if names == {"column"} or (names == {"row", "column"} and entry["row"] == "other"):
            return
        chosen = entry.get("choose", CHOOSE[0]) in CHOOSE
        if names - {"choose"} == {"sibling"} and entry["sibling"] in SIBLINGS and chosen:
            return
    near = nearest(entry, TOLD) if isinstance(entry, str) else ""
    raise ConfigError(f"{key}: {entry}: {near}choose among {TELLS}; WHICH is {', '.join(SIBLINGS)}")


def _check_target(routing: RoutingConfig, name: str) -> None:
    key, target = f"routing.targets.{name}", routing.targets[name]
    if name in routing.teachers or name in (STUDENT, CAPTION, NONE, *WITHOUT_TEACHER):
        raise ConfigError(f"{key}: this name is taken, choose another")
    for part in ("base", "plus", "minus"):
        _check_defined(f"{key}.{part}", getattr(target, part), routing.teachers)
    if target.support is not None:
        if not isinstance(target.support, Mapping) or set(target.support) != {"of", "share"}:
            raise ConfigError(f"{key}.support={target.support}: write {{of: NAME, share: 0.1}}")
        _check_defined(f"{key}.support.of", target.support["of"], routing.teachers)
        share = target.support["share"]
        if not is_number(share) or not 0 < share <= 1:
            raise ConfigError(f"{key}.support.share={share}: must be a number between 0 and 1")
    if target.temperature not in ("before", "after"):
        raise ConfigError(f"{key}.temperature={target.temperature}: choose one of before, after")
    if target.tanh is not None and target.tanh <= 0:
        raise ConfigError(f"{key}.tanh={target.tanh}: must be greater than 0")


def _check_defined(key: str, name: Any, known: Mapping[str, Any]) -> None:
    if not name:
        raise ConfigError(f"{key} is missing: name one of {', '.join(known) or '(no teacher is defined)'}")
    if not isinstance(name, str) or name not in known:
        raise ConfigError(
            f"{key}={name}: {nearest(str(name), tuple(known))}defined are {', '.join(known) or 'none'}"
        )


def _check_rule(routing: RoutingConfig, rule: Rule) -> None:
    known = (*routing.teachers, *routing.targets, *WITHOUT_TEACHER)
    if rule.by not in known:
        raise ConfigError(
            f"{rule.place}={rule.by}: {nearest(rule.by, known)}no teacher or target has this name; "
            f"defined are {', '.join((*routing.teachers, *routing.targets)) or 'none'}"
        )
    if rule.token_weight is not None:
        if not isinstance(rule.token_weight, Mapping) or set(rule.token_weight) != {"plus", "minus"}:
            raise ConfigError(
                f"{rule.place}.token_weight={rule.token_weight}: write {{plus: NAME, minus: NAME}}"
            )
        for part, name in rule.token_weight.items():
            _check_defined(f"{rule.place}.token_weight.{part}", name, routing.teachers)
    if rule.select is not None:
        _check_select(routing, rule)


def _check_select(routing: RoutingConfig, rule: Rule) -> None:
    key, select = f"{rule.place}.select", rule.select
    match select:
        case {"skip_first": number, **rest} if not rest and (number == 0 or is_count(number)):
            return
        case {"lowest_log_p": share, **rest} if not rest and is_number(share) and 0 < share <= 1:
            return
        case {"above_quantile": share, "of": [_, _] as names, **rest} if (
            not rest and is_number(share) and 0 <= share < 1
        ):
            for name in names:
                _check_defined(f"{key}.of", name, routing.teachers)
            return
    raise ConfigError(
        f"{key}={select}: write {{skip_first: N}}, {{lowest_log_p: SHARE}} or "
        "{above_quantile: Q, of: [NAME, NAME]}"
    )


def _check_rollouts(routing: RoutingConfig) -> None:
    choice = routing.rollouts.supervise
    if choice in ("all", "with_sibling"):
        if choice == "with_sibling" and not needs_siblings(routing):
            raise ConfigError("routing.rollouts.supervise=with_sibling: no teacher is told a sibling")
        return
    voting = isinstance(choice, Mapping) and {"disagreeing"} <= set(choice) <= {"disagreeing", "choose"}
    if voting and is_count(choice["disagreeing"]) and choice.get("choose", CHOOSE[0]) in CHOOSE:
        return
    raise ConfigError(
        f"routing.rollouts.supervise={choice}: choose all, with_sibling, or {{disagreeing: K, choose: WHICH}}"
        f" with K at least 1 and WHICH among {', '.join(CHOOSE)}"
    )


def check_description(routing: RoutingConfig) -> None:
    """Raise a ConfigError if a description is supervised that the student does not write.

    For training only: an evaluation may ask for the other form of the same student.
    """
    if routing.student.format == "think" and any(r.part == "description" for r in supervision_rules(routing)):
        raise ConfigError(
            "routing.student.format=think writes no description: set routing.supervise.description=none too"
        )


def used_teachers(routing: RoutingConfig) -> tuple[str, ...]:
    """The teachers that some rule needs, in the order in which they are defined."""
    needed = {name for rule in supervision_rules(routing) for name in teachers_of(routing, rule)}
    return tuple(name for name in routing.teachers if name in needed)


def needs_siblings(routing: RoutingConfig) -> bool:
    """Whether a supervised rollout needs the other rollouts of its prompt."""
    told = [entry for name in used_teachers(routing) for entry in routing.teachers[name].told]
    voting = isinstance(routing.rollouts.supervise, Mapping)
    return voting or any(isinstance(entry, Mapping) and "sibling" in entry for entry in told)


NO_TEACHER = ("it learns from the reference itself and has no teacher", "no token has a teacher")


def why_no_palr(routing: RoutingConfig) -> str | None:
    """The reason why PALR is not defined for a routing; None if it is defined."""
    if routing.student.writes == "reference":
        return NO_TEACHER[0]
    rules = [rule for rule in supervision_rules(routing) if rule.part != "invalid"]
    names = {name for rule in rules for name in teachers_of(routing, rule)}
    if routing.student.writes != "rollout" or not names:
        return NO_TEACHER[1]
    if any(rule.by in routing.targets or rule.token_weight for rule in rules):
        return "a token has several teachers"
    other = ("question", "answer", {"row": "other", "column": "answer"})
    told = [entry for name in sorted(names) for entry in routing.teachers[name].told if entry not in other]
    if told:
        what = "a worked solution" if told[0] == "solution" else str(told[0])
        return f"its teachers are given {what}, which cannot be replaced by a wrong answer"
    return None
