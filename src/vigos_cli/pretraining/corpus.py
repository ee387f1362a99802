"""The texts that the tokenizer of the tiny model is trained on."""

from __future__ import annotations

from typing import Any

from vigos_cli.data.priorworld.scene import seeded
from vigos_cli.pretraining.pictures_and_texts import picture_step

STEPS = 60


def tokenizer_corpus(prompts: dict[str, Any]) -> list[str]:
    """Documents, and the chat template's own words; the same for every seed of a base."""
    rng = seeded("corpus")
    documents = [document.text for _ in range(STEPS) for document in picture_step(rng, prompts)[1]]
    return documents + ["user\n", "assistant\n"] * 100
