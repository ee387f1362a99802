r"""How the tokens of the Qwen vocabulary cross the edges of delimiters, as the tables of docs/method.md.

    python tests/real/fused_tokens.py      # writes the tables into docs/method.md again

A token crosses an edge if it has text on both sides of it: `>A` at the end of `<description>`. `crossing`
lists these tokens for each edge. `EXAMPLES` shows turns with such tokens, and `TURNS` measures how much of an
ordinary turn they take from the segments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from string import ascii_letters, digits

from qwen_tokenizer import ranks, tokenizer

from vigos_cli.method.decode import Decoder
from vigos_cli.method.segments import BOX, DESCRIPTION, DESCRIPTION_END, THINK, THINK_END, boxes, parse
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.types import Kind

PAGE = Path(__file__).parents[2] / "docs" / "method.md"
FAMILY = "qwen2vl"
CONTENT = (Kind.DESCRIPTION, Kind.REASONING, Kind.ANSWER)

# ---- all tokens of the vocabulary that cross an edge

EDGES = {  # name: (delimiter, whether the edge is its end)
    f"{'after' if end else 'before'} `{delimiter}`": (delimiter, end)
    for delimiter in (DESCRIPTION, DESCRIPTION_END, THINK, THINK_END, BOX, "}")
    for end in (False, True)
}


def split_at(token: bytes, delimiter: str, end: bool) -> tuple[bytes, bytes] | None:
    """The parts of a token before and after an edge of the delimiter; None if it does not cross the edge."""
    whole = delimiter.encode()
    for i in range(1, len(token)):
        before, after = token[:i], token[i:]
        if end and (whole.endswith(before) or before.endswith(whole)):
            return before, after
        if not end and (whole.startswith(after) or after.startswith(whole)):
            return before, after
    return None


def crossing(edge: str) -> list[bytes]:
    """The tokens that cross an edge, in the order of their ids (frequent tokens have low ids)."""
    rank_of = ranks()
    return sorted((token for token in rank_of if split_at(token, *EDGES[edge])), key=rank_of.__getitem__)


def shown(text: str) -> str:
    """A piece of text in a table: blanks and line breaks are visible."""
    return "`" + text.replace(" ", "␣").replace("\n", "⏎").replace("\r", "␍").replace("\t", "⇥") + "`"


def edges_table() -> str:
    """How many tokens cross each edge, and the first of them. Edges with the same tokens have one row."""
    names: dict[tuple[bytes, ...], list[str]] = {}
    for edge in EDGES:
        names.setdefault(tuple(crossing(edge)), []).append(edge)
    rows = [
        (", ".join(edges), len(tokens), " ".join(shown(token.decode()) for token in tokens[:8]))
        for tokens, edges in names.items()
    ]
    return markdown_table(("edge", "tokens", "the most frequent ones"), rows)


# ---- examples


@dataclass(frozen=True)
class Token:
    """A token of a turn: its text, the edges that it crosses, and its kind by `student.spans`."""

    text: str
    edges: tuple[str, ...]
    paper: Kind
    code: Kind


def edges_in(turn: str) -> list[tuple[int, str]]:
    """The position and the name of every edge of a valid turn."""
    places = [(turn.index(tag), tag) for tag in (DESCRIPTION, DESCRIPTION_END, THINK, THINK_END)]
    start, end = boxes(turn, turn.index(THINK_END))[-1]
    places += [(start - len(BOX), BOX), (end, "}")]
    return [
        (at + after * len(name), f"{'after' if after else 'before'} `{name}`")
        for at, name in places
        for after in (0, 1)
    ]


def tokens_of(turn: str, prefill: str = "") -> list[Token]:
    """The tokens of a turn; its pre-fill is tokenised alone and left out of the result."""
    encode, given = tokenizer(FAMILY), []
    if prefill:
        given = encode(prefill, add_special_tokens=False)["input_ids"]
    ids = encode(turn.removeprefix(prefill), add_special_tokens=False)["input_ids"]
    text, ends = decoder().decode([*given, *ids])
    assert text == turn
    spans = list(pairwise((0, *ends)))[len(given) :]
    paper, code = (parse(turn, ends, len(given), True, spans=spans).kinds for spans in ("paper", "code"))
    edges = edges_in(turn)
    return [
        Token(text[a:b], tuple(name for at, name in edges if a < at < b), *kinds)
        for (a, b), *kinds in zip(spans, paper, code, strict=True)
    ]


@cache
def decoder() -> Decoder:
    return Decoder(tokenizer(FAMILY))


HEAD, TAIL = "<description>A cube.</description>\n<think>It is", "</think>\n\\boxed{2}"
EXAMPLES = (  # a turn, in which the part between the two signs `¦` is shown
    "¦<description>A cube¦.</description>\n<think>It is red.</think>\n\\boxed{red}",
    "¦<description>\nA cube¦.</description>\n<think>It is red.</think>\n\\boxed{red}",
    "<description>A ¦cube.</description>\n<think>It¦ is red.</think>\n\\boxed{red}",
    "<description>¦桌子。</description>\n\n<think>它是¦红色的</think>\\boxed{红色}",
    "<description>A ¦cube.</description><think>The¦ cube is red.</think>\n\\boxed{red}",
    "<description>A cube\n¦</description> <think>\nIt is¦ red.</think>\n\\boxed{red}",
    f"{HEAD}¦ red.</think>\\boxed{{4}}¦",
    f"{HEAD} ¦$1$</think> \\boxed{{4}}.¦",
    f"{HEAD}¦ 2)\n</think>\n\n\\boxed{{4}}\n¦",
    f"{HEAD} 2.</think>¦$\\boxed{{\\frac{{1}}{{2}}}}$¦",
    f"{HEAD} 2.</think>\n¦**\\boxed{{\\text{{red}}}}**¦",
    f"{HEAD} 2.</think>\n¦\\boxed{{-3}}$¦",
    f"{HEAD} 2.</think>\n¦\\boxed{{x=2}}.\n¦",
    f"{HEAD} 2.</think>\n¦\\boxed{{(A)}}¦",
    f"{HEAD} 2.</think>\n¦\\boxed{{T}},¦",
    f"{HEAD} 2.</think>\n¦\\boxed{{A}}¦",
)


def examples_table() -> str:
    """The tokens of the examples that cross an edge, with their kinds."""
    rows = []
    for example in EXAMPLES:
        before, part, _ = example.split("¦")
        pieces, at = [], 0
        for token in tokens_of(example.replace("¦", "")):
            if len(before) <= at < len(before) + len(part):
                pieces.append(token)
            at += len(token.text)
        split = " ".join(shown(token.text) for token in pieces)
        found = [token for token in pieces if token.edges]
        for token in found:
            edges = ", ".join(token.edges)
            rows.append((split, shown(token.text), edges, token.paper, token.code))
            split = ""  # only in the first row of the example
        if not found:
            rows.append((split, "none", "", "", ""))
    header = ("tokens", "crosses", "edge", "`student.spans: paper`", "`student.spans: code`")
    return markdown_table(header, rows)


# ---- how much of an ordinary turn

LAYOUTS = {  # how a model may set the delimiters of its turn
    "line breaks inside and outside": "<description>\n{d}\n</description>\n<think>\n{r}\n</think>\n"
    "\\boxed{{{a}}}",
    "one line for each part": "<description>{d}</description>\n<think>{r}</think>\n\\boxed{{{a}}}",
    "blanks": "<description> {d} </description> <think> {r} </think> \\boxed{{{a}}}",
    "nothing": "<description>{d}</description><think>{r}</think>\\boxed{{{a}}}",
    "one line, and a sentence around the box": "<description>{d}</description>\n<think>{r}</think>\n"
    "The answer is $\\boxed{{{a}}}$.",
}
TURNS = (  # description, reasoning, answer
    (
        "A kitchen table with three cups: two are white, and one is blue with a broken handle.",
        "The question asks for the cups that are not white. Only the blue one is left, so the answer is 1.",
        "1",
    ),
    (
        "A right triangle ABC. The angle at C is marked as a right angle, AC = 3 and BC = 4.",
        "By the theorem of Pythagoras, $AB^2 = 3^2 + 4^2 = 25$, so $AB = 5$ and $\\sin A = \\frac{4}{5}$.",
        "\\frac{4}{5}",
    ),
    (
        'A bar chart with the title "Sales by year". 2019: 120, 2020: 95, 2021: 143, 2022: 150.',
        "From 2020 to 2022 the sales rise by 150 - 95 = 55. In per cent this is 55 / 95 = 57.9%.",
        "57.9\\%",
    ),
    (
        "图中是一个十字路口，左边有两辆红色的汽车，右边有一名骑自行车的人。",
        "问题问的是左边汽车的颜色。左边的两辆汽车都是红色的，所以答案是红色。",
        "红色",
    ),
    (
        "A number line from -5 to 5. A point P lies two marks to the left of -1.",
        "Two marks to the left of -1 is -1 - 2 = -3.",
        "-3",
    ),
    (
        'A street sign that reads "Rue de l\'Église" in white letters on a blue ground.',
        "The name on the sign has the French word for church, so the church must be near (option B).",
        "B",
    ),
    (
        "The graph of a parabola that opens upwards and touches the x-axis at x = 2.",
        "The vertex is at (2, 0), so the equation is y = (x - 2)^2, which has the only root x = 2.",
        "x=2",
    ),
    (
        "A circle with centre O. The arc AB is marked with 80°, and C lies on the larger arc.",
        "The inscribed angle is half of the central angle: $\\angle ACB = \\frac{80^\\circ}{2} = 40^\\circ$.",
        "40^\\circ",
    ),
    (
        'A phone with a chat: "See you at 7 😀" was sent at 18:42, and the answer is "OK 👍".',
        "The first message names the time of the meeting: 7. It is evening, so the time is 19:00.",
        "\\text{19:00}",
    ),
    (
        "A diagram with two statements and a truth table. P is true in rows 1 and 2, Q in rows 1 and 3.",
        "P or Q is false only if both are false, which is row 4. So in row 3 the value is T!",
        "T",
    ),
)


@dataclass(frozen=True)
class Loss:
    """Tokens that hold a part of the content, and those among them that have the kind of a delimiter.

    `visible` counts those whose lost text is more than white space, `unanswered` turns whose answer has no
    token of its own.
    """

    tokens: int
    lost: int
    visible: int
    unanswered: int


def content_spans(turn: str) -> list[tuple[int, int]]:
    """Where d, r and a stand in a valid turn."""
    cuts = [turn.index(tag) for tag in (DESCRIPTION, DESCRIPTION_END, THINK, THINK_END)]
    d, _, r, _ = (at + len(tag) for at, tag in zip(cuts, (DESCRIPTION, "", THINK, ""), strict=True))
    return [(d, cuts[1]), (r, cuts[3]), boxes(turn, cuts[3])[-1]]


def loss_of(turn: str) -> Loss:
    """What the paper's rule takes from the segments of one turn with the pre-fill `<description>`."""
    spans, at, held, lost, answered = content_spans(turn), len(DESCRIPTION), 0, [], False
    for token in tokens_of(turn, DESCRIPTION):
        inside = "".join(turn[max(a, at) : min(b, at + len(token.text))] for a, b in spans)
        at += len(token.text)
        held += bool(inside)
        answered |= token.paper is Kind.ANSWER
        if inside and token.paper not in CONTENT:
            lost.append(inside)
    return Loss(held, len(lost), sum(bool(text.strip()) for text in lost), int(not answered))


def turns_table() -> str:
    """The means over `TURNS` for each layout."""
    rows = []
    for name, layout in LAYOUTS.items():
        losses = [loss_of(layout.format(d=d, r=r, a=a)) for d, r, a in TURNS]
        n = len(losses)
        tokens, lost, visible = (
            sum(getattr(loss, key) for loss in losses) for key in ("tokens", "lost", "visible")
        )
        unanswered = sum(loss.unanswered for loss in losses)
        share = f"{100 * lost / tokens:.1f} %"
        rows.append(
            (
                name,
                f"{tokens / n:.1f}",
                f"{lost / n:.1f}",
                share,
                f"{visible / n:.1f}",
                f"{unanswered} of {n}",
            )
        )
    header = ("layout", "tokens with content", "of these delimiters", "share")
    return markdown_table((*header, "with more than white space", "turns without an answer token"), rows)


# ---- the page


def lost_answers() -> list[str]:
    """The letters and digits that have no token of their own as the whole content of a box."""
    turns = {sign: f"{HEAD}.</think>\\boxed{{{sign}}}" for sign in ascii_letters + digits}
    return [sign for sign, turn in turns.items() if loss_of(turn).unanswered]


def letters_line() -> str:
    """The result of `lost_answers` as a sentence."""
    return f"Of all letters and digits these are lost: {', '.join(map(shown, lost_answers()))}."


TABLES = {"edges": edges_table, "examples": examples_table, "turns": turns_table, "letters": letters_line}


def renewed(page: str) -> str:
    """The text of the page with the current tables between its marks."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- fused tokens: {name} -->)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
        found = pattern.search(page)
        assert found, name
        page = page.replace(found[0], f"{found[1]}\n\n{make()}\n\n{found[2]}")
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
