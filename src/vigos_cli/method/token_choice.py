"""Choose and weigh tokens by how sure the contexts are of them, before the loss is computed.

A weight multiplies the divergence of a token; a selection is a mask. Both come from numbers that
`fused_loss.sampled_log_probs` and `fused_loss.token_log_probs` give:

    >>> margin_weight(torch.tensor([-1.0, -3.0]), torch.tensor([-1.5, -2.0]))
    tensor([0.5000, 0.0000])
    >>> lowest_share(torch.tensor([-0.1, -2.0, -0.3, -1.0, -0.2]), 0.4)
    tensor([False,  True, False,  True, False])

The tokens among which a share or a quantile is taken are the caller's choice: one rollout, or a batch.
Shapes: N tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def margin_weight(plus_N: Tensor, minus_N: Tensor) -> Tensor:
    """max(0, log q+(y) - log q-(y)): how much one context raises the token over another (2608.05131).

    Tokens that the second context finds at least as likely have the weight 0. There is no upper limit.
    """
    return (plus_N - minus_N).clamp(min=0)


def kl_weight(kl_N: Tensor) -> Tensor:
    """k / (k + 1) with k the KL of two contexts: 0 if they agree, towards 1 if they do not (2606.11709).

    A KL that rounding errors have made negative counts as 0.
    """
    kl_N = kl_N.clamp(min=0)
    return kl_N / (kl_N + 1)


def lowest_share(logp_N: Tensor, share: float) -> Tensor:
    """Mask of the max(1, floor(share N)) tokens with the lowest value; of equal ones the first (2608.31046).

    Without tokens the mask is empty.
    """
    assert 0 < share <= 1, f"{share} is not a share"
    # 0.29 * 100 is below 29 in binary numbers; a product so close to an integer means that integer.
    kept = max(1, math.floor(share * len(logp_N) + 1e-6))
    mask_N = torch.zeros(len(logp_N), dtype=torch.bool, device=logp_N.device)
    mask_N[logp_N.argsort(stable=True)[:kept]] = True
    return mask_N


def above_quantile(values_N: Tensor, quantile: float) -> Tensor:
    """Mask of the tokens whose value exceeds the quantile (2606.00564: 0.7); none if all are equal.

    Between two values the quantile is interpolated linearly, in float64. Without tokens the mask is empty.
    """
    assert 0 <= quantile <= 1, f"{quantile} is not a quantile"
    if not len(values_N):
        return torch.zeros(0, dtype=torch.bool, device=values_N.device)
    sorted_N = values_N.double().sort().values
    place = quantile * (len(sorted_N) - 1)
    low, high = sorted_N[math.floor(place)], sorted_N[math.ceil(place)]
    limit = low if low == high else low + (high - low) * (place - math.floor(place))
    return values_N.double() > limit
