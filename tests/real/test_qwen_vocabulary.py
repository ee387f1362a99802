"""Tokenizer, decoder, parser and fused tokens with the published Qwen vocabulary; no network, no model."""

from __future__ import annotations

import random
import re
import time
import unicodedata
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fused_tokens as fused
import pytest
import qwen_tokenizer as qwen
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decode import check_ids, check_prefixes, check_round_trip
from test_segments import check, check_sampled, expected, turns
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.method.decode import Decoder
from vigos_cli.method.segments import DESCRIPTION_END, FORMATS, description_tokens, parse
from vigos_cli.training.forced_turns import invalid_turn, valid_turn
from vigos_cli.types import Kind, Prompt, Rollout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(qwen.path() is None, reason="no vocabulary: pip install --no-deps dashscope==2.0.2"),
]
each_family = pytest.mark.parametrize("family", qwen.FAMILIES)
NAMES = sorted({name for added in qwen.FAMILIES.values() for names in added for name in names})

# ---- texts as models write them

WORDS = (
    "A red cube",
    "图中有三个苹果",
    "，左边是蓝色的。",
    "한국어",
    "Église",
    "Ω",
    "العربية",
    "I'm",
    "and/or",
)
SIGNS = (".", "。", ", ", ": ", "**", "|", "…", "“a”", "- ", "$", "(", ")", "°", "%", "!", "</", "<", ">")
NUMBERS = ("3", "-3.14", "1,234,567", "2024-05-01", "57.9\\%", "½", "٣", "12°")
LATEX = ("\\frac{1}{2}", "$x^2+y_1$", "\\{1, 2\\}", "90^\\circ", "\\text{red}", "{x}", "\\\\", "1{,}000")
EMOJI = ("😀", "👩‍🔬", "🇩🇪", "❤️", "𝑥")
CODE = (
    "x = f(a[0])",
    "```python\nprint('a')\n```",
    "<div>",
    "a<b>c",
    "if (a < b && c) {}\n",
    "<|name",
    "};",
)
BLANKS = ("", " ", "  ", "\n", "\n\n", " \n", "\r\n", "\t", "\u3000", "\u00a0", "\n   ")
pieces = st.sampled_from((*WORDS, *SIGNS, *NUMBERS, *LATEX, *EMOJI, *CODE)) | st.sampled_from(BLANKS)
content = st.lists(pieces, max_size=5).map("".join)
letters = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=20)


@pytest.fixture(scope="module")
def decoders() -> dict[str, Decoder]:
    return {family: Decoder(qwen.tokenizer(family)) for family in qwen.FAMILIES}


# ---- the tokenizer


def greedy_ids(text: str) -> list[int]:
    """The ids of a text: cut it, and in each piece merge the pair of lowest rank until no pair is a token."""
    rank_of, ids = qwen.ranks(), []
    for piece in regex.findall(PRETOKENIZE_REGEX, unicodedata.normalize("NFC", text)):
        parts = [bytes([byte]) for byte in piece.encode()]
        while ranked := [(rank_of[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in rank_of]:
            _, at = min(ranked)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [rank_of[part] for part in parts]
    return ids


def ids_of(family: str, text: str) -> list[int]:
    return qwen.tokenizer(family)(text, add_special_tokens=False)["input_ids"]


@each_family
def test_each_added_token_has_its_published_id(family: str):
    tokenizer = qwen.tokenizer(family)
    special, plain = qwen.FAMILIES[family]
    added = {i: (token.content, token.special) for i, token in tokenizer.added_tokens_decoder.items()}
    assert added == {151_643 + i: (name, name in special) for i, name in enumerate((*special, *plain))}
    known = {"<|im_end|>": 151_645, "<|vision_start|>": 151_652, "<|image_pad|>": 151_655}
    known |= {"<think>": 151_667, "</think>": 151_668} if family == "qwen3vl" else {}
    for name, number in known.items():
        assert ids_of(family, f"a{name}b") == [*greedy_ids("a"), number, *greedy_ids("b")]
    assert len(tokenizer) == 151_643 + len(special) + len(plain)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (151_645, 151_643)


@given(text=content | letters)
def test_ids_are_those_of_a_greedy_merge(text: str):
    assert ids_of("qwen2vl", text) == greedy_ids(text)


def test_the_converter_of_transformers_and_tiktoken_give_the_same_ids(monkeypatch: pytest.MonkeyPatch):
    tiktoken = pytest.importorskip("tiktoken", reason="pip install tiktoken")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # it would keep a copy in the folder for temporary files
    converted = TikTokenConverter(str(qwen.path()), pattern=PRETOKENIZE_REGEX).converted()
    reference = tiktoken.Encoding(
        "qwen", pat_str=PRETOKENIZE_REGEX, mergeable_ranks=qwen.ranks(), special_tokens={}
    )
    texts = [part for turn in fused.TURNS for part in turn]
    texts += [example.replace("¦", "") for example in fused.EXAMPLES]
    for text in texts:
        assert ids_of("qwen2vl", text) == converted.encode(text).ids == reference.encode_ordinary(text)


@each_family
def test_a_saved_tokenizer_is_loaded_as_it_was(family: str, tmp_path: Path):
    """As `model.path=FOLDER` loads it."""
    qwen.tokenizer(family).save_pretrained(tmp_path)
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*fused.EXAMPLES, "".join(NAMES), "".join((*WORDS, *SIGNS, *LATEX, *EMOJI, *CODE))):
        assert loaded(text)["input_ids"] == ids_of(family, text)
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.bos_token) == (151_645, 151_643, None)


# ---- the decoder


def test_every_token_of_the_vocabulary_decodes_to_its_bytes(decoders: dict[str, Decoder]):
    tokens = sorted(qwen.ranks(), key=qwen.ranks().__getitem__)
    decoder = decoders["qwen2vl"]
    alone = [decoder.decode([i])[0] for i in range(len(tokens))]
    assert alone == [token.decode(errors="replace") for token in tokens]
    text, ends = decoder.decode(range(len(tokens)))
    assert text == b"".join(tokens).decode(errors="replace")
    assert ends[-1] == len(text) and all(a <= b for a, b in pairwise(ends))


@each_family
@given(data=st.data())
def test_any_ids_decode_like_the_tokenizer(decoders: dict[str, Decoder], family: str, data: st.DataObject):
    tokenizer = qwen.tokenizer(family)
    added = st.integers(
        qwen.SIZE, len(tokenizer) + 300
    )  # models have more rows than the tokenizer has tokens
    ids = data.draw(st.lists(st.integers(0, qwen.SIZE - 1) | st.integers(0, 255) | added, max_size=40))
    check_ids(decoders[family], tokenizer, ids)
    if ids:
        check_prefixes(decoders[family], ids[:12])


@each_family
@given(text=content | letters)
def test_text_survives_encoding_and_decoding(decoders: dict[str, Decoder], family: str, text: str):
    check_round_trip(decoders[family], qwen.tokenizer(family), text)


# ---- the parser


@each_family
@pytest.mark.parametrize("student", FORMATS)
@pytest.mark.parametrize("spans", ["paper", "code"])
@given(text=turns(content), seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_kinds_follow_the_rules_for_sampled_tokens(
    decoders: dict[str, Decoder], family: str, student: str, spans: str, text: str, seed: int
):
    check_sampled(decoders[family], qwen.tokenizer(family), text, seed, student, spans)


TURN = "<description>A cube.</description> <think>It is red.</think> so \\boxed{red} ok"


@pytest.mark.parametrize("edge", fused.EDGES)
@pytest.mark.parametrize("spans", ["paper", "code"])
def test_every_token_that_crosses_an_edge_is_parsed_by_the_rules(
    decoders: dict[str, Decoder], edge: str, spans: str
):
    """The token is put into a turn, where it replaces the text that it holds of the delimiter."""
    delimiter, end = fused.EDGES[edge]
    at = TURN.rindex(delimiter) + len(delimiter) * end
    tokens, crossed = fused.crossing(edge), 0
    for token in tokens:
        parts = fused.split_at(token, delimiter, end)
        assert parts
        before, after = (part.decode() for part in parts)
        head = TURN[: at - min(len(before), len(delimiter))] if end else TURN[:at]
        tail = TURN[at:] if end else TURN[at + min(len(after), len(delimiter)) :]
        ids = [*ids_of("qwen2vl", head), qwen.ranks()[token], *ids_of("qwen2vl", tail)]
        text, ends = decoders["qwen2vl"].decode(ids)
        assert text == head + before + after + tail
        got = check(text, ends, 0, "structured", spans)
        if got.valid and any(len(head) < cut < len(head + before + after) for cut, _ in fused.edges_in(text)):
            crossed += 1
            kind = got.kinds[len(ids_of("qwen2vl", head))]
            # METHOD: a token that crosses an edge of a delimiter is a delimiter
            assert spans == "code" or kind is Kind.DELIMITERS
    assert crossed > len(tokens) / 2  # a brace in the token may keep the box open, or close it elsewhere


# ---- the tables of docs/method.md


def test_the_tables_of_the_page_are_current():
    page = fused.PAGE.read_text(encoding="utf-8")
    assert fused.renewed(page) == page, "run: python tests/real/fused_tokens.py"


SHOWN = {  # fused tokens that the page must show, with the kind by student.spans=paper and =code
    (">A", "after `<description>`"): ("delimiters", "description"),
    (">⏎", "after `<description>`"): ("delimiters", "description"),
    (".</", "before `</description>`"): ("delimiters", "delimiters"),
    ("。</", "before `</description>`"): ("delimiters", "delimiters"),
    ("><", "after `</description>`, before `<think>`"): ("delimiters", "delimiters"),
    (">The", "after `<think>`"): ("delimiters", "delimiters"),
    ("␣<", "before `<think>`"): ("delimiters", "delimiters"),
    (".</", "before `</think>`"): ("delimiters", "reasoning"),
    (">\\", "after `</think>`, before `\\boxed{`"): ("delimiters", "reasoning"),
    ("{x", "after `\\boxed{`"): ("delimiters", "reasoning"),
    ("}}", "before `}`"): ("delimiters", "reasoning"),
    ("}.", "after `}`"): ("delimiters", "reasoning"),
    ("}$", "after `}`"): ("delimiters", "reasoning"),
    ("}⏎", "after `}`"): ("delimiters", "reasoning"),
}


def test_the_examples_have_the_kinds_of_the_definition():
    """Once by hand, and once by the rules as tests/method/test_segments.py has them."""
    rows = re.findall(r"^\|.*\| `(\S+)` \| (.*?) \| (\w+) \| (\w+) \|$", fused.examples_table(), re.MULTILINE)
    found = {(token, edge): (paper, code) for token, edge, paper, code in rows}
    assert {key: found.get(key) for key in SHOWN} == SHOWN
    for example in fused.EXAMPLES:
        turn = example.replace("¦", "")
        tokens = fused.tokens_of(turn)
        ends = tuple(accumulate(len(token.text) for token in tokens))
        assert [token.paper for token in tokens] == expected(turn, ends, 0, "structured", "paper")
        assert [token.code for token in tokens] == expected(turn, ends, 0, "structured", "code")


def test_the_losses_of_a_turn_are_counted_by_hand():
    r"""`.</`, `>The`, `{\` and `}}` hold content, as do `>b` and `{T`; the blank of ` </` is not visible."""
    assert fused.loss_of(
        "<description>A cube.</description><think>The cube is 1 </think>\\boxed{\\frac{1}{2}}"
    ) == fused.Loss(tokens=3 + 6 + 7, lost=5, visible=4, unanswered=0)
    assert fused.loss_of("<description>A</description><think>b</think>\\boxed{T}.") == fused.Loss(3, 2, 2, 1)


def test_option_letters_and_digits_keep_a_token_as_the_whole_answer():
    lost = set(fused.lost_answers())
    assert lost.isdisjoint("ABCDEFGHIJ0123456789") and {"T", "x"} <= lost


# ---- turns that the program itself makes or cuts


def rollout_of(decoder: Decoder, family: str, turn: str, prefill: str = "<description>") -> Rollout:
    given_ids, ids = tuple(ids_of(family, prefill)), ids_of(family, turn)
    text, ends = decoder.decode([*given_ids, *ids, qwen.tokenizer(family).eos_token_id])
    prompt = Prompt(STUDENT, given_ids, given_ids)
    return Rollout("0", 0, prompt, (*ids, qwen.tokenizer(family).eos_token_id), text, ends, True)


@each_family
@pytest.mark.parametrize("first", ["A red cube", " A red cube", "\nA red cube", "图中", "😀"])
def test_no_content_is_lost_at_the_edge_of_the_pre_fill(
    decoders: dict[str, Decoder], family: str, first: str
):
    """The pre-fill is tokenised alone, so that the first token of the content is not fused with `>`."""
    for form, turn in (
        ("structured", f"{first}</description><think>b</think>\\boxed{{1}}"),
        ("think", f"{first}</think>\\boxed{{1}}"),
    ):
        opening = FORMATS[form][0]
        rollout = rollout_of(decoders[family], family, turn, opening)
        got = parse(rollout.text, rollout.ends, len(rollout.prompt.prefill), True, student=form)
        count = len(ids_of(family, first))
        assert set(got.kinds[:count]) == {Kind.DESCRIPTION if form == "structured" else Kind.REASONING}


@each_family
@given(turn=turns(content))
def test_a_description_ends_at_the_token_that_ends_its_tag(
    decoders: dict[str, Decoder], family: str, turn: str
):
    rollout = rollout_of(decoders[family], family, turn, "")
    head = description_tokens(rollout)
    assert head == rollout.ids[: len(head)]
    if DESCRIPTION_END in turn:
        written = [decoders[family].decode(head[:n])[0] for n in (len(head), len(head) - 1)]
        assert [DESCRIPTION_END in text for text in written] == [True, False]
    else:
        assert head == rollout.ids[:-1]


@each_family
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("opened", [True, False])
def test_forced_turns_have_their_length_and_form(
    decoders: dict[str, Decoder], family: str, form: str, opened: bool
):
    student: Any = SimpleNamespace(tokenizer=qwen.tokenizer(family), stop_ids=frozenset({151_643, 151_645}))
    prefill = ids_of(family, FORMATS[form][0]) if opened else []
    for make, length in ((valid_turn, 40), (valid_turn, 4_096), (invalid_turn, 4_096)):
        ids = make(student, length, structured=form == "structured", opened=opened)
        text, ends = decoders[family].decode([*prefill, *ids])
        for spans in ("paper", "code"):
            got = parse(text, ends, len(prefill), make is valid_turn, student=form, spans=spans)
            assert (len(ids), got.valid) == (length, make is valid_turn), got.reason
            if got.valid:
                parts = {Kind.REASONING, Kind.ANSWER} | (
                    {Kind.DESCRIPTION} if form == "structured" else set()
                )
                assert parts <= set(got.kinds) and got.kinds[-1] is Kind.END
                assert ids[-1] == 151_645


# ---- time


def test_decoding_and_parsing_a_long_turn_is_fast():
    rng, words = random.Random(0), [part for turn in fused.TURNS for part in turn[:2]]
    body = ids_of("qwen2vl", " ".join(rng.choice(words) for _ in range(400)))[:4_000]
    tail = ids_of("qwen2vl", "</description>\n<think>so</think>\\boxed{1}")
    start = time.process_time()
    decoder = Decoder(qwen.tokenizer("qwen2vl"))
    made = time.process_time()
    text, ends = decoder.decode([*ids_of("qwen2vl", "<description>"), *body, *tail])
    decoded = time.process_time()
    assert parse(text, ends, 3, True).valid
    parsed = time.process_time()
    assert made - start < 0.1  # 0.001 s was measured: nothing is done for each token of the vocabulary
    assert decoded - made < 0.2
    assert parsed - decoded < 0.1
