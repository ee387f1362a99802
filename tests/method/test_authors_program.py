r"""The kind of every token, written out by hand, by the rules of the authors' program and by the paper's.

A row is a turn, token by token: `code` are the kinds with `spans=code`, `paper` those with `spans=paper`.

    d description   r reasoning   a answer   . delimiters   e end       or the reason why the turn is invalid

`␣` is a blank, `⏎` a new line, `∅` a token without text of its own, `<end>` the end of the turn. The tokens
`<`, `description` and `>` are given before the row, except in `NOT_GIVEN`.
"""

from __future__ import annotations

import base64
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from byte_bpe import ORDINARY

from vigos_cli.method.segments import first_box, parse, runs
from vigos_cli.types import Kind

LETTERS = dict(
    zip("dra.e", (Kind.DESCRIPTION, Kind.REASONING, Kind.ANSWER, Kind.DELIMITERS, Kind.END), strict=True)
)
GIVEN = ("<", "description", ">")
SIGNS = {"␣": " ", "⏎": "\n", "∅": "", "<end>": ""}

# Rows with tokens as the tokenizer of Qwen splits the text.
QWEN = {
    "nothing is fused": r"""
    token  A  ␣cat  </  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   d  d     .   .            .   .    .    .  r   r    r   r      r   r  r      r  a    r  e
    paper  d  d     .   .            .   .    .    .  r   r    .   .      .   .  .      .  a    .  e
    """,
    # 1. A description without a whole token of its own
    "d is the blank of a fused token": r"""
    token  ␣</  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   invalid: empty_description
    paper  invalid: empty_description
    """,
    "d is the full stop of a fused token": r"""
    token  .</  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   invalid: empty_description
    paper  .    .            .   .    .    .  r   r    .   .      .   .  .      .  a    .  e
    """,
    "d is a blank with a token of its own": r"""
    token  ␣  ␣</  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   d  .    .            .   .    .    .  r   r    r   r      r   r  r      r  a    r  e
    paper  invalid: empty_description
    """,
    "d is a new line": r"""
    token  ⏎  </  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   d  .   .            .   .    .    .  r   r    r   r      r   r  r      r  a    r  e
    paper  invalid: empty_description
    """,
    "d is empty": r"""
    token  </  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   invalid: empty_description
    paper  invalid: empty_description
    """,
    "the end of d is in a fused token": r"""
    token  A  ␣cat  .</  description  >⏎  <th  ink  >  It  ␣is  .</  think  >⏎  \  boxed  {  cat  }  <end>
    code   d  d     .    .            .   .    .    .  r   r    r    r      r   r  r      r  a    r  e
    paper  d  d     .    .            .   .    .    .  r   r    .    .      .   .  .      .  a    .  e
    """,
    "the student repeats the tag that was given": r"""
    token  <  description  >A  </  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }
    code   d  d            d   .   .            .   .    .    .  r   r    r   r      r   r  r      r  a    r
    paper  invalid: repeated_description
    """,
    # 2. A token across the closing brace
    "a full stop after the box": r"""
    token  A  </  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }.  ␣Done  <end>
    code   d  .   .            .   .    .    .  r   r    r   r      r   r  r      r  a    r   e      e
    paper  d  .   .            .   .    .    .  r   r    .   .      .   .  .      .  a    .   e      e
    """,
    "a new line after the box": r"""
    token  A  </  description  >⏎  <th  ink  >  It  ␣is  </  think  >⏎  \  boxed  {  cat  }⏎  <end>
    code   d  .   .            .   .    .    .  r   r    r   r      r   r  r      r  a    r   e
    paper  d  .   .            .   .    .    .  r   r    .   .      .   .  .      .  a    .   e
    """,
    "a box in dollars, and blanks": r"""
    token  ␣A  ␣</  description  >  ␣<  think  >  ␣It  ␣is  ␣</  think  >  ␣$\  boxed  {  A  }$  <end>
    code   d   .    .            .  .   .      .  r    r    r    r      r  r    r      r  a  r   e
    paper  d   .    .            .  .   .      .  r    r    .    .      .  .    .      .  a  .   e
    """,
    "content and closing brace in one token": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {\  frac  {  1  }{  2  }}  <end>
    code   d  .   .            .   .    .    .  r   r   r      r   r  r      r   a     a  a  a   a  r   e
    paper  d  .   .            .   .    .    .  r   .   .      .   .  .      .   a     a  a  a   a  .   e
    """,
    "both braces in one token, and r is empty": r"""
    token  A  </  description  >⏎  <th  ink  ></  think  >⏎  \  boxed  {}  <end>
    code   d  .   .            .   .    .    .    r      r   r  r      r   e
    paper  invalid: empty_reasoning
    """,
    "a tag after the box": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {  4  }</  think  >  <end>
    code   d  .   .            .   .    .    .  r   r   r      r   r  r      r  a  r    e      e  e
    paper  invalid: repeated_think_end
    """,
    # 3. The box
    "a box in a box that stays open": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {\  boxed  {  a  }  <end>
    code   invalid: unbalanced_box
    paper  d  .   .            .   .    .    .  r   .   .      .   .  .      .   .      .  a  .  e
    """,
    "a box in a box": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {\  boxed  {  a  }}  <end>
    code   d  .   .            .   .    .    .  r   r   r      r   r  r      r   a      a  a  r   e
    paper  d  .   .            .   .    .    .  r   .   .      .   .  .      .   .      .  a  .   e
    """,
    "a backslash before the closing brace": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {  a  \  }  <end>
    code   d  .   .            .   .    .    .  r   r   r      r   r  r      r  a  a  r  e
    paper  invalid: unbalanced_box
    """,
    "two boxes": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {x  }⏎  ␣or  ␣\  boxed  {  y  }
    code   d  .   .            .   .    .    .  r   r   r      r   r  r      r   r   e    e   e      e  e  e
    paper  d  .   .            .   .    .    .  r   .   .      .   .  .      .   .   .    .   .      .  a  .
    """,
    "the second of two boxes stays open": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {  A  }  ␣and  ␣\  boxed  {  y
    code   d  .   .            .   .    .    .  r   r   r      r   r  r      r  a  r  e     e   e      e  e
    paper  d  .   .            .   .    .    .  r   .   .      .   .  .      .  a  .  e     e   e      e  e
    """,
    "text before the box": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎⏎  The  ␣answer  ␣\  boxed  {  B  }  <end>
    code   d  .   .            .   .    .    .  r   r   r      r    r    r        r   r      r  a  r  e
    paper  d  .   .            .   .    .    .  r   .   .      .    .    .        .   .      .  a  .  e
    """,
}
NOT_GIVEN = {  # the student samples the first tag itself
    "d begins in the token that ends the tag": r"""
    token  <  description  >A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   d  d            d   .   .            .   .    .    .  r   r   r      r   r  r      r  a    r  e
    paper  .  .            .   .   .            .   .    .    .  r   .   .      .   .  .      .  a    .  e
    """,
    "both tags share a token, and d is empty": r"""
    token  <  description  ></  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   invalid: empty_description
    paper  invalid: empty_description
    """,
    "the first tag is missing": r"""
    token  A  </  description  >⏎  <th  ink  >  It  </  think  >⏎  \  boxed  {  cat  }  <end>
    code   d  .   .            .   .    .    .  r   r   r      r   r  r      r  a    r  e
    paper  invalid: no_description
    """,
}
OTHER = {  # splits that a student may sample although no tokenizer chooses them
    "a character of three tokens": r"""
    token  ∅  ∅  七  </description>  <think>  It  </think>  \boxed{  ∅  八  }  <end>
    code   d  d  d   .               .        r   r         r        a  a   r  e
    paper  d  d  d   .               .        r   .         .        a  a   .  e
    """,
    "a part of a character is a token of d": r"""
    token  ∅  七</  description>  <think>  It  </think>  \boxed{  A  }
    code   d  .    .             .        r   r         r        a  r
    paper  d  .    .             .        r   .         .        a  .
    """,
    "a special token is no text": r"""
    token  ∅  </description>  <think>  It  </think>  \boxed{  A  }
    code   invalid: empty_description
    paper  invalid: empty_description
    """,
    "the whole box and more in one token": r"""
    token  A  </description>  <think>  It  </think>  \boxed{A}.⏎  ␣Done
    code   d  .               .        r   r         r            e
    paper  d  .               .        r   .         .            e
    """,
    "tokens across the braces of the box": r"""
    token  A  </description>  <think>  It  </think>  \box  ed{A  }}  }
    code   d  .               .        r   r         r     r     r   e
    paper  d  .               .        r   .         .     .     .   e
    """,
    "a box in r": r"""
    token  A  </description>  <think>  \boxed{x}  </think>  \boxed{  y  }  <end>
    code   d  .               .        r          r         r        a  r  e
    paper  d  .               .        r          .         .        a  .  e
    """,
    "a token across a tag and the closing brace": r"""
    token  A  </description>  <think  ></think>\boxed{A}.  <end>
    code   d  .               .       .                    e
    paper  invalid: empty_reasoning
    """,
}


class Row(NamedTuple):
    tokens: tuple[str, ...]
    code: tuple[Kind, ...] | str
    paper: tuple[Kind, ...] | str
    given: tuple[str, ...]

    def kinds(self, spans: str) -> tuple[tuple[Kind, ...], str]:
        """The kinds that the row states, and the reason if they are all invalid."""
        stated = self.code if spans == "code" else self.paper
        return ((Kind.INVALID,) * len(self.tokens), stated) if isinstance(stated, str) else (stated, "")


def read(table: str, given: tuple[str, ...] = GIVEN) -> Row:
    lines = {words[0]: words[1:] for words in map(str.split, table.strip().splitlines())}
    tokens = lines["token"]
    for sign, text in SIGNS.items():
        tokens = [token.replace(sign, text) for token in tokens]
    code, paper = (
        line[1] if line[0] == "invalid:" else tuple(LETTERS[letter] for letter in line)
        for line in (lines["code"], lines["paper"])
    )
    return Row(tuple(tokens), code, paper, given)


ROWS = {name: read(table) for name, table in (QWEN | OTHER).items()}
ROWS |= {name: read(table, ()) for name, table in NOT_GIVEN.items()}


def parsed(row: Row, spans: str) -> Any:
    tokens = (*row.given, *row.tokens)
    ends = tuple(accumulate(map(len, tokens)))
    return parse("".join(tokens), ends, len(row.given), True, spans=spans)


@pytest.mark.parametrize("spans", ["code", "paper"])
@pytest.mark.parametrize("name", ROWS)
def test_every_token_has_the_kind_that_the_row_states(name: str, spans: str):
    got = parsed(ROWS[name], spans)
    assert (got.kinds, got.reason) == ROWS[name].kinds(spans)
    assert got.valid == (got.reason == "")


# ---- what differs: how many tokens each teacher supervises

TEACHERS = {  # of routing=vigos and of routing=vigos_code
    Kind.DESCRIPTION: "perception",
    Kind.REASONING: "reasoning",
    Kind.ANSWER: "reasoning",
    Kind.INVALID: "reference",
}
COUNTS = {  # (perception, reasoning, reference) by the authors' program, and by the paper
    "nothing is fused": ((2, 10, 0), (2, 3, 0)),
    "d is the blank of a fused token": ((0, 0, 17), (0, 0, 17)),
    "d is the full stop of a fused token": ((0, 0, 17), (0, 3, 0)),
    "d is a blank with a token of its own": ((1, 10, 0), (0, 0, 18)),
    "the student repeats the tag that was given": ((3, 10, 0), (0, 0, 19)),
    "a full stop after the box": ((1, 10, 0), (1, 3, 0)),
    "a box in dollars, and blanks": ((1, 10, 0), (1, 3, 0)),
    "content and closing brace in one token": ((1, 13, 0), (1, 6, 0)),
    "both braces in one token, and r is empty": ((1, 5, 0), (0, 0, 13)),
    "a box in a box that stays open": ((0, 0, 19), (1, 2, 0)),
    "a backslash before the closing brace": ((1, 10, 0), (0, 0, 18)),
    "two boxes": ((1, 8, 0), (1, 2, 0)),
    "text before the box": ((1, 11, 0), (1, 2, 0)),
    "d begins in the token that ends the tag": ((3, 9, 0), (0, 2, 0)),
    "the first tag is missing": ((1, 9, 0), (0, 0, 17)),
}


def mask(row: Row, spans: str, teacher: str) -> list[bool]:
    return [TEACHERS.get(kind) == teacher for kind in parsed(row, spans).kinds]


@pytest.mark.parametrize("name", COUNTS)
def test_how_many_tokens_each_teacher_supervises(name: str):
    code, paper = (
        tuple(sum(mask(ROWS[name], spans, teacher)) for teacher in ("perception", "reasoning", "reference"))
        for spans in ("code", "paper")
    )
    assert (code, paper) == COUNTS[name]


BOTH_VALID = [name for name, row in ROWS.items() if str not in (type(row.code), type(row.paper))]


@pytest.mark.parametrize("name", BOTH_VALID)
def test_where_both_are_valid_the_authors_masks_contain_the_papers(name: str):
    """Except the answer in the last of two boxes: after the first one no token has a teacher there."""
    for teacher in ("perception", "reasoning"):
        masks = zip(mask(ROWS[name], "code", teacher), mask(ROWS[name], "paper", teacher), strict=True)
        only_paper = [ROWS[name].tokens[i] for i, (code, paper) in enumerate(masks) if paper and not code]
        assert only_paper == (["y"] if (name, teacher) == ("two boxes", "reasoning") else [])


# ---- the tokens are those of Qwen


@cache
def qwen() -> Any:
    """The tokenizer of Qwen, from the vocabulary that the package dashscope contains."""
    tiktoken = pytest.importorskip(
        "tiktoken", reason="tiktoken, which reads the vocabulary, is not installed"
    )
    package = find_spec("dashscope")
    if package is None or package.origin is None:
        pytest.skip("dashscope, which contains the vocabulary, is not installed")
    lines = (Path(package.origin).parent / "resources" / "qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, filter(None, lines))}
    contractions = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
    return tiktoken.Encoding(
        "qwen", pat_str=contractions + ORDINARY, mergeable_ranks=ranks, special_tokens={}
    )


@pytest.mark.parametrize("name", [*QWEN, *NOT_GIVEN])
def test_the_rows_have_the_tokens_of_qwen(name: str):
    def split(text: str) -> tuple[str, ...]:
        return tuple(qwen().decode_single_token_bytes(i).decode() for i in qwen().encode_ordinary(text))

    row = ROWS[name]
    assert split("".join(row.given)) == row.given
    assert split("".join(row.tokens)) == tuple(filter(None, row.tokens))


# ---- the box, and the display


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("red", None),
        ("\\boxed{", None),
        ("\\boxed{}", ""),
        ("} \\boxed{a} \\boxed{b}", "a"),
        ("\\boxed{\\boxed{a}", None),
        ("\\boxed{\\boxed{a}}", "\\boxed{a}"),
        ("\\boxed{a\\}", "a\\"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{\\{a}", None),
        ("\\boxed{a \\boxed{b}", None),  # a later box that is closed does not help
    ],
)
def test_the_first_box(text: str, content: str | None):
    found = first_box(text)
    assert (text[slice(*found)] if found else None) == content
    assert first_box(f"\\boxed{{x}}{text}", len("\\boxed{x}")) == (
        (found[0] + 9, found[1] + 9) if found else None
    )


def test_a_turn_that_its_tokens_make_invalid_is_shown_with_its_parts():
    text = "".join((*GIVEN, *ROWS["d is the full stop of a fused token"].tokens))
    shown = dict(runs(text, student="structured", spans="code"))
    assert shown["<description>."] is Kind.DESCRIPTION and Kind.INVALID not in shown.values()
