"""Turn pictures and training texts of the tiny model into tensors."""

from __future__ import annotations

from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vigos_cli.pretraining.documents import Document

IMAGE_SLOT = 4  # tokens before the picture: turn start, "user", newline, vision start
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def pixels(pictures: list[Image]) -> Tensor:
    """The pictures as Qwen2-VL patches (rows x 36, 1176), as the processor makes them but in one go."""
    raw = torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8) for p in pictures])
    image = raw.view(len(pictures), 84, 84, 3).permute(0, 3, 1, 2).float() / 255
    image = (image - MEAN) / STD
    grid = image.view(-1, 3, 3, 2, 14, 3, 2, 14).permute(
        0, 2, 5, 3, 6, 1, 4, 7
    )  # rows, gh, gw, mh, mw, C, p, p
    return grid.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(len(pictures) * 36, 1176)


class Collator:
    """Turns documents into batches of tensors."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: Any):
        self.tokenizer = tokenizer
        token: Any = tokenizer.convert_tokens_to_ids
        encode = self.encode
        self.head = [token("<|im_start|>"), *encode("user\n"), token("<|vision_start|>")]
        assert len(self.head) == IMAGE_SLOT
        self.head += [token("<|image_pad|>")] * 9 + [token("<|vision_end|>")]
        self.middle = [token("<|im_end|>"), *encode("\n"), token("<|im_start|>"), *encode("assistant\n")]
        self.stop, self.pad = token("<|im_end|>"), token("<|endoftext|>")
        self.image_pad = token("<|image_pad|>")
        self.rope = model.model.get_rope_index

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]

    def batch(self, documents: list[Document]) -> dict[str, Tensor]:
        """Right-padded inputs, and the weight of each token in the loss, which is 0 for all given tokens.

        The learned parts of the answers weigh the same. The mean weight of the learned tokens is 1.
        """
        rows = []
        for document in documents:
            ids = self.head + self.encode(document.question) + self.middle
            weights = [0.0] * len(ids)
            for number, (part, learned) in enumerate(document.answer, 1):
                last = number == len(document.answer)
                tokens = self.encode(part) + [self.stop] * (last and document.ends)
                ids += tokens
                weights += [learned / len(tokens)] * len(tokens)
            rows.append((ids, weights))
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [self.pad] * (width - len(ids)) for ids, _ in rows])
        weights = torch.tensor([row + [0.0] * (width - len(row)) for _, row in rows])
        # Every row starts with the same picture slots, so one row's positions serve all.
        position, _ = self.rope(
            ids[:1],
            ids[:1].eq(self.image_pad).int(),
            image_grid_thw=torch.tensor([[1, 6, 6]]),
            attention_mask=torch.ones_like(ids[:1]),
        )
        return {
            "ids": ids,
            "weights": weights * (weights.count_nonzero() / weights.sum()),
            "picture": torch.tensor([document.picture for document in documents]),
            "position_ids": position.expand(-1, len(rows), -1),
        }
