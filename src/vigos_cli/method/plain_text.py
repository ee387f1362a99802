"""Tokenise a message so that the data in it becomes ordinary text tokens only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


class PlainText:
    """Tokenises messages so that the data in them becomes ordinary text tokens only.

    A tokenizer finds an added token only in an uncut text, so it is enough to cut the text after the first
    character of each occurrence, overlapping ones included. Added tokens that are not special (`<think>` in
    some vocabularies) keep their id where the instruction itself contains them, because the model knows them
    in this form; text from the data never gets one. Added tokens of white space only are allowed.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        added = {token.content: (i, token.special) for i, token in tokenizer.added_tokens_decoder.items()}
        self._added = {name: value for name, value in added.items() if len(name.strip(" \t\r\n▁")) > 1}
        self._added_ids = {i for i, _ in self._added.values()}
        names = sorted(self._added, key=len, reverse=True)
        self._pattern = re.compile(f"(?=({'|'.join(map(re.escape, names))}))" if names else r"(?!)")

    def encode(self, text: str) -> list[int]:
        """Ids of our own text or the template's, in which added tokens keep their meaning."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def encode_message(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Ids of a filled instruction."""
        text = "".join(part for part, _ in parts)
        from_data = "".join("01"[data] * len(part) for part, data in parts)
        cuts, kept = [0], set()
        for match in self._pattern.finditer(text):
            (added_id, special), start = self._added[match[1]], match.start()
            if special or "1" in from_data[start : start + len(match[1])]:
                cuts.append(start + 1)
            else:
                kept.add(added_id)
        pieces = [text[a:b] for a, b in pairwise([*cuts, len(text)])]
        ids = [i for piece in pieces for i in self.encode(piece)]
        if (self._added_ids - kept).isdisjoint(ids):
            return ids
        return [i for char in text for i in self.encode(char)]  # normalisation produced an added token
