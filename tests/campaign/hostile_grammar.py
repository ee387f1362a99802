r"""Hostile answers: a grammar for each kind of text, filled with random parts.

    for one in texts(seed):              # 70 of each kind
        one.kind, one.text, one.not_42

The reference of every text is 42, which is also the text of option B of (17, 42, 8, 99). `not_42` says that
the text states another answer for certain: 42 stands only where it does not count, such as in the reasoning,
in a comment, behind the end of the turn, or as a part of another number. A verdict "right" is wrong then.
Texts about which people could disagree (`42!`, `4200%`) have `not_42` False, and no verdict is expected.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign.hostile_parts import (
    ACT,
    BRACKETS,
    BROKEN,
    CODE,
    ENDS,
    ESCAPES,
    FORMULAS,
    MARKDOWN,
    MARKUP,
    RICH,
    SPECIAL,
    UNSEEN,
)

EACH = 70  # texts of a kind


@dataclass(frozen=True, slots=True)
class Hostile:
    """A hostile answer. `not_42`: it states another answer than 42, so no grader may call it right."""

    kind: str
    text: str
    not_42: bool


Maker = Callable[[random.Random], tuple[str, bool]]


def some(rng: random.Random, parts: Sequence[str], most: int = 4) -> str:
    """One to `most` of these parts, with words between some of them."""
    chosen = rng.choices(parts, k=rng.randint(1, most))
    return "".join(part + rng.choice(("", "", " ", " words ", "\n")) for part in chosen)


def stated(rng: random.Random, hostile: str) -> tuple[str, bool]:
    """A response that states 17, with the hostile text and a 42 that does not count; or the text alone."""
    seventeen = rng.choice(("17", "17", "\\text{17}", "17.0"))
    forms = (
        f"<description> {hostile} 42 </description> <think> 42? {hostile} </think> \\boxed{{{seventeen}}}",
        f"<think> \\boxed{{42}} {hostile} </think> \\boxed{{{seventeen}}}",
        f"{hostile} Is it 42? It is 42 here. Final answer: \\boxed{{{seventeen}}}",
        f"Of 42 things, {hostile}.\nThe answer is {seventeen}.",
        f"\\boxed{{42}} was a guess. {hostile}\n\\boxed{{{seventeen}}}",
    )
    if rng.random() < 0.6:
        return rng.choice(forms), True
    return rng.choice(
        (hostile, f"\\boxed{{{hostile}}}", f"The answer is {hostile}", f"42{hostile}", f"{hostile}42")
    ), False


def special_tokens(rng: random.Random) -> tuple[str, bool]:
    """Special tokens of the models, also behind the answer, with another answer after them."""
    if rng.random() < 0.4:
        hostile = f"{rng.choice(ENDS)}\n{some(rng, SPECIAL)}"
        return f"<think> x </think> \\boxed{{17}}{hostile}The answer is 42. \\boxed{{42}}", True
    hostile = some(rng, SPECIAL)
    text, not_42 = stated(rng, hostile)
    return text, not_42 and not any(end in hostile for end in ENDS)  # a 42 in front of the end is the answer


def format_tags(rng: random.Random) -> tuple[str, bool]:
    """Tags of the format: nested, repeated, unclosed, in other case, inside the box, or very often."""
    tags = ["<description>", "</description>", "<think>", "</think>"]
    if rng.random() < 0.5:
        inner = some(
            rng,
            [*tags, *map(str.upper, tags), "<think/>", "< think >", "</think", "<answer>", "</answer>"],
            8,
        )
        return rng.choice(
            (inner, inner * 200, f"{inner}\\boxed{{42", f"\\boxed{{{inner}}}", f"\\boxed{{\\boxed{{{inner}}}")
        ), False
    loops = rng.choice((1, 3, 500))
    inside = "".join(f"{tags[0]} 42 {tags[1]} {tags[2]} \\boxed{{42}} {tags[3]}" for _ in range(loops))
    ending = rng.choice(
        (
            "\\boxed{17}",
            "\\boxed{ \\boxed{17} }",
            "\\boxed{<b>17</b>}",
            "\\fbox{42} \\boxed{17}",
            "\\boxed {17}",
        )
    )
    return f"{inside} {ending}", True


def html(rng: random.Random) -> tuple[str, bool]:
    """HTML, styles and scripts in many forms; a script that ran would change the title of the page."""
    act = rng.choice((ACT, f"'{ACT}'", ACT.replace("document", "top.document")))
    text = some(rng, MARKUP, 3).format(act=act, url="URL")
    return (f"\\boxed{{17<!-- 42 -->}} {text}", True) if rng.random() < 0.1 else stated(rng, text)


def terminal_escapes(rng: random.Random) -> tuple[str, bool]:
    """Escape sequences of terminals: colours, links, the clipboard, the title, the cursor."""
    return stated(rng, some(rng, ESCAPES))


def rich_markup(rng: random.Random) -> tuple[str, bool]:
    """The markup of the library that prints the tables."""
    return stated(rng, some(rng, RICH))


def markdown(rng: random.Random) -> tuple[str, bool]:
    """Markdown: pipes, backticks, links, pictures, headings."""
    return stated(rng, some(rng, MARKDOWN))


def formulas(rng: random.Random) -> tuple[str, bool]:
    """Formulas of spreadsheets."""
    text = rng.choice(FORMULAS)
    return (text, False) if rng.random() < 0.5 else stated(rng, text)


def unseen_marks(rng: random.Random) -> tuple[str, bool]:
    """Bidirectional marks, characters without width, thousands of combining marks."""
    if rng.random() < 0.2:
        return rng.choice(
            ("\\boxed{\u202e24}", "\u202e24\u202c", "\\boxed{\u206724\u2069}", "The answer is \u202e24")
        ), True
    return stated(rng, some(rng, UNSEEN))


def broken_characters(rng: random.Random) -> tuple[str, bool]:
    """Lone surrogates, NUL, characters that Unicode does not assign."""
    # A high half before a low one is one character in JSON, so it is one here too.
    joined = some(rng, BROKEN).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return stated(rng, joined)


def long_texts(rng: random.Random) -> tuple[str, bool]:
    """Texts of 100,000 characters, most of them of a form that could make a pattern slow."""
    unit = rng.choice((
        "a", " ", "\n", "42 ", "1", "1,", "The answer is ", "answer answer ", "{\"a\":", "{", "\\boxed{",
        "not ", "is ", ". ", "(A) ", "**", "$",
        "\\text{", "\\frac{1}{", "<think>", "a\u0301", "😀", "\u202e", "so ", "=", "-", "%", "&", "\\\\",
        "\\begin{pmatrix}", "Question: ", "Q: ", "\t",
        "it is ", "or ", "A, ", "\\", "'", "\"", "1 2 ", "<", "e", "1e5 ", ".", "#", "[", "0.", "\\left",
        "the answer ", "I think ", "²", "½",
    ))  # fmt: skip
    body = (unit * (100_000 // len(unit) + 1))[:100_000]
    if rng.random() < 0.4:
        return (
            f"<think> {body} 42 </think> \\boxed{{17}}",
            "</think>" not in body and "{" not in unit and "\\" not in unit,
        )
    return rng.choice(
        (body, f"\\boxed{{{body}}}", f"The answer is {body}", f"{body} The answer is 42.", f"x{body}x")
    ), False


def deep_brackets(rng: random.Random) -> tuple[str, bool]:
    """Brackets inside one another, up to 10,000 deep."""
    opened, closed = rng.choice(BRACKETS)
    depth = rng.choice((20, 24, 39, 41, 100, 300, 600, 990, 1_100, 5_000, 10_000))
    text = opened * depth + rng.choice(("1", "17", "x", "")) + closed * rng.choice((depth, depth - 1, 0))
    return rng.choice(
        (text, f"\\boxed{{{text}}}", f"The answer is {text}", f"<answer>{text}</answer>")
    ), False


def latex_bombs(rng: random.Random) -> tuple[str, bool]:
    """Formulas that are short to write and costly to compute; none of them is 42."""
    depth = rng.choice((5, 12, 20, 24, 60))
    n = rng.choice((9, 42, 99, 1_000, 10**9))
    text = rng.choice((
        "\\frac{1}{" * depth + "42" + "}" * depth + "+1", "\\sqrt{2+" * depth + "42" + "}" * depth,
        "9^{9^{9^9}}", "10^{10^{10}}", "42^{9^{9^9}}", "(10^9)!",
        f"{n}!", "((42!)!)!", f"2^{{{n}}}", f"(x+1)^{{{n}}}", f"(x+y+z)^{{{n}}}",
        f"\\sum_{{i=1}}^{{{n}}} i^2", "\\int_0^\\infty e^{-x^2} dx",
        f"\\lim_{{x\\to 0}} \\frac{{\\sin x^{{{n}}}}}{{x}}", f"\\prod_{{k=1}}^{{{n}}} k",
        "\\sin(\\cos(\\tan(\\sin(\\cos(42)))))", f"x^{{{n}}}-1", "\\binom{1000000}{500000}",
        f"\\frac{{x^{{{n}}}-1}}{{x-1}}", "1/(1-1)", "\\sqrt[1000000]{2}", "0^{-1}", "\\log_{1}(42)",
        "e^{e^{e^{e^{42}}}}", "(1+10^{-30})^{10^{30}}",
        "+".join(f"x_{{{i}}}^{{{i}}}" for i in range(25)),
        "(" + "*".join(f"(x+{i})" for i in range(30)) + ")", "42^{42^{42}}", "\\frac{42}{0}",
        "\\left|x\\right|^{1/7}",
        "\\int\\int\\int x^{y^{z}} dx dy dz", "\\sin(x)^{50}\\cos(x)^{50}", "(\\sin x+\\cos x)^{40}",
        "\\sqrt{x+\\sqrt{x+\\sqrt{x+\\sqrt{x}}}}", "x^{x^{x^{x}}}=3",
    ))  # fmt: skip
    return rng.choice((f"\\boxed{{{text}}}", f"The answer is ${text}$.", text)), True


def numbers(rng: random.Random) -> tuple[str, bool]:
    """Numbers: 10,000 digits, exponents, zeros, separators, units, digits of other scripts; none is 42."""
    digits = "".join(rng.choices("0123456789", k=rng.choice((40, 4_301, 10_000))))
    text = rng.choice((
        f"1{digits}", f"42{digits}", f"0.{digits}", f"1{digits}/3", f"1/1{digits}", "1e999999999", "42e10",
        "42e-10", "1e-999999999", "NaN", "nan", "inf", "-inf",
        "Infinity", "42/0", "0/0", "1/0.0", "42,000", "42 000", "42'000", "42_000", "4.2e2", "0x2A0",
        "42 km and 17 m", "-42", "−42", "42i", "42 + i", "४२०", "٤٢٠",
        "⁴²", "42²", "½42", "42.0000001", "4200%", "42:1:1", "42nd of 100 to 43", "42 or 17", "42, 17",
        "42 ± 1", "4242", "142", "42x", "x42", "42!", "42°42'", "1-42",
        "42-1", "≈17", "<42", "> 42", "≠ 42", "not 42", "42.5", "42^2", "42**9", "1,42", "42,1,1", "42e",
        "42e999", ".42", "42..1", "42%", "--42.5", "42 dozen",
    ))  # fmt: skip
    open_to_debate = text in (
        "42%",
        "4200%",
        "42!",
        "42.0000001",
        "42 dozen",
        "42e",
        "42nd of 100 to 43",
        "42-1",
        "42'000",
        "42_000",
        "x42",
        "42 + i",
        "42..1",
    )
    sentence = rng.choice(("\\boxed{{{}}}", "The answer is {}", "{}", "<answer>{}</answer>")).format(text)
    return sentence, not open_to_debate


def many_parts(rng: random.Random) -> tuple[str, bool]:
    """Sets with thousands of members, matrices, systems of equations, sums, intervals; none is 42."""
    n = rng.choice((2, 30, 63, 65, 3_000))
    members = [str(i) for i in range(17, 17 + n)] + ["42"]
    text = rng.choice((
        "\\{" + ",".join(members) + "\\}", "(" + ", ".join(members) + ")", "[" + ";".join(members) + "]",
        " or ".join(members), " \\cup ".join(f"({m},{m}1)" for m in members),
        "\\begin{pmatrix}" + "&".join(members) + "\\\\" + "&".join(members) + "\\end{pmatrix}",
        "\\begin{cases}x=42\\\\y=17\\end{cases}", "x=42, y=17", "x=y=z=41",
        "(" * 20 + ",".join(members) + ")" * 20, "x \\le 42", "42 < x < 43", "\\{x | x < 42\\}",
        "[42, \\infty)", "\\pm 42", "42 \\pm 42", "\\{\\{" + "\\},\\{".join(members) + "\\}\\}",
        "+".join(members), "1,2,3,...,42", "\\emptyset", "{42, 42, 41}",
        "\\begin{array}{ccc}" + "\\\\".join(members) + "\\end{array}", "3*[[1,2],[3,42]]",
    ))  # fmt: skip
    return rng.choice((f"\\boxed{{{text}}}", f"The answer is {text}.", f"${text}$")), True


def code(rng: random.Random) -> tuple[str, bool]:
    """Programs that would create a file if anything evaluated them; MARK stands for its path."""
    text = rng.choice(CODE).format(mark="MARK")
    return rng.choice(
        (f"\\boxed{{{text}}}", f"The answer is {text}", text, f"['{text}']", f"[{text}]", f"{text} + 41")
    ), True


def words(rng: random.Random) -> tuple[str, bool]:
    """Words that a library could take for constants, functions or options; none of them is 42."""
    word = rng.choice((
        "e", "pi", "oo", "I", "E", "zoo", "nan", "S", "N", "O", "Q", "beta", "gamma", "zeta", "lambda",
        "None", "True", "null", "undefined", "__class__", "self", "A", "C", "D", "AC",
        "yes", "no", "both", "all of the above", "none of these", "i", "j", "exp", "sin", "log", "forty-one",
        "forty two hundred", "a", "an", "the", "answer", "is", "is not 42",
        "unknown", "I cannot tell, perhaps 42", "it is not 42 but 17", "42 is wrong", "neither 42 nor 17",
        "I refuse", "(", ")", "\\", "$", "$$", "?", "…", "42? No, 17",
    ))  # fmt: skip
    if rng.random() < 0.3:
        return f"{word} " * rng.choice((2, 50, 5_000)), False
    return rng.choice(
        (f"\\boxed{{{word}}}", f"The answer is {word}.", word, f"The answer is {word}, thank you!")
    ), True


KINDS: dict[str, Maker] = {
    "special tokens of the models": special_tokens,
    "tags of the format": format_tags,
    "HTML and scripts": html,
    "escape sequences of terminals": terminal_escapes,
    "markup of the terminal tables": rich_markup,
    "Markdown": markdown,
    "formulas of spreadsheets": formulas,
    "direction marks and combining marks": unseen_marks,
    "surrogates, NUL and unassigned characters": broken_characters,
    "texts of 100,000 characters": long_texts,
    "deep brackets": deep_brackets,
    "costly formulas": latex_bombs,
    "large and special numbers": numbers,
    "sets, matrices and systems": many_parts,
    "programs": code,
    "words and constants": words,
}


def texts(
    seed: int,
    kind: str | None = None,
    mark: Path = Path("/nonexistent/mark"),
    url: str = "http://127.0.0.1:9",
) -> Iterator[Hostile]:
    """The hostile answers of a seed, of all kinds or of one; `mark`: what evaluated code would create."""
    for name in [kind] if kind else KINDS:
        rng, made = random.Random(f"{seed} {name}"), dict[str, bool]()
        for _ in range(20 * EACH):  # a draw that repeats another one does not count
            if len(made) < EACH:
                text, not_42 = KINDS[name](rng)
                made[text.replace("MARK", str(mark)).replace("URL", url)] = not_42
        yield from (Hostile(name, text, not_42) for text, not_42 in made.items())
