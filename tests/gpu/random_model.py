"""Write a Qwen2-VL with random weights to a folder, shard by shard, so that little memory is needed.

    write_model(TWIN, folder, torch.device("cpu"))      # what `model.path=FOLDER` loads

The tokenizer and the processor are those of the tiny model; the vocabulary is padded to the model's size.
Each matrix has the standard deviation 1 / sqrt(inputs), so that hidden states and logits stay near 1.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from gpu.sizes import Size, model_settings
from safetensors.torch import save_file
from torch import Tensor

from vigos_cli.config.paths import TINY
from vigos_cli.models.pretrained import empty_model

SHARD = 2**30  # bytes after which a shard is written


def write_model(size: Size, folder: Path, device: torch.device) -> int:
    """Write weights, configuration and processor; return the number of parameters."""
    from transformers import AutoProcessor

    folder.mkdir(parents=True, exist_ok=True)
    settings = model_settings(size)
    settings.save_pretrained(folder)
    processor: Any = AutoProcessor.from_pretrained(TINY)
    processor.image_processor.size["shortest_edge"] = size.picture  # the small pictures are scaled up to it
    processor.save_pretrained(folder)
    shutil.copy(TINY / "generation_config.json", folder)
    return _write_weights(settings, folder, device)


def _write_weights(settings: Any, folder: Path, device: torch.device) -> int:
    generator = torch.Generator(device).manual_seed(0)
    shard: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    count = total = 0

    def flush() -> None:
        file = f"model-{len(set(places.values())) + 1:05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, empty in empty_model(settings).state_dict().items():
        if name == "lm_head.weight" and settings.tie_word_embeddings:
            continue  # it is the matrix of the embeddings
        shard[name] = _random(name, empty.shape, generator, device)
        count, total = count + empty.numel(), total + 2 * empty.numel()
        if sum(value.nbytes for value in shard.values()) > SHARD:
            flush()
    flush()
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return count


def _random(name: str, shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Ones for the weights of norms, zeros for biases, and random numbers for matrices, in bfloat16."""
    value = torch.zeros(shape, dtype=torch.bfloat16, device=device)
    if len(shape) > 1:
        value.normal_(0, (shape.numel() / shape[0]) ** -0.5, generator=generator)
    elif "norm" in name and name.endswith("weight"):
        value.fill_(1)
    return value.cpu()
