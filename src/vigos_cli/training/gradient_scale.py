"""Keep small gradients of a float16 model from becoming zero.

scale = gradient_scale(rows, student.base.dtype)     # a power of two; 1 unless the model is in float16
(loss * scale).backward()
divide_gradients(parameters, scale)

The adapter's weights and their gradients are float32, but the gradient reaches them through the frozen model,
in the model's dtype. The loss is a mean over the tokens of the whole batch, so one token has a weight near
1 / 16,000, and the smallest positive number of float16 is 6e-8. bfloat16 has the range of float32 and needs
no scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor, log2

import torch
from torch import Tensor

from vigos_cli.supervision.contexts import Supervised

# The scaled weight of the heaviest token. The largest number of float16, 65,504, is a thousand times larger.
HEAVIEST = 64


def gradient_scale(rows: Sequence[Supervised], dtype: torch.dtype) -> float:
    """The factor by which the loss of these rows is multiplied before the backward pass.

    It depends on the weights of the tokens alone, so a resumed run has the same one.
    """
    largest = max((term.weight for row in rows for term in row.terms), default=0.0)
    if dtype is not torch.float16 or largest <= 0:
        return 1.0
    return 2.0 ** floor(log2(HEAVIEST / largest))


def divide_gradients(parameters: Iterable[Tensor], scale: float) -> None:
    """Undo the scale."""
    if scale != 1:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= scale
