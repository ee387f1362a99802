"""The keys that take one of a few values, and these values."""

from __future__ import annotations

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "skew_kl", "sampled")
CARDS = {  # memory of GPUs in GiB, as PyTorch reports it: less than the number in the card's name
    "t4": 14.5,
    "rtx4080": 15.5,
    "rtx3090": 23.5,
    "rtx4090": 23.5,
    "a10": 22.0,
    "l4": 21.9,
    "rtx5090": 31.3,
    "a6000": 47.4,
    "l40s": 44.3,
    "a100_40": 39.3,
    "a100_80": 79.1,
    "h100": 79.1,
    "h200": 139.7,
}
WITHOUT_BFLOAT16 = ("t4",)  # cards on which model.dtype=auto means float16
CHOICES: dict[str, tuple[str, ...]] = {
    "data.text_only": ("skip", "keep"),
    "model.dtype": ("auto", "float32", "bfloat16", "float16"),
    "adapter.quantise": ("none", "nf4"),
    "routing.student.format": ("structured", "think"),
    "routing.student.writes": ("rollout", "reference", "caption"),
    "routing.student.spans": ("paper", "code"),
    "loss.divergence": DIVERGENCES,
    "loss.invalid": DIVERGENCES,
    "loss.clip": ("none", "token", "entry", "both", "scale"),
    "loss.top_k_of": ("teacher", "student"),
    "loss.tail": ("bucket", "renormalise"),
    "loss.reduction": ("term_tokens", "rollout"),
    "teacher.weights": ("base", "ema", "live"),
    "trainer.schedule": ("linear", "cosine", "constant"),
    "trainer.optimizer": ("adamw", "paged_adamw_8bit"),
    "trainer.shard": ("none", "fsdp2"),
    "rollout.name": ("hf", "openai", "vllm"),
    "rollout.prefill": ("auto", "continue", "none"),
    "bench.scorer": ("ours", "official"),
    "judge.name": ("none", "openai"),
    "tracking.name": ("jsonl", "wandb", "tensorboard"),
    "tracking.mode": ("online", "offline", "disabled"),
    "diagnostic": ("none", "blind", "blank", "noise", "swap", "description_only"),
    "resume": ("never", "auto"),
    "cells": ("run", "list", "report"),
    "card": tuple(CARDS),
}
