"""How much each supervised token counts in the loss: the means and weights of eq. 18-21.

Each teacher (or target) has one mean over all tokens that it supervises, and a part has a factor. The weights
do not depend on the divergences, so they are known before the student is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vigos_cli.config.schema import LossConfig
from vigos_cli.config.supervision_terms import Rule, rule_weight
from vigos_cli.types import Term

ALL = "all sampled tokens"  # the divisor of rules with divide_by=all


def term_counts(
    terms_by_rollout: Sequence[Sequence[Term]], reduction: str, sampled: Sequence[int] = ()
) -> Counter[str]:
    """The divisor of each mean: its supervised tokens, or the rollouts that have any.

    `sampled` are the numbers of sampled tokens of the rollouts. All must be summed over the processes before
    they are used.
    """
    tokens = [_tokens(terms) for terms in terms_by_rollout]
    if reduction == "rollout":
        tokens = [Counter(dict.fromkeys(counts, 1)) for counts in tokens]
    counts = sum(tokens, Counter())
    if counts:
        counts[ALL] = sum(sampled)
    return counts


def token_weights(
    terms_by_rollout: Sequence[Sequence[Term]],
    rules: Sequence[Rule],
    loss: LossConfig,
    counts: Mapping[str, int],
) -> list[list[float]]:
    """The weight of each token, for each term of each rollout.

    The loss of a step is then the sum of weight times value over all tokens, in whatever micro-batch or
    process they are. `counts` is `term_counts` of the whole optimizer batch. This differs from the authors'
    program, whose means are over a micro-batch, so that its gradient depends on the split.
    """
    weights: list[list[float]] = []
    for terms in terms_by_rollout:
        own = _tokens(terms) if loss.reduction == "rollout" else Counter[str]()
        weights.append([_weight(term, rules[term.rule], loss, own, counts) for term in terms])
    return weights


def _weight(
    term: Term, rule: Rule, loss: LossConfig, own: Mapping[str, int], counts: Mapping[str, int]
) -> float:
    if not term.tokens:
        return 0.0
    divisor = counts[ALL] if rule.divide_by == "all" else own.get(term.by, 1) * counts[term.by]
    return rule_weight(rule, loss) * term.weight / divisor


def _tokens(terms: Sequence[Term]) -> Counter[str]:
    """Supervised tokens of one rollout, by teacher; a token with two rules of a teacher counts twice."""
    counts: Counter[str] = Counter()
    for term in terms:
        if term.tokens:
            counts[term.by] += len(term.tokens)
    return counts
