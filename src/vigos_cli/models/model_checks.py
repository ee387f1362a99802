"""Check that a model has a linear output head and no gradient in its frozen vision tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from vigos_cli.method.fused_loss import project
from vigos_cli.models.student import Student
from vigos_cli.utils.errors import UserError


@torch.no_grad()
def check_head(student: Student) -> None:
    """Check that the model's logits are hidden states times `head_VH`, as the loss computes them.

    The check multiplies the head's output by a large number, so that a soft cap on logits, which changes only
    large ones, is found too. Raises UserError if the model does anything else.
    """
    made: list[Tensor] = []

    def enlarge(head: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        made.append(output)
        return output * 2.0**10 / output.abs().max().clamp(min=1e-3).log2().ceil().exp2()

    ids = torch.tensor([student.tokenizer("a b")["input_ids"]], device=student.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    head = student.base.get_output_embeddings()
    hook = head.register_forward_hook(enlarge)
    try:
        logits = student.base(**inputs).logits[:, -1].float()
    finally:
        hook.remove()
    plain = getattr(head, "bias", None) is None and len(made) == 1
    if plain:
        theirs = made[0][:, -1].float()
        ours = project(student.hidden(inputs)[:, -1], student.head_VH)
        plain = torch.allclose(theirs, ours, atol=0.05 * float(theirs.abs().max()), rtol=0.05)
        plain = plain and torch.equal(logits, enlarge(head, None, made[0])[:, -1].float())
    if not plain:
        raise UserError("unsupported model: its output head is not a single bias-free linear layer")


def guard_vision_tower(base: Any) -> RemovableHandle:
    """Raise AssertionError if a forward pass would compute gradients in the frozen vision tower.

    Nothing in the tower is trained, so its output needs no gradient. If it has one, some hook has marked the
    tower's input, and each step would spend time on a backward pass through all of its blocks. The returned
    handle removes the check.
    """

    def check(tower: Any, inputs: Any, output: Any) -> None:
        values = output.values() if isinstance(output, Mapping) else output
        tensors = [output] if isinstance(output, Tensor) else [v for v in values if isinstance(v, Tensor)]
        assert not any(tensor.requires_grad for tensor in tensors), "the frozen vision tower has a gradient"

    return base.get_encoder(modality="image").register_forward_hook(check)
