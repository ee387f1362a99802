"""Decoding gives the tokenizer's text, and for every token the position where its characters end.

The functions `check_...` take any tokenizer; tests/real/ calls them with the vocabulary of Qwen.
"""

from __future__ import annotations

import time
import unicodedata
from itertools import pairwise

import pytest
from byte_bpe import FUSING, NOT_SPECIAL, ORDINARY, byte_bpe, shipped
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from vigos_cli.method.decode import ALPHABET, Decoder
from vigos_cli.utils.errors import ConfigError

TOKENIZERS = {"ordinary": byte_bpe(), "fusing": byte_bpe(FUSING)}
if (shipped() / "tokenizer.json").exists():
    TOKENIZERS["shipped"] = PreTrainedTokenizerFast.from_pretrained(shipped())
DECODERS = {name: Decoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}
each_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def sentencepiece() -> PreTrainedTokenizerFast:
    """Like Llama's tokenizer: `▁` for spaces, one before the text, and bytes for unknown characters."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    singles = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=singles, show_progress=False)
    tokenizer.train_from_iterator(["<description> A red cube. </description>"] * 9, trainer)
    plain = Tokenizer.from_str(tokenizer.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="</s>", bos_token="<s>")


def rust(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def test_alphabet_is_that_of_byte_level_bpe():
    assert set(ALPHABET) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(ALPHABET.values()) == list(range(256))


def check_ids(decoder: Decoder, tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> None:
    """The text is the tokenizer's, and the ends are in order."""
    text, ends = decoder.decode(ids)
    assert text == rust(tokenizer, ids)
    assert len(ends) == len(ids)
    assert all(a <= b for a, b in pairwise((0, *ends)))
    assert not ids or ends[-1] == len(text)


@each_tokenizer
@given(data=st.data())
def test_any_ids_decode_like_the_tokenizer(name: str, data: st.DataObject):
    """The ids include broken UTF-8, special tokens and ids outside the vocabulary."""
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) + 20), max_size=40))
    check_ids(DECODERS[name], tokenizer, ids)


def check_round_trip(decoder: Decoder, tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Encoding and decoding give the text back, normalised where the tokenizer does so."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert decoder.decode(ids)[0] in (text, unicodedata.normalize("NFC", text))


@each_tokenizer
@given(text=st.text(max_size=60))
def test_text_survives_encoding_and_decoding(name: str, text: str):
    check_round_trip(DECODERS[name], TOKENIZERS[name], text)


def check_prefixes(decoder: Decoder, ids: list[int]) -> None:
    """A prefix of the tokens has a prefix of the text.

    Except for characters and broken bytes that later tokens complete or end.
    """
    text, ends = decoder.decode(ids)
    for n in range(1, len(ids)):
        head, _ = decoder.decode(ids[:n])
        assert text.startswith(head[: ends[n - 1]])
        assert set(head[ends[n - 1] :]) <= {"\ufffd"}


@each_tokenizer
@given(data=st.data())
def test_a_prefix_of_the_tokens_has_a_prefix_of_the_text(name: str, data: st.DataObject):
    last = len(TOKENIZERS[name]) - 1
    check_prefixes(DECODERS[name], data.draw(st.lists(st.integers(0, last), min_size=1, max_size=12)))


def test_a_character_belongs_to_the_token_that_completes_it():
    tokenizer = byte_bpe()

    def decode(tokens: str) -> tuple[str, tuple[int, ...]]:
        return Decoder(tokenizer).decode([tokenizer.get_vocab()[token] for token in tokens])

    assert decode("aâĤ¬b") == ("a€b", (1, 1, 1, 2, 3))
    assert decode("aâĤb") == ("a\ufffdb", (1, 1, 1, 3))  # only the b shows that the euro sign is incomplete
    assert decode("aâ") == ("a\ufffd", (1, 2))  # the text ends inside a character
    assert decode("") == ("", ())


def test_special_tokens_contribute_no_text():
    tokenizer = byte_bpe()
    ids = tokenizer(f"a<|im_end|>b<|image_pad|>{NOT_SPECIAL[0]}")["input_ids"]
    assert Decoder(tokenizer).decode([*ids, 10**6]) == ("ab<tool_call>", (1, 1, 2, 2, 13, 13))


@given(text=st.text(max_size=40), data=st.data())
def test_sentencepiece_ids_decode_like_the_tokenizer(text: str, data: st.DataObject):
    tokenizer = _SENTENCEPIECE
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert Decoder(tokenizer).decode(ids)[0] == rust(tokenizer, ids)


_SENTENCEPIECE = sentencepiece()


def test_an_unknown_kind_of_tokenizer_is_refused():
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(ConfigError, match="WordPiece"):
        Decoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def test_decoding_takes_linear_time():
    ids = [i % 500 for i in range(100_000)]
    start = time.process_time()
    Decoder(byte_bpe(ORDINARY)).decode(ids)
    assert time.process_time() - start < 2
