"""Decide from the measured rollouts whether training can start, or what to change before.

>>> report = readiness_report(lines, config)
>>> report["verdict"], report["line"]
('change', 'change before training: rollout.max_new_tokens (0.41 of the answers are cut off: ...)')

docs/method.md ("When training can start") gives the reasons for the limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vigos_cli.analysis.readiness import measure_readiness, not_finite
from vigos_cli.config.schema import RolloutRun
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.evaluation.figures import Figure
from vigos_cli.method.routing import rule_spec

CUT_OFF = 0.2  # share of answers
VALID = 0.5  # share of the answers that were not cut off
ALL_WRONG, ALL_RIGHT = 0.05, 0.95  # share of right answers
NOTHING_TO_LEARN = 0.02  # nats in a whole turn
# Divergences whose gradient is weighted by the student's own probabilities.
MODE_SEEKING = ("reverse_kl", "sampled")
NO_GRADIENT = 0.5  # share of supervised tokens, as in the warning of training
LOST_DIVERGENCE = 0.95  # share of the divergence
LEAKED, LEAKED_ABOVE_CHANCE = 0.8, 0.5  # share of descriptions, and by how much it is above chance
CHECKED = {  # the measures that have a limit
    "valid_finished": "the format",
    "accuracy": "the accuracy",
    "cut_off": "the share cut off",
    "turn_kl": "the KL",
    "no_gradient": "the share without a gradient",
    "lost_divergence": "the divergence without a gradient",
}
FEWEST = 32  # rows that the message asks for at least

Measures = Mapping[str, Figure | None]
Change = tuple[str, str, str]  # what to change, the measure that shows it, and why


def readiness_report(lines: Sequence[Mapping[str, Any]], config: RolloutRun) -> dict[str, Any]:
    """The verdict, its line, the changes and all measures, as they stand in summary.json.

    The verdict is start, change, or unknown if there are no rollouts. `uncertain` names the measures whose
    interval contains their limit.
    """
    measures = measure_readiness(lines)
    unreadable = list(_answer_changes(lines, measures, config))
    changes = [*unreadable, *_further_changes(lines, measures, config, format_is_kept=not unreadable)]
    limits = _limits(measures, format_is_kept=not unreadable)
    uncertain = [name for name, limit in limits.items() if _contains(measures.get(name), limit)]
    rows = len({line["row"] for line in lines})
    verdict = "unknown" if not lines else "change" if changes else "start"
    return {
        "verdict": verdict,
        "line": _line(verdict, changes, uncertain, rows, config),
        "changes": [dict(zip(("what", "measure", "why"), change, strict=True)) for change in changes],
        "uncertain": uncertain,
        "rows": rows,
        "loss": _loss(config) if config.rollout.teachers else None,
        "measures": measures,
    }


def _loss(config: RolloutRun) -> str:
    """The divergences and clips of the routing's rules in words."""
    names: dict[str, None] = {}
    of_invalid: dict[str, None] = {}
    clips: dict[str, None] = {}
    for rule in supervision_rules(config.routing):
        spec = rule_spec(rule, config.loss)
        (of_invalid if rule.part == "invalid" else names)[spec.divergence] = None
        key = "loss.clip" if rule.clip is None else "clip"
        clips["no clip" if spec.clip == "none" else f"{key}={spec.clip} at {spec.clip_value:g} nats"] = None
    said = [f"divergence: {', '.join(names)}"] if names else []
    if of_invalid and of_invalid != names:
        said.append(f"on invalid rollouts: {', '.join(of_invalid)}")
    return "; ".join([*said, *clips]) or "no token has a teacher"


def _further_changes(
    lines: Sequence[Mapping[str, Any]], measures: Measures, config: RolloutRun, *, format_is_kept: bool
) -> Iterator[Change]:
    """What to change apart from the form of the answers, the most basic first."""
    yield from _data_changes(measures, format_is_kept=format_is_kept)
    yield from _loss_changes(lines, measures, config)
    if (found := measures.get("leakage")) and leaks(found):
        yield (
            "prompt",
            "leakage",
            f"{found['mean']:.2f} of the descriptions state the answer, and {found['chance']['mean']:.2f} "
            "that of another question: ask for a description of the whole picture",
        )


def _answer_changes(
    lines: Sequence[Mapping[str, Any]], measures: Measures, config: RolloutRun
) -> Iterator[Change]:
    """What to change if the answers are cut off, or are not in the required format."""
    if (share := _mean(measures, "cut_off")) is not None and share > CUT_OFF:
        longer = 2 * config.rollout.max_new_tokens
        yield (
            "rollout.max_new_tokens",
            "cut_off",
            f"{share:.2f} of the answers are cut off: set {longer}, or ask for shorter answers",
        )
    if (share := _mean(measures, "valid_finished")) is not None and share < VALID:
        reasons = Counter(line["reason"] for line in lines if line["finished"] and not line["valid"])
        kept = f"only {share:.2f} of the finished answers follow" if share else "no finished answer follows"
        why = f"{kept} the format, most frequent fault: {reasons.most_common(1)[0][0]}"
        why += "; give other instructions with prompt.path"
        if keys := _keys_that_teach_the_format(config, never=not share):
            why += (
                f", or set {keys}: with the settings of now, the fallback teacher does not teach the format"
            )
        yield "prompt", "valid_finished", why


def _keys_that_teach_the_format(config: RolloutRun, *, never: bool) -> str:
    """The keys with which the fallback teacher raises the delimiters; empty if it does so already.

    Only keys that the routing leaves to `loss`. docs/results.md has the measurement ("Can the fallback teach
    the format?").
    """
    rules, loss = supervision_rules(config.routing), config.loss
    own = [rule for rule in rules if rule.part == "invalid"]
    keys = []
    if never and loss.invalid in MODE_SEEKING and any(rule.divergence is None for rule in own):
        keys.append("loss.invalid=forward_kl")
    # Where a delimiter is missing, the divergence is far above the limit.
    if loss.clip == "token" and any(rule.clip is None for rule in own):
        keys.append("loss.clip=scale")
    return " ".join(keys)


def _data_changes(measures: Measures, *, format_is_kept: bool) -> Iterator[Change]:
    """What to change if the student answers all or none of the questions."""
    share = _mean(measures, "accuracy")
    if share is not None and share > ALL_RIGHT:
        why = f"{share:.2f} of the answers are right already: choose harder rows"
        yield "data", "accuracy", why
    if share is not None and share < ALL_WRONG and format_is_kept:
        why = f"{share:.2f} of the answers are right: check the references, or choose easier rows"
        yield "data", "accuracy", why


def _loss_changes(
    lines: Sequence[Mapping[str, Any]], measures: Measures, config: RolloutRun
) -> Iterator[Change]:
    """What to change if the loss has no number, no content, or no gradient."""
    if broken := not_finite(lines):
        why = f"the divergence of {broken} rollouts is not a finite number: model.dtype=float32 or bfloat16"
        yield "model.dtype", "turn_kl", why
        return
    kl = _mean(measures, "turn_kl")
    if kl is not None and kl < NOTHING_TO_LEARN:
        why = (
            f"the teachers differ from the student by {kl:.2g} nats in a whole answer: nothing to learn here"
        )
        yield "data", "turn_kl", why
        return
    silent, lost = _mean(measures, "no_gradient"), _mean(measures, "lost_divergence")
    rules = supervision_rules(config.routing)
    own = [rule.key("clip") for rule in rules if rule.clip is not None]  # stated by the routing
    key = own[0] if own and len(own) == len(rules) else "loss.clip"
    remedy = f"{key}=scale keeps a gradient, {key}=none removes the clip"
    if silent is not None and silent > NO_GRADIENT:
        yield "clip", "no_gradient", f"{silent:.2f} of the supervised tokens get no gradient: {remedy}"
    elif lost is not None and lost > LOST_DIVERGENCE:
        why = f"the tokens without a gradient have {lost:.3f} of the divergence: {remedy}"
        yield "clip", "lost_divergence", why


def leaks(leakage: Figure) -> bool:
    """Whether most descriptions state the answer, and far more than state the answer to another question."""
    above = leakage["mean"] - leakage["chance"]["mean"]
    return leakage["mean"] > LEAKED and above > LEAKED_ABOVE_CHANCE


def _limits(measures: Measures, *, format_is_kept: bool) -> dict[str, float]:
    """The limit of each measure that has one; of the two of `accuracy`, the nearer one."""
    accuracy = _mean(measures, "accuracy") or 0.0
    nearer = {"accuracy": ALL_RIGHT} if accuracy > 0.5 else {"accuracy": ALL_WRONG} if format_is_kept else {}
    return {
        "valid_finished": VALID,
        **nearer,
        "cut_off": CUT_OFF,
        "turn_kl": NOTHING_TO_LEARN,
        "no_gradient": NO_GRADIENT,
        "lost_divergence": LOST_DIVERGENCE,
    }


def _contains(figure: Figure | None, limit: float) -> bool:
    """Whether the limit lies inside the interval; also if the interval is unknown."""
    if figure is None:
        return False
    return figure["low"] is None or figure["low"] < limit < figure["high"]


def _mean(measures: Measures, name: str) -> float | None:
    found = measures.get(name)
    return None if found is None else found["mean"]


def _line(
    verdict: str, changes: Sequence[Change], uncertain: Sequence[str], rows: int, config: RolloutRun
) -> str:
    if verdict == "unknown":
        return "no row of the data could be used"
    if changes:
        text = "change before training: " + "; ".join(f"{what} ({why})" for what, _, why in changes)
    else:
        text = "training can start"
        if not config.rollout.teachers:
            text += ", as far as rollouts show it (rollout.teachers=true also checks the loss)"
    if uncertain:
        text += f"; {rows} rows are too few to be sure of {' and '.join(CHECKED[name] for name in uncertain)}"
        if config.rollouts is None and rows >= (config.limit or 0):  # the data may have more rows
            text += f": set limit={max(FEWEST, 4 * rows)}"
    return text
