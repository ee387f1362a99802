"""Decode sampled tokens one by one, so that each character of the text has its token.

    >>> Decoder(tokenizer).decode(prefill + sampled)
    ('<description> A cat', (13, 15, 19))  # the text, and its length after each token

The text is never tokenised again. The rules are:
    - A character belongs to the token that holds its last byte; tokens with only its first bytes have no
      width.
    - Bytes that are not UTF-8 become U+FFFD. It belongs to the token at which they can no longer be valid,
      or to the last token if the text ends before that. What follows keeps its position.
    - Special tokens (end of turn, image slots) and ids outside the vocabulary contribute no text.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vigos_cli.utils.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """The 256 bytes by the characters with which byte-level BPE writes them (printable ones: as they are)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


ALPHABET = _byte_alphabet()


def byte_level(token: str) -> bytes:
    """Bytes of a byte-level BPE token; those of its text if it is an added token outside that alphabet."""
    try:
        return bytes(ALPHABET[char] for char in token)
    except KeyError:
        return token.encode()


def sentencepiece(token: str) -> bytes:
    """Bytes of a SentencePiece token, with `<0xE2>` for single bytes and `▁` for a space."""
    if match := BYTE_TOKEN.fullmatch(token):
        return bytes.fromhex(match[1])
    return token.replace("▁", " ").encode()


class Decoder:
    """Decodes token ids to text and offsets, for byte-level and SentencePiece tokenizers of transformers."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        decoder = tokenizer.backend_tokenizer.decoder
        state: dict[str, Any] = json.loads(decoder.__getstate__()) if decoder else {"type": "nothing"}
        kinds = {part["type"] for part in state.get("decoders", [state])}
        self._bytes_of: Callable[[str], bytes]
        if "ByteLevel" in kinds:
            self._bytes_of = byte_level
        elif kinds & {"ByteFallback", "Metaspace"}:
            self._bytes_of = sentencepiece
        else:
            raise ConfigError(f"tokenizer {tokenizer.name_or_path!r}: cannot decode {sorted(kinds)} by token")
        self._strip = bool(kinds & {"Strip", "Metaspace"})  # one leading space is not part of the text
        self._tokenizer = tokenizer
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._table = dict.fromkeys(special | set(tokenizer.all_special_ids), b"")

    def _lookup(self, token_id: int) -> bytes:
        if token_id not in self._table:
            token = self._tokenizer.convert_ids_to_tokens(token_id)
            self._table[token_id] = self._bytes_of(token) if isinstance(token, str) else b""
        return self._table[token_id]

    def decode(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """Return the text of `ids`, and its length after each of them."""
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        chunks: list[str] = []
        ends: list[int] = []
        length, strip = 0, self._strip
        for i, token_id in enumerate(ids):
            chunk = utf8.decode(self._lookup(token_id), final=i == len(ids) - 1)
            if strip and chunk:
                chunk, strip = chunk.removeprefix(" "), False
            length += len(chunk)
            chunks.append(chunk)
            ends.append(length)
        return "".join(chunks), tuple(ends)
