"""The keys that take one of a few values, and these values."""

from __future__ import annotations

# The rows of a routing table are kinds of token; each row has one or more of the values in CELLS.
KINDS = ("description", "reasoning", "answer", "delimiters", "end", "invalid")
CELLS = ("none", "perception", "reasoning", "reference", "privileged", "target")
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
    "routing.student": ("structured", "plain"),
    **{f"routing.{kind}": CELLS for kind in KINDS},
    "routing.spans": ("paper", "code"),
    "routing.reference_text": ("answer", "solution", "other_answer"),
    "routing.perception_image": ("own", "noise"),
    "routing.completion": ("student", "reference", "two_pass"),
    "loss.segment": ("forward_kl", "reverse_kl", "jsd", "skew_kl", "topk_kl", "sampled"),
    "loss.reference": ("forward_kl", "reverse_kl", "jsd", "skew_kl", "topk_kl", "sampled"),
    "loss.clip": ("none", "token", "entry", "scale"),
    "loss.tail": ("bucket", "renormalise"),
    "loss.reduction": ("term_tokens", "rollout"),
    "teacher.weights": ("base", "ema", "live"),
    "trainer.schedule": ("linear", "cosine", "constant"),
    "trainer.optimizer": ("adamw", "paged_adamw_8bit"),
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
