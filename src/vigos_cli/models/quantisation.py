"""4-bit weights (nf4) for the language model of a frozen base."""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import AutoConfig

from vigos_cli.config.schema import ModelConfig
from vigos_cli.models.adapter_layers import language_model
from vigos_cli.models.pretrained import empty_model, fetch


def nf4_config(dtype: torch.dtype, config: ModelConfig) -> Any:
    """The settings for transformers: nf4 with double quantisation, in the language model only."""
    from transformers import BitsAndBytesConfig

    base = empty_model(fetch(AutoConfig.from_pretrained, config))  # only the names of its modules are needed
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # Matches the start of every module name that is not inside the language model.
        llm_int8_skip_modules=[rf"(?!{re.escape(language_model(base))}\.).*"],
    )


def prepare_quantised(base: Any) -> int:
    """Count the 4-bit layers and keep their weights in the layout that training needs.

    On processors with AVX512-BF16, a forward pass without gradient would repack the weights into a layout
    that only inference can use.
    """
    layers = {name: m for name, m in base.named_modules() if type(m).__name__ == "Linear4bit"}
    inside = f"{language_model(base)}." if layers else ""
    assert all(name.startswith(inside) for name in layers), "a layer outside the language model was quantised"
    for layer in layers.values():
        layer.support_avx512bf16_for_cpu = False
    return len(layers)
