"""The two sizes of the GPU checks: the true Qwen2-VL 2B on a card, a twin of four layers on the CPU.

>>> settings = model_settings(TWIN)           # a configuration of transformers, from the shipped one
>>> overrides(TWIN, folder)                   # what `vigos distill` gets: the recipe of one card, few steps
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vigos_cli.config.paths import TINY
from vigos_cli.models.planned_config import KNOWN

SHIPPED = "Qwen--Qwen2-VL-2B-Instruct.json"
SPECIAL = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
STEPS, KILLED_AFTER = 3, 2  # steps of the run, and those after which it is killed


@dataclass(frozen=True)
class Size:
    """How large the model and its batches are, and where they are computed."""

    key: str
    name: str
    device: str  # model.device
    low: str  # model.dtype whose gradients are compared with float32 on the CPU
    picture: int  # pixels of each picture
    tokens: int  # sampled tokens of each rollout and answer
    batch: int  # rollouts of a step
    disk: float  # GiB that the folder of the checks needs
    minutes: float  # for all checks together
    text: dict[str, int] = field(default_factory=dict)  # differences from the shipped configuration
    vision: dict[str, int] = field(default_factory=dict)


TRUE = Size(
    "true",
    "Qwen2-VL 2B, true size",
    "auto",
    "auto",
    picture=602_112,
    tokens=128,
    batch=4,
    disk=12,
    minutes=10,
)
TWIN = Size(
    "twin",
    "twin of four layers",
    "cpu",
    "bfloat16",
    picture=84 * 84,
    tokens=32,
    batch=4,
    disk=0.2,
    minutes=60,  # about two minutes of one processor, which may be busy
    text={
        "num_hidden_layers": 4,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "vocab_size": 2048,
    },
    vision={"depth": 4, "embed_dim": 128, "num_heads": 4, "hidden_size": 128},
)
SIZES = {size.key: size for size in (TRUE, TWIN)}


def model_settings(size: Size) -> Any:
    """The transformers configuration of a size, with the special tokens of the tiny model's tokenizer."""
    from transformers import AutoConfig

    values = json.loads((KNOWN / SHIPPED).read_text(encoding="utf-8"))
    tiny = AutoConfig.from_pretrained(TINY)
    text, vision = values["text_config"] | size.text, values["vision_config"] | size.vision
    width = text["hidden_size"] // text["num_attention_heads"]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [width // 8, *[width // 16 * 3] * 2]}
    text |= {"rope_parameters": rope, "bos_token_id": None}
    text |= {name: getattr(tiny.text_config, name) for name in ("eos_token_id", "pad_token_id")}
    special = {name: getattr(tiny, name) for name in SPECIAL}
    made = AutoConfig.for_model(**{**values, **special, "text_config": text, "vision_config": vision})
    made.architectures, made.dtype = tiny.architectures, "bfloat16"
    return made


def overrides(size: Size, model: Path) -> list[str]:
    """The recipe of `model=qwen2vl` (4-bit, 8-bit AdamW), with the folder of the weights and small batches.

    The learning rate is larger than the recipe's and no token is clipped, so that few steps on random weights
    change the adapter visibly.
    """
    return [
        "model=qwen2vl",
        f"model.path={model}",
        f"model.device={size.device}",
        f"model.max_pixels={size.picture}",
        "data=priorworld",
        "bench=priorworld",
        "bench.tasks.priorworld.rows=1",
        "bench.samples=0",
        f"bench.batch={size.batch}",
        f"bench.max_new_tokens={size.tokens}",
        f"rollout.batch={size.batch}",
        f"rollout.max_new_tokens={size.tokens}",
        f"trainer.batch={size.batch}",
        f"trainer.steps={STEPS}",
        "trainer.checkpoint_every=1",
        "trainer.lr=1e-3",
        "loss.clip=none",
    ]
