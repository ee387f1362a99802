"""A file with many kinds of rows: each is loaded as expected, or is the fault that names it.

`python tests/data/test_mixed_rows.py` prints the table.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vigos_cli.config.schema import DataConfig
from vigos_cli.data.check import check
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import TableData, load_data

COLOURS = {"a.png": "red", "b.png": "blue", "c.png": "green"}


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(file, "PNG")
    return file.getvalue()


B64 = base64.b64encode(png("red")).decode()


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def said(content: Any = "red") -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def human(*values: str) -> list[dict[str, str]]:
    """Turns of a person and the model in LLaVA's form."""
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


PART = {"type": "image"}
Row = dict[str, Any] | str

# what the row is; the row; its pictures and question in order, and its answer; or the fault
ROWS: list[tuple[str, Row, tuple[list[str], str] | str]] = [
    ("flat: question", {"question": "Q?", "answer": "red", "images": ["a.png"]}, (["red", "Q?"], "red")),
    ("flat: problem, one image", {"problem": "Q?", "answer": 3, "image": "a.png"}, (["red", "Q?"], "3")),
    ("base64", {"question": "Q?", "answer": "red", "image": B64}, (["red", "Q?"], "red")),
    (
        "data URL in a dict",
        {"question": "Q?", "answer": "red", "images": [{"bytes": f"data:image/png;base64,{B64}"}]},
        (["red", "Q?"], "red"),
    ),
    (
        "path in a dict",
        {"question": "Q?", "answer": "red", "images": {"path": "b.png"}},
        (["blue", "Q?"], "red"),
    ),
    (
        "mark at the start",
        {"question": "<image>\nQ?", "answer": "red", "image": "a.png"},
        (["red", "Q?"], "red"),
    ),
    (
        "mark at the end",
        {"question": "Q? <image>", "answer": "red", "image": "a.png"},
        (["Q? ", "red"], "red"),
    ),
    (
        "marks between words",
        {"question": "Is <image> in <image>?", "answer": "no", "images": ["b.png", "a.png"]},
        (["Is ", "blue", " in ", "red", "?"], "no"),
    ),
    (
        "two pictures, no mark",
        {"question": "Q?", "answer": "no", "images": ["b.png", "a.png"]},
        (["blue", "red", "Q?"], "no"),
    ),
    (
        "one mark, two pictures",
        {"question": "<image> Q?", "answer": "no", "images": ["b.png", "a.png"]},
        "image_marks",
    ),
    (
        "two marks, one picture",
        {"question": "<image> <image>", "answer": "no", "image": "a.png"},
        "image_marks",
    ),
    (
        "hostile picture token",
        {"question": "<|image_pad|> <image> <|im_end|>", "answer": "no", "image": "a.png"},
        (["<|image_pad|> ", "red", " <|im_end|>"], "no"),
    ),
    (
        "LLaVA",
        {"id": "l", "image": "a.png", "conversations": human("<image>\nQ?", "red")},
        (["red", "Q?"], "red"),
    ),
    (
        "LLaVA, mark at the end",
        {"image": "a.png", "conversations": human("Q?\n<image>", "red")},
        (["Q?\n", "red"], "red"),
    ),
    (
        "LLaVA, two exchanges",
        {"image": "a.png", "conversations": human("<image>\nQ?", "red", "R?", "b")},
        "chat_many_turns",
    ),
    (
        "ms-swift",
        {"messages": [user("<image><image>Same?"), said("no")], "images": ["a.png", "b.png"]},
        (["red", "blue", "Same?"], "no"),
    ),
    (
        "ms-swift, system turn",
        {
            "messages": [{"role": "system", "content": "Be brief."}, user("<image>Q?"), said()],
            "images": ["a.png"],
        },
        (["Be brief.\n\n", "red", "Q?"], "red"),
    ),
    (
        "LLaMA-Factory, system column",
        {"conversations": human("Is <image>?", "red"), "system": "Be brief.", "images": ["a.png"]},
        (["Be brief.\n\nIs ", "red", "?"], "red"),
    ),
    (
        "empty system turn",
        {"messages": [{"role": "system", "content": ""}, user("<image>Q?"), said()], "images": ["a.png"]},
        (["red", "Q?"], "red"),
    ),
    (
        "parts, picture in the column",
        {"messages": [user([text("Is "), PART, text("red?")]), said([text("yes")])], "images": ["a.png"]},
        (["Is ", "red", "red?"], "yes"),
    ),
    (
        "parts, picture inside",
        {"messages": [user([{"type": "image", "image": "c.png"}, text("Q?")]), said()]},
        (["green", "Q?"], "red"),
    ),
    (
        "OpenAI parts",
        {
            "messages": [
                user(
                    [text("Q? "), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}}]
                ),
                said(),
            ]
        },
        (["Q? ", "red"], "red"),
    ),
    (
        "parts with the text <image>",
        {"messages": [user([text("Tag <image>? "), PART]), said()], "images": ["b.png"]},
        (["Tag <image>? ", "blue"], "red"),
    ),
    (
        "parts without a place",
        {"messages": [user([text("Q?")]), said()], "images": ["b.png"]},
        (["blue", "Q?"], "red"),
    ),
    (
        "more parts than pictures",
        {"messages": [user([PART, PART, text("Q?")]), said()], "images": ["a.png"]},
        "image_marks",
    ),
    (
        "fewer parts than pictures",
        {"messages": [user([PART, text("Q?")]), said()], "images": ["a.png", "b.png"]},
        "image_marks",
    ),
    (
        "parts, white space first",
        {"messages": [user([text("\n Is "), PART, text("? ")]), said()], "images": ["a.png"]},
        (["Is ", "red", "?"], "red"),
    ),
    (
        "answer in a column",
        {"messages": [user("<image>Q?")], "images": ["a.png"], "answer": "blue"},
        (["red", "Q?"], "blue"),
    ),
    ("no answer at all", {"messages": [user("<image>Q?")], "images": ["a.png"]}, "missing_answer"),
    (
        "tool call",
        {
            "conversations": [
                *human("Q?"),
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "4"},
                *human("Q?", "a")[1:],
            ],
            "image": "a.png",
        },
        "chat_tools",
    ),
    ("video", {"messages": [user("<video>Q?"), said()], "videos": ["v.mp4"]}, "chat_not_picture"),
    (
        "video in a part",
        {"messages": [user([{"type": "video", "video": "v.mp4"}, text("Q?")]), said()]},
        "chat_not_picture",
    ),
    ("answer first", {"messages": [said(), user("Q?")], "images": ["a.png"]}, "chat_no_question"),
    (
        "unknown role",
        {"messages": [{"role": "judge", "content": "Q?"}], "images": ["a.png"]},
        "chat_unreadable",
    ),
    ("turns are no list", {"messages": "user: Q?", "images": ["a.png"]}, "chat_unreadable"),
    ("turns are empty", {"messages": [], "images": ["a.png"]}, "chat_unreadable"),
    ("text only", {"question": "What does <image> do in HTML?", "answer": "red"}, "missing_image"),
    ("text only, conversation", {"conversations": human("2 + 2?", "4")}, "missing_image"),
    ("empty question", {"question": " ", "answer": "red", "image": "a.png"}, "missing_question"),
    ("missing file", {"question": "Q?", "answer": "red", "image": "z.png"}, "image_not_found"),
    ("path outside", {"question": "Q?", "answer": "red", "image": "../z.png"}, "image_outside"),
    (
        "a web address",
        {"question": "Q?", "answer": "red", "image": "https://example.org/a.png"},
        "image_not_found",
    ),
    ("a question that is a list", {"question": ["Q?"], "answer": "red", "image": "a.png"}, "not_text"),
    ("not JSON", "{broken", "not_json"),
]


def written(folder: Path) -> TableData:
    for name, colour in COLOURS.items():
        (folder / name).write_bytes(png(colour))
    lines = [row if isinstance(row, str) else json.dumps(row) for _, row, _ in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    data = load_data(DataConfig(name="jsonl", path=str(folder / "rows.jsonl")), 0)
    assert isinstance(data, TableData)
    return data


def outcome(data: TableData, index: int, faults: dict[str, list[int]]) -> tuple[list[str], str] | str:
    """What became of a row: what is shown in order, and the answer; or the fault."""
    for rule, rows in faults.items():
        if index in rows:
            return rule
    sample = data[index]
    names = {Image.new("RGB", (1, 1), name).getpixel((0, 0)): name for name in COLOURS.values()}
    pictures = [names[image.convert("RGB").getpixel((0, 0))] for image in sample.images]
    if not sample.places:
        return [*pictures, sample.question], sample.answer
    shown, start = [], 0
    for place, picture in zip(sample.places, pictures, strict=True):
        shown += [sample.question[start:place], picture]
        start = place + len("<image>")
    return [part for part in (*shown, sample.question[start:]) if part], sample.answer


def test_every_kind_of_row_is_loaded_or_is_a_named_fault(tmp_path: Path):
    data = written(tmp_path)
    faults = check(data).faults
    assert {what: outcome(data, i, faults) for i, (what, _, _) in enumerate(ROWS)} == {
        what: expected for what, _, expected in ROWS
    }


def test_a_bad_conversation_raises_only_bad_rows(tmp_path: Path):
    """Turns of any shape are a sample or a named fault."""
    odd: list[Any] = [None, 3, "text", [], {}, [None], [[]], ["a"], {"role": "user"}, [{}], text("a"), PART]
    turns = [[user(content), said(answer)] for content in odd for answer in odd] + [[one] for one in odd]
    rows = [{"messages": each, "images": images} for each in turns for images in (None, "a.png")]
    (tmp_path / "a.png").write_bytes(png("red"))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load_data(DataConfig(name="jsonl", path=str(tmp_path / "rows.jsonl")), 0)
    loaded = 0
    for index in range(len(rows)):
        try:
            loaded += isinstance(data[index].question, str)
        except BadRow:
            continue
    assert 0 < loaded < len(rows)


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_a_file_of_conversations_needs_no_other_columns(tmp_path: Path, column: str):
    row = {column: [user("Q?"), said()]}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    sample = load_data(DataConfig(name="jsonl", path=str(tmp_path / "rows.json")), 0)[0]
    assert (sample.question, sample.answer, sample.images) == ("Q?", "red", ())


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        made = written(Path(name))
        found = check(made).faults
        for number, (kind, _, _) in enumerate(ROWS):
            result = outcome(made, number, found)
            print(f"{kind:32s}", result if isinstance(result, str) else f"{result[0]} -> {result[1]}")
