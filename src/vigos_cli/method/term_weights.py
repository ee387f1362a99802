"""How much each supervised token counts in the loss: the means and weights of eq. 18-21.

The weights do not depend on the divergences, so they are known before the student is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vigos_cli.config.schema import LossConfig
from vigos_cli.types import Kind, Role, Term


def term_name(term: Term) -> str:
    """The name of the mean in eq. 18-21 in which a term is counted.

    Each role that supervises whole rollouts has a mean of its own. For the other roles the segment decides;
    outside the segments (delimiters, invalid rollouts without fallback) the teacher decides.
    """
    match term.role, term.kind:
        case (Role.REFERENCE | Role.PRIVILEGED | Role.TARGET) as role, _:
            return role.value
        case _, Kind.DESCRIPTION:
            return "description"
        case _, Kind.REASONING | Kind.ANSWER:
            return "reasoning"
        case Role.PERCEPTION, _:
            return "description"
        case Role.REASONING, _:
            return "reasoning"
    raise AssertionError(f"{term.role} teaches nothing")


def term_counts(terms_by_rollout: Sequence[Sequence[Term]], reduction: str) -> Counter[str]:
    """The divisor of each mean: its supervised tokens, or the rollouts that have any.

    They must be summed over all processes before use.
    """
    tokens = [_tokens(terms) for terms in terms_by_rollout]
    if reduction == "rollout":
        tokens = [Counter(dict.fromkeys(counts, 1)) for counts in tokens]
    return sum(tokens, Counter())


def token_weights(
    terms_by_rollout: Sequence[Sequence[Term]], loss: LossConfig, counts: Mapping[str, int]
) -> list[list[float]]:
    """The weight of each token, for each term of each rollout.

    The loss of a step is then the sum of weight times value over all tokens, in whatever micro-batch or
    process they are. `counts` is `term_counts` of the whole optimizer batch. This differs from the authors'
    program, whose means are over a micro-batch, so that its gradient depends on the split.
    """
    scale = {
        "description": loss.description_weight,
        "reasoning": loss.reasoning_weight,
        "reference": loss.reference_weight,
        "privileged": 1.0,
        "target": 1.0,
    }
    weights: list[list[float]] = []
    for terms in terms_by_rollout:
        own = _tokens(terms) if loss.reduction == "rollout" else Counter[str]()
        names = [term_name(term) for term in terms]
        weights.append(
            [
                scale[name] * term.weight / (own.get(name, 1) * counts[name]) if term.tokens else 0.0
                for name, term in zip(names, terms, strict=True)
            ]
        )
    return weights


def _tokens(terms: Sequence[Term]) -> Counter[str]:
    """Supervised tokens of one rollout, by mean; a token with two teachers in a mean counts twice."""
    counts: Counter[str] = Counter()
    for term in terms:
        if term.tokens:
            counts[term_name(term)] += len(term.tokens)
    return counts
