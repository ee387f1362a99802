"""The parser finds the kind of every token, and decides whether the format of a turn is valid.

`labels` has the rules a second time. tests/real/ calls `check_sampled` with the vocabulary of Qwen.
"""

from __future__ import annotations

import random
import re
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from test_decode import DECODERS, TOKENIZERS, each_tokenizer

from vigos_cli.method.decode import Decoder
from vigos_cli.method.segments import FORMATS, after_think, boxes, last_box, parse, runs, unbox
from vigos_cli.types import Kind, Segments

D, R, A, X, E = Kind.DESCRIPTION, Kind.REASONING, Kind.ANSWER, Kind.DELIMITERS, Kind.END
TURN = "<description>A red cube.</description>\n<think>It is red.</think> \\boxed{red}"

# ---- generated texts: nearly valid turns, and junk

TAGS = ("<description>", "</description>", "<think>", "</think>")
junk = st.sampled_from(
    (*TAGS, "\\boxed{", "\\boxed{2}", "{", "}", "\\{", "\\}", " ", "\n", "a", ".", "é", "七", "<", ">", "</")
)
words = st.lists(st.sampled_from(("red", "a cube", ".", "\n", " ", "七", "2 < 3", "{x}", "")), max_size=3)
CONTENT = words.map("".join)


@st.composite
def turns(draw: st.DrawFn, content: st.SearchStrategy[str] = CONTENT) -> str:
    """A valid turn with up to two faults: a piece that is missing, repeated, moved, or replaced by junk.

    `content` is what stands between the delimiters.
    """
    pieces = [TAGS[0], draw(content), TAGS[1], draw(content), TAGS[2], draw(content), TAGS[3], draw(content)]
    pieces += ["\\boxed{", draw(content), "}", draw(content)]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(pieces) - 1))
        match draw(st.sampled_from(("drop", "repeat", "move", "junk"))):
            case "drop":
                pieces[at] = ""
            case "repeat":
                pieces.insert(draw(st.integers(0, len(pieces))), pieces[at])
            case "move":
                pieces.insert(draw(st.integers(0, len(pieces) - 1)), pieces.pop(at))
            case "junk":
                pieces[at] = draw(junk)
    return "".join(pieces)


texts = turns() | st.lists(junk, max_size=14).map("".join)


@st.composite
def cut(draw: st.DrawFn, text: str) -> tuple[int, ...]:
    """Positions where tokens end: anywhere, also several at one place; the last at the end of the text."""
    ends = draw(st.lists(st.integers(0, len(text)), max_size=30))
    return (*sorted(ends), len(text))


# ---- the rules, written a second time in a simple way


def balanced(text: str, start: int) -> int | None:
    """The position where the brace before `start` closes, found by counting."""
    depth, i = 1, start
    while i < len(text):
        if text[i] == "\\" and text[i + 1 : i + 2] in ("{", "}"):
            i += 1
        elif text[i] in "{}":
            depth += 1 if text[i] == "{" else -1
        if depth == 0:
            return i
        i += 1
    return None


def boxes_in(text: str, start: int) -> list[tuple[int, int]]:
    opened = [m.end() for m in re.finditer(r"\\boxed\{", text) if m.start() >= start]
    return [(at, close) for at in opened if (close := balanced(text, at)) is not None]


def first_box_in(text: str, start: int) -> tuple[int, int] | None:
    """The first box for `spans=code`: the shortest content that has as many `{` as `}`, each counted."""
    if (box := text.find("\\boxed{", start)) < 0:
        return None
    at = box + len("\\boxed{")
    closing = (i for i in range(at, len(text)) if text[i] == "}")
    return next(((at, i) for i in closing if text[at:i].count("{") == text[at:i].count("}")), None)


def has_own_token(text: str, ends: tuple[int, ...], tag: int) -> bool:
    """Whether a token ends before the tag, and is not a part of the `<description>` at the start."""
    given = 13 if text.startswith("<description>") else 0
    whole = [(a, b) for a, b in pairwise((0, *ends)) if b <= tag and a < tag]
    return any(b > given or a == b == given for a, b in whole)


def labels(text: str, ends: tuple[int, ...], student: str, spans: str) -> list[Kind] | None:
    """The kind of every character, and of the position after the last; None if the format is invalid."""
    described = (
        r"(?P<pre>.*?)<description>(?P<d>.*?)</description>"
        if student == "structured"
        else "(?P<pre>)(?P<d>)"
    )
    if spans == "code":
        described = r"(?P<pre>)(?P<d>.*?)</description>" if student == "structured" else "(?P<pre>)(?P<d>)"
        match = re.match(f"{described}.*?<think>(?P<r>.*?)</think>", text, re.DOTALL)
        found = match and first_box_in(text, match.end())
        if not match or not found:
            return None
        if student == "structured" and not has_own_token(text, ends, match.end("d")):
            return None
        (a, b), close = found, found[1] + 1
        kinds = [X] * len(text)
        kinds[match.start("d") : match.end("d")] = [D] * len(match["d"])
        kinds[match.start("r") : close] = [R] * (close - match.start("r"))
    else:
        tags = FORMATS[student]
        if tuple(re.findall("|".join(tags), text)) != tags:
            return None
        match = re.search(f"{described}.*?<think>(?P<r>.*?)</think>", text, re.DOTALL)
        found = match and boxes_in(text, match.end())
        if not match or not found:
            return None
        (a, b), close = found[-1], found[-1][1] + 1
        content = (text[a:b], match["r"], *([match["d"]] if student == "structured" else []))
        if not all(part.strip() for part in content):
            return None
        kinds = [X] * len(text)
        kinds[match.start("d") : match.end("d")] = [D] * len(match["d"])
        kinds[match.start("r") : match.end("r")] = [R] * len(match["r"])
    kinds[a:b] = [A] * (b - a)
    kinds[close:] = [E] * (len(text) - close)
    return [*kinds, E]


def expected(text: str, ends: tuple[int, ...], n_prefill: int, student: str, spans: str) -> list[Kind]:
    kinds = labels(text, ends, student, spans)
    tokens = list(pairwise((0, *ends)))[n_prefill:]
    if kinds is None:
        return [Kind.INVALID] * len(tokens)
    held = [set(kinds[begin:end]) or {kinds[begin]} for begin, end in tokens]
    # Two kinds in one token without a delimiter between them: with `spans=code`, around the edges of the box.
    return [k.pop() if len(k) == 1 else X if X in k or D in k else R for k in held]


# ---- properties


def check(text: str, ends: tuple[int, ...], n_prefill: int, student: str, spans: str) -> Segments:
    got = parse(text, ends, n_prefill, True, student=student, spans=spans)
    assert list(got.kinds) == expected(text, ends, n_prefill, student, spans)
    assert got.valid == (Kind.INVALID not in got.kinds) == (got.reason == "")
    tokens = list(pairwise((0, *ends)))[n_prefill:]
    for kind, part in ((D, got.description), (R, got.reasoning), (A, got.answer)):
        written = "".join(text[a:b] for (a, b), k in zip(tokens, got.kinds, strict=True) if k is kind)
        if spans == "paper":
            assert written in part
    if got.valid and spans == "paper":  # the parts are in order, and none occurs twice
        runs = [k for k in got.kinds if k is not X]
        assert runs == sorted(runs, key=(D, R, A, E).index)
    return got


@pytest.mark.slow
@pytest.mark.parametrize("spans", ["paper", "code"])
@pytest.mark.parametrize("student", ["structured", "think"])
@given(data=st.data(), text=texts)
@settings(max_examples=300)
def test_kinds_follow_the_rules_for_any_text_and_tokens(
    student: str, spans: str, data: st.DataObject, text: str
):
    ends = data.draw(cut(text))
    check(text, ends, data.draw(st.integers(0, len(ends) - 1)), student, spans)


@given(text=turns(), data=st.data())
def test_fusing_two_tokens_does_not_change_the_others(text: str, data: st.DataObject):
    ends = data.draw(cut(text))
    assume(len(ends) > 1)
    at = data.draw(st.integers(0, len(ends) - 2))
    apart = parse(text, ends, 0, True).kinds
    fused = parse(text, (*ends[:at], *ends[at + 1 :]), 0, True).kinds
    assert (*apart[:at], *apart[at + 2 :]) == (*fused[:at], *fused[at + 1 :])


def shuffled_ids(tokenizer: Any, text: str, rng: random.Random) -> list[int]:
    """Tokens that no tokenizer would choose: the text is cut at random, and some parts are single bytes."""
    ids: list[int] = []
    while text:
        piece, text = text[: (n := rng.randint(1, 12))], text[n:]
        for token in tokenizer.tokenize(piece):
            ids += tokenizer.convert_tokens_to_ids(list(token) if rng.random() < 0.2 else [token])
    return ids


def check_sampled(
    decoder: Decoder, tokenizer: Any, text: str, seed: int, student: str = "structured", spans: str = "paper"
) -> None:
    """The kinds of the tokenizer's own tokens of a turn, and of tokens that it would not choose."""
    rng, stop = random.Random(seed), tokenizer.convert_tokens_to_ids("<|im_end|>")
    for ids in (tokenizer(text, add_special_tokens=False)["input_ids"], shuffled_ids(tokenizer, text, rng)):
        decoded, ends = decoder.decode([*ids, stop])
        assert decoded == text
        got = check(text, ends, rng.randint(0, len(ids)), student, spans)
        assert got.kinds[-1] is (E if got.valid else Kind.INVALID)


@each_tokenizer
@given(text=turns(), seed=st.integers(0, 10**6))
@example(text=TURN, seed=0)
def test_kinds_follow_the_rules_for_sampled_tokens(name: str, text: str, seed: int):
    check_sampled(DECODERS[name], TOKENIZERS[name], text, seed)


def test_the_fusing_tokenizer_crosses_tag_borders():
    """Without such tokens the test above would check nothing."""
    tokens = TOKENIZERS["fusing"].tokenize(TURN)
    assert any(re.fullmatch(r".*[^<]</.*|.*>[^>]+", token) for token in tokens)


# ---- single rules

INVALID = {
    "": "empty",
    "red": "no_description",
    "<description>a": "no_description_end",
    "<description>a</description>": "no_think",
    "<description>a</description><think>b": "no_think_end",
    "<description>a</description><think>b</think>": "no_box",
    "<description>a</description><think>\\boxed{b}</think>c": "no_box",
    "<description>a</description><think>b</think>\\boxed{c": "unbalanced_box",
    "<description> \n</description><think>b</think>\\boxed{c}": "empty_description",
    "<description>a</description><think></think>\\boxed{c}": "empty_reasoning",
    "<description>a</description><think>b</think>\\boxed{ }": "empty_answer",
    "<description><description>a</description><think>b</think>\\boxed{c}": "repeated_description",
    "<description>a</description><think>b</think>\\boxed{c}</think>": "repeated_think_end",
    "<think>b</think><description>a</description>\\boxed{c}": "out_of_order",
    "<description>a<think></description>b</think>\\boxed{c}": "out_of_order",
}


@pytest.mark.parametrize(("text", "reason"), INVALID.items())
def test_an_invalid_turn_has_its_reason(text: str, reason: str):
    ends = tuple(range(1, len(text) + 1))
    got = parse(text, ends, 0, True)
    assert (got.valid, got.reason, set(got.kinds) <= {Kind.INVALID}) == (False, reason, True)
    cut = parse(text, ends, 0, False)
    assert cut.reason == ("not_finished" if reason.startswith(("no_", "unbalanced")) else reason)


def kinds_of(text: str, **options: str) -> str:
    """The kinds as text, with one letter for each character."""
    got = parse(text, tuple(range(1, len(text) + 1)), 0, True, **options)
    return "".join({D: "d", R: "r", A: "a", X: ".", E: "e"}.get(kind, "!") for kind in got.kinds)


def test_paper_spans():
    #                junk  tag  d   tag      glue  tag  r  tag   glue           box
    text = "<description>dd</description>\n<think>rr</think>so \\boxed{1} or \\boxed{\\frac{1}{2}}. Yes"
    assert kinds_of(text) == (
        "." * 13 + "dd" + "." * 22 + "rr" + "." * (8 + 3 + 9 + 4 + 7) + "a" * 11 + "." + "e" * 5
    )


def test_code_spans():
    text = "dd</description> <think></think> so \\boxed{} or \\boxed{2}"
    assert kinds_of(text, spans="code") == "dd" + "." * 22 + "r" * (8 + 4 + 8) + "e" * 13
    text = " </description><think>r</think>\\boxed{12}</think>"
    assert kinds_of(text, spans="code") == "d" + "." * 21 + "r" * (1 + 8 + 7) + "aa" + "r" + "e" * 8
    assert set(kinds_of("</description><think>r</think>\\boxed{1}", spans="code")) == {"!"}


def test_plain_spans():
    text = "<think>r</think>\\boxed{1}"
    assert kinds_of(text, student="think") == "." * 7 + "r" + "." * 15 + "a" + "."


def test_an_unfinished_turn_with_a_box_is_valid():
    got = parse(TURN, tuple(range(1, len(TURN) + 1)), 13, finished=False)
    assert (got.valid, got.description, got.reasoning, got.answer) == (
        True,
        "A red cube.",
        "It is red.",
        "red",
    )
    assert len(got.kinds) == len(TURN) - 13


def test_a_rollout_without_tokens_is_invalid():
    got = parse("<description>", (13,), 1, True)
    assert (got.kinds, got.valid, got.reason) == ((), False, "empty")


@given(text=st.lists(junk, max_size=12).map("".join), start=st.integers(0, 20))
def test_boxes(text: str, start: int):
    assert boxes(text, start) == boxes_in(text, start)
    assert last_box(text) == next((text[a:b] for a, b in reversed(boxes_in(text, 0))), None)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("red", None),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{1} then \\boxed{2", "1"),
        ("\\boxed{\\boxed{3}}", "3"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("} \\boxed{}", ""),
    ],
)
def test_last_box(text: str, box: str | None):
    assert last_box(text) == box


def test_unbox():
    assert (
        unbox("so \\boxed{\\frac{1}{2}}, {\\boxed{\\boxed{3}}} \\boxed{4") == "so \\frac{1}{2}, {3} \\boxed{4"
    )


def test_after_think():
    assert after_think("<think></description> <think>x") == 29
    assert after_think("<think>x") == 7
    assert after_think("<think>x</description>") is None


@pytest.mark.parametrize("spans", ["paper", "code"])
@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "\\boxed{" * 15_000,
        "<description>" * 10_000,
        "<description>a</description><think>b</think>" + "\\boxed{" * 10_000 + "}" * 10_000,
        "<description>a</description><think>" + "{" * 50_000 + "</think>" + "\\boxed{1}" * 5_000,
    ],
)
def test_parsing_takes_bounded_time(text: str, spans: str):
    ends = tuple(range(1, len(text) + 1))
    start = time.process_time()
    parse(text, ends, 0, True, spans=spans)
    assert time.process_time() - start < 1


@given(
    turns() | st.lists(junk, max_size=12).map("".join),
    st.sampled_from(("paper", "code")),
    st.sampled_from(list(FORMATS)),
)
def test_runs_cover_the_whole_text_and_agree_with_the_tokens(text: str, spans: str, student: str):
    cut = runs(text, student=student, spans=spans)
    assert "".join(piece for piece, _ in cut) == text and all(piece for piece, _ in cut)
    found = parse(text, range(1, len(text) + 1), 0, True, student=student, spans=spans)
    assert [kind for piece, kind in cut for _ in piece] == list(found.kinds)
