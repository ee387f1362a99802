"""Load a student: base weights, adapter, and the checks of both."""

from __future__ import annotations

import re
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText

from vigos_cli.config.schema import AdapterConfig, ModelConfig
from vigos_cli.models import base_cache
from vigos_cli.models.adapter_layers import language_model, lora_config
from vigos_cli.models.adapter_loading import load_adapter
from vigos_cli.models.model_checks import check_head, guard_vision_tower
from vigos_cli.models.pretrained import empty_model, fetch, load_processor, pick_device, pick_dtype
from vigos_cli.models.quantisation import nf4_config, prepare_quantised
from vigos_cli.models.sharding import split_base
from vigos_cli.models.shared_pictures import SharedPictures
from vigos_cli.models.student import Student
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.rng import torch_seed

SLOT_TOKEN = re.compile(r"(?:image|video|audio|vision_start)_token_(?:id|index)")  # as configs name them


def load_student(
    config: ModelConfig, adapter: AdapterConfig, *, seed: int = 0, sharded: bool = False
) -> Student:
    """Load the base weights, freeze them, and add the adapter: a new one, or the one at `adapter.path`.

    `sharded` splits the base among the processes, which must all call this.
    """
    device = pick_device(config.device)
    load = _load_split_base if sharded else _load_base
    base, processor = base_cache.take(config, adapter, sharded=sharded) or load(config, adapter, device)
    base.requires_grad_(False)
    quantised = prepare_quantised(base)
    if adapter.path is not None:
        net = load_adapter(base, adapter)
    else:
        with torch_seed(seed, "adapter"):
            net = get_peft_model(base, lora_config(base, adapter))
    if not adapter.vision:
        inside = f"base_model.model.{language_model(base)}."
        touched = [n for n, p in net.named_parameters() if p.requires_grad and not n.startswith(inside)]
        if touched:  # a saved adapter may have been trained with adapter.vision=true
            raise UserError(
                f"the adapter has weights outside the language model ({touched[0]}): set adapter.vision=true"
            )
    net.eval()
    student = Student(
        net=net,
        processor=processor,
        device=device,
        adapter={name: p for name, p in net.named_parameters() if p.requires_grad},
        stop_ids=_stop_ids(base, processor.tokenizer),
        banned_ids=_banned_ids(base.config),
        quantised_modules=quantised,
        vision_guard=None if adapter.vision else guard_vision_tower(base),
        pictures=None if adapter.vision else SharedPictures(),
        sharded=sharded,
    )
    check_head(student)
    return student


def _load_base(config: ModelConfig, adapter: AdapterConfig, device: torch.device) -> tuple[Any, Any]:
    """Load the base weights to the device, 4-bit if asked, and the processor."""
    dtype = pick_dtype(config.dtype, device)
    options: dict[str, Any] = {"dtype": dtype}
    if adapter.quantise == "nf4":
        options["quantization_config"] = nf4_config(dtype, config)
        options["device_map"] = {"": device}
    processor = load_processor(config)
    base = fetch(AutoModelForImageTextToText.from_pretrained, config, use_safetensors=True, **options)
    return base if adapter.quantise == "nf4" else base.to(device), processor


def _load_split_base(config: ModelConfig, adapter: AdapterConfig, device: torch.device) -> tuple[Any, Any]:
    """Load the base to the CPU of the first process only, and split it among all; also the processor."""
    assert adapter.quantise == "none", "4-bit weights are not split"
    processor = load_processor(config)
    if process_group.rank() == 0:
        options: dict[str, Any] = {"dtype": pick_dtype(config.dtype, device), "use_safetensors": True}
        base = fetch(AutoModelForImageTextToText.from_pretrained, config, **options)
    else:
        base = empty_model(fetch(AutoConfig.from_pretrained, config))
    base.generation_config = process_group.gather(base.generation_config)[0]
    return split_base(base, device), processor


def _stop_ids(base: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a turn, from the tokenizer and the model's generation config."""
    ids = base.generation_config.eos_token_id
    listed = ids if isinstance(ids, list) else [ids]
    return frozenset(i for i in (*listed, tokenizer.eos_token_id) if i is not None)


def _banned_ids(config: AutoConfig) -> tuple[int, ...]:
    """The placeholder tokens of images, video and audio that the model's config names."""
    slots = {getattr(config, name, None) for name in dir(config) if SLOT_TOKEN.fullmatch(name)}
    return tuple(sorted(i for i in slots if isinstance(i, int)))
