"""Byte-level BPE tokenizers trained in the test, and a small Qwen2-VL processor around one; no network."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import settings
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

settings.register_profile("vigos", deadline=None)  # single tests check the time where it matters
settings.load_profile("vigos")

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
NOT_SPECIAL = ("<tool_call>", "</tool_call>")

CHATML = """{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}<|im_end|>
{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}\
<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}\
{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_TURNS = [
    f"<description>{d}</description>{gap}<think>{r}</think>{gap}\\boxed{{{a}}}{tail}"
    for gap in ("\n", "", " ", "\n\n", ". ")
    for d, r, a, tail in (
        ("A red cube.", "The cube is red.", "red", ""),
        ("\nA blue ball on a table. 七.\n", "\nIt is blue.\n", "B", "."),
        ("the café é 日本.", "so 1+1 = 2.", "2}{", "\n"),
    )
]
CORPUS = [*_TURNS, "You are a helpful assistant.", "What colour is the cube? Answer in a box."] * 20
ORDINARY = r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
FUSING = r"""\s*\S{1,14}\s*"""  # words, tags and blanks together as one token: `.</`, `>\n`, `description><`


@cache
def byte_bpe(pattern: str = ORDINARY, size: int = 500, nfc: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer that splits text into the matches of `pattern` before BPE."""
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    fast.add_tokens(list(NOT_SPECIAL))
    return fast


@cache
def processor(fusing: bool = False) -> Qwen2VLProcessor:
    """The processor of a tiny Qwen2-VL with one of these tokenizers."""
    return processor_of(byte_bpe(FUSING if fusing else ORDINARY))


def processor_of(tokenizer: Any) -> Qwen2VLProcessor:
    """A Qwen2-VL processor: patches of 14 pixels, merged two by two, and small pictures."""
    sizes: dict[str, Any] = {"patch_size": 14, "merge_size": 2, "min_pixels": 28 * 28, "max_pixels": 56 * 56}
    return Qwen2VLProcessor(
        Qwen2VLImageProcessor(**sizes), tokenizer, Qwen2VLVideoProcessor(**sizes), chat_template=CHATML
    )


def shipped() -> Path:
    """The folder for the tokenizer of `model=tiny` in the package; it may not exist yet."""
    return Path(__file__).parent.parent / "src" / "vigos_cli" / "tiny"
