"""Mistakes in the values, columns, texts and lines of a row for training."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from random import Random

from campaign.mistakes import AS_IT_IS, GOOD, Mistake, Row, put, short, values
from campaign.odd_pictures import RED

TOKENS = (
    "<|im_end|>",
    "<|image_pad|>",
    "<|vision_start|>",
    "<|endoftext|>",
    "</think>",
    "<image_soft_token>",
    "[IMG]",
)
NOT_A_ROW = ("not_json",)


def types(rng: Random) -> list[Mistake]:
    number = rng.randint(2, 10**9)
    objects = [[], ["a", 3], {}, {"text": "a"}, [[["a"]]], [None], {"a": {"b": [number]}}]
    moments = [b"bytes", datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4)]
    found = [
        m
        for name in ("question", "answer", "solution", "id")
        for m in values("is", name, objects, "not_text")
    ]
    found += [m for name in ("question", "answer", "id") for m in values("is", name, moments, "not_text")]
    for value in (number, -number, number / 7, True, False, 10**40):
        found += [
            m
            for name in ("question", "answer", "id")
            for m in values("is", name, [value], used={name: str(value)})
        ]
    found += values(
        "is", "images", [number, 1.5, True, [number], [[["red.png"]]], [[b"x"]]], "image_unreadable"
    )
    found += values(
        "is", "images", [{}, [{}], [None], ["red.png", None], {"url": "red.png"}], "missing_image"
    )
    found += values("is", "images", [{"bytes": 3}, {"bytes": [1]}, {"bytes": {"a": 1}}], "image_unreadable")
    return found


def columns(rng: Random) -> list[Mistake]:
    def without(name: str, other: str = "") -> Callable[[Row], Row | bytes]:
        return lambda row: {k: v for k, v in row.items() if k != name} | ({other: row[name]} if other else {})

    found = []
    for name, rule in (
        ("question", "missing_question"),
        ("answer", "missing_answer"),
        ("images", "missing_image"),
    ):
        for other in (
            "",
            name.upper(),
            name.capitalize(),
            f" {name}",
            f"{name}s_",
            "col_" + str(rng.randint(0, 99)),
        ):
            found.append(
                Mistake(f"{name} is called {other!r}", name, without(name, other), (rule, "refused"))
            )
    found.append(Mistake("problem for question", "question", without("question", "problem"), used=AS_IT_IS))
    found.append(Mistake("image for images", "images", without("images", "image"), used=AS_IT_IS))
    found.append(Mistake("no id", "id", without("id"), used={"id": None}))
    for value in (None, 3, {"a": [1, {"b": 2}]}, "x" * 1000, [[[]]], True):
        found.append(
            Mistake(f"more: {short(value)}", f"more{rng.randint(0, 9)}", put("more", value), used=AS_IT_IS)
        )
    return found


def empty_texts(rng: Random) -> list[Mistake]:
    blank = [None, "", " ", "\t\n ", "\u3000\u00a0", float("nan")]
    found = values("is", "question", blank, "missing_question", "refused")
    found += values("is", "answer", blank, "missing_answer", "refused")
    found += values("is", "images", [None, [], "", [""], [None]], "missing_image", "refused")
    found += values("is", "solution", blank, used={"solution": None})
    return found + values("is", "id", blank, used={"id": None})


def numbers(rng: Random) -> list[Mistake]:
    def raw(where: str, text: str) -> Callable[[Row], Row | bytes]:
        return lambda row: json.dumps({**row, where: "@@"}).replace('"@@"', text).encode()

    found = []
    for where in ("question", "answer", "id"):
        for text in ("1e999", "-1e999", "Infinity", "-Infinity"):
            found.append(Mistake(f"{where}: {text}", where, raw(where, text), ("not_text",)))
        found.append(Mistake(f"{where}: 5,000 digits", where, raw(where, "9" * 5000), NOT_A_ROW))
        digits = "7" * rng.randint(1000, 4000)
        found.append(
            Mistake(f"{where}: {len(digits)} digits", where, raw(where, digits), used={where: digits})
        )
        found.append(
            Mistake(f"{where}: a list 900 deep", where, raw(where, "[" * 900 + "]" * 900), ("not_text",))
        )
        found.append(
            Mistake(f"{where}: 90,000 deep", where, raw(where, "[" * 90_000 + "]" * 90_000), NOT_A_ROW)
        )
    return found


def encodings(rng: Random) -> list[Mistake]:
    def coded(how: Callable[[str], bytes]) -> Callable[[Row], Row | bytes]:
        return lambda row: how(json.dumps({**row, "question": "Wo ist der Käse?"}, ensure_ascii=False))

    kaese, found = {"question": "Wo ist der Käse?"}, []
    for name in ("utf-16-le", "utf-16-be", "utf-32-le"):  # Python's JSON reader recognises these
        found.append(
            Mistake(f"a line in {name}", "*", coded(lambda t, n=name: t.encode(n)), NOT_A_ROW, kaese)
        )
    for name in ("latin-1", "cp1252"):
        found.append(Mistake(f"a line in {name}", "*", coded(lambda t, n=name: t.encode(n)), NOT_A_ROW))
    found.append(
        Mistake("cut UTF-8", "*", coded(lambda t: t.encode().replace("ä".encode(), b"\xc3")), NOT_A_ROW)
    )
    found.append(
        Mistake(
            "overlong UTF-8", "*", coded(lambda t: t.encode().replace("ä".encode(), b"\xc0\xaf")), NOT_A_ROW
        )
    )
    found.append(Mistake("a BOM", "*", coded(lambda t: b"\xef\xbb\xbf" + t.encode()), used=kaese))
    found.append(Mistake("CRLF", "*", coded(lambda t: t.encode() + b"\r"), used=kaese))
    found.append(
        Mistake("NUL in the line", "*", coded(lambda t: t.encode().replace(b"Wo", b"W\0")), NOT_A_ROW)
    )
    found.append(
        Mistake(
            "UTF-8 surrogate",
            "*",
            coded(lambda t: t.encode().replace(b"Wo", b"\xed\xa0\x80")),
            ("not_text", *NOT_A_ROW),
        )
    )
    for where in ("question", "answer", "id"):
        half = f"half {chr(rng.randint(0xD800, 0xDFFF))}"
        found += values("is", where, [half, "\udc00\ud800"], "not_text")
        for text in (
            "a\0b",
            "a\u2028b",
            "\u202eabc\u202c",
            "a\x1b[31mb",
            "e\u0301" * 50,
            "\U0001f600",
            "a\rb",
            "\ufeffa",
        ):
            found += values("is", where, [text], used={where: text.strip()})
    return found


def whole_lines(rng: Random) -> list[Mistake]:
    def cut(row: Row) -> bytes:
        line = json.dumps(row).encode()
        return line[: rng.randint(1, len(line) - 1)]

    texts = (
        b"null",
        b"3",
        b"[1, 2]",
        b'"text"',
        b"{",
        b"}",
        b"{}{}",
        b"<html>",
        b"question,answer",
        b"NaN",
        b"'a'",
        b"\0\0\0",
    )
    found = [Mistake(f"the line {short(text)}", "*", lambda row, t=text: t, NOT_A_ROW) for text in texts]
    found += [Mistake(f"half a line {i}", "*", cut, NOT_A_ROW) for i in range(6)]
    found.append(Mistake("single quotes", "*", lambda row: str(row).encode(), NOT_A_ROW))
    found.append(
        Mistake("a comma too many", "*", lambda row: json.dumps(row)[:-1].encode() + b",}", NOT_A_ROW)
    )
    found.append(Mistake("an empty object", "*", lambda row: b"{}", ("missing_question",)))
    return found


def marks(rng: Random) -> list[Mistake]:
    question, n = GOOD["question"], rng.randint(2, 9)
    more = {"images": ["red.png", "blue.png"]}
    both = [(40, 40, *RED), (40, 40, 0, 0, 255)]
    found = []
    for text in (f"{'<image>' * n}{question}", f"A <image> B <image> {question}", "<image>\n" * n + question):
        found.append(
            Mistake(
                f"{text.count('<image>')} marks, one picture",
                "question",
                put("question", text),
                ("image_marks",),
            )
        )
    found.append(
        Mistake(
            "one mark, two pictures",
            "*",
            lambda row: {**row, **more, "question": "<image>" + question},
            ("image_marks",),
        )
    )
    found.append(
        Mistake(
            "three marks, two pictures",
            "*",
            lambda row: {**row, **more, "question": "<image>, <image> or <image>?"},
            ("image_marks",),
        )
    )
    found.append(
        Mistake("no mark, two pictures", "images", lambda row: {**row, **more}, used={"pictures": both})
    )
    found.append(
        Mistake("mark at the start", "question", put("question", f" <image>\n{question}"), used=AS_IT_IS)
    )
    found.append(
        Mistake(
            "mark in other case",
            "question",
            put("question", f"<IMAGE> {question}"),
            used={"question": f"<IMAGE> {question}"},
        )
    )
    for text in ("<image>", "4 <image> 4", "<image 1>", "<image>" * n):
        found += values("is", "answer", [text], used={"answer": text})
        found += values("is", "solution", [text], used={"solution": text})
    return found


def tokens(rng: Random) -> list[Mistake]:
    found = []
    for where in ("question", "answer", "solution", "id"):
        for token in TOKENS:
            text = rng.choice((token, f"a {token}", f"{token} a", token * rng.randint(2, 200), f"a{token}b"))
            found.append(Mistake(f"{where}: {token}", where, put(where, text), used={where: text}))
    return found


def long_texts(rng: Random) -> list[Mistake]:
    found, size = [], rng.randint(500_000, 1_000_000)
    for name, text in {
        "of one letter": "a" * size,
        "of words": ("cup " * (size // 4)).strip(),
        "of lines": "a\n" * (size // 2) + "a",
        "of brackets": "(" * size,
        "of spaces inside": "a" + " " * size + "a",
        "of labels": "(A) x " * (size // 6) + "x",
        "of emoji": "\U0001f600" * (size // 4),
        "of backslashes": "\\" * size,
        "of digits": "7" * size,
    }.items():
        found += [
            Mistake(f"{where} {name}, {size:,} characters", where, put(where, text), used={where: text})
            for where in ("question", "answer", "solution")
        ]
    marks = "<image>" * (size // 7)
    return [*found, Mistake("100,000 marks", "question", put("question", marks), ("image_marks",))]


def options(rng: Random) -> list[Mistake]:
    n = rng.randint(27, 5000)
    many = "Which?\n" + "\n".join(f"({chr(65 + i % 26)}) option {i}" for i in range(n))
    two = "Which?\n(A) red\n(B) blue"
    found = [Mistake(f"{n} options in the text", "question", put("question", many), used={"question": many})]
    for answer in ("C", "(Z)", "B", "red", "A, B"):  # what an answer means is the user's decision
        found.append(
            Mistake(
                f"two options, answer {answer}",
                "*",
                lambda row, a=answer: {**row, "question": two, "answer": a},
                used={"question": two, "answer": answer},
            )
        )
    for value in ([1, None, {"a": 2}], {"A": 1}, "['a'", 3, [[]], list(range(n))):
        found.append(
            Mistake(f"a column of options: {short(value)}", "more", put("options", value), used=AS_IT_IS)
        )
    return found
