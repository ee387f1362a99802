"""The keys that take one of a few values, and these values."""

from __future__ import annotations

# The rows of a routing table are kinds of token; each row has one or more of the values in CELLS.
KINDS = ("description", "reasoning", "answer", "delimiters", "end", "invalid")
CELLS = ("none", "perception", "reasoning", "reference", "privileged", "target")
CARDS = {  # memory of GPUs in GiB
    "t4": 16,
    "rtx4080": 16,
    "rtx3090": 24,
    "rtx4090": 24,
    "a10": 24,
    "l4": 24,
    "rtx5090": 32,
    "a6000": 48,
    "l40s": 48,
    "a100_40": 40,
    "a100_80": 80,
    "h100": 80,
    "h200": 141,
}
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
