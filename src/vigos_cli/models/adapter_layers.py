"""Choose the layers of a model that get LoRA weights."""

from __future__ import annotations

import re
from typing import Any

import torch
from peft import LoraConfig

from vigos_cli.config.schema import AdapterConfig
from vigos_cli.utils.errors import UserError


def lora_config(base: Any, adapter: AdapterConfig) -> LoraConfig:
    """Configure LoRA on the layers in `adapter.targets`; only the language model's unless `adapter.vision`.

    Raises UserError if no layer has one of these names.
    """
    inside = "" if adapter.vision else re.escape(f"{language_model(base)}.")
    pattern = rf"{inside}(?:.*\.)?(?:{'|'.join(map(re.escape, adapter.targets))})"
    if not any(re.fullmatch(pattern, name) for name, _ in base.named_modules()):
        leaves = {n.rsplit(".", 1)[-1] for n, m in base.named_modules() if isinstance(m, torch.nn.Linear)}
        raise UserError(f"adapter.targets matches no layer; this model has {', '.join(sorted(leaves))}")
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=pattern,
        bias="none",
    )


def language_model(base: Any) -> str:
    """The name of the module that holds the language model, found with transformers' own methods.

    The names differ between model families. Everything outside this module (vision tower, projector, head)
    gets no adapter and no 4-bit weights. Raises UserError if the vision tower is inside it.
    """
    names = {id(module): name for name, module in base.named_modules()}
    decoder, tower = (names[id(m)] for m in (base.get_decoder(), base.get_encoder(modality="image")))
    if not decoder or not tower or tower.startswith(f"{decoder}."):
        raise UserError(
            f"{type(base).__name__} has no language model separate from its vision tower: not supported"
        )
    return decoder
