"""The page of `vigos rollout`: texts are never markup, nothing is downloaded, and the file is small."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vigos_cli.data.priorworld import question_rows
from vigos_cli.reporting.embedded_images import SIDE
from vigos_cli.reporting.rollouts_page import TEXT_LIMIT, ShownRollout, ShownToken, page, write_page
from vigos_cli.types import Kind

HOSTILE = (
    "</script><script>document.title = 'taken'</script>",
    "<!--<script>",
    "]]></SCRIPT ><img src=x onerror=alert(1)>",
    '"><a href="https://example.com/">x</a>',
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "&lt;b&gt; &amp; &quot;",
    "\u2028 a line \u2029 a paragraph",
    "\u202eright to left\u202c \u2066isolated\u2069 \u200b\ufeff",
    "\x00 \x1b[31m \x7f \r\n\t",
    "half a pair: \ud83d and \udc00",
    "'; alert(1); //",
    "\\u003c/script\\u003e",
    "tag \U000e0041\U000e0042, emoji \U0001f469\u200d\U0001f52c",
    "שלום עולם",
    "__proto__",
)
TOKEN = ShownToken(" red", "answer", -0.25, "reasoning", -0.125, 0.0625)
PREFILL = ShownToken("<description>", None, None, None, None, None)


def rollout(**changes: Any) -> ShownRollout:
    plain = ShownRollout(
        id="row-1",
        draw=0,
        question="What colour is the hat?",
        reference="red",
        answer="red",
        valid=True,
        reason="",
        correct=True,
        conflict=None,
        images=(),
        tokens=(PREFILL, TOKEN),
    )
    return replace(plain, **changes)


class Reader(HTMLParser):
    """Collects the tags with their attributes, and the text of each script and style."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] in ("script", "style") and self.cdata_elem:
            self.raw.append((*self.tags[-1], data))


def policy(reader: Reader) -> dict[str, str]:
    """The rules of a page's content security policy."""
    (content,) = (
        given["content"] or ""
        for _, given in reader.tags
        if given.get("http-equiv") == "Content-Security-Policy"
    )
    return dict(rule.split(maxsplit=1) for rule in content.split(";"))


def island(text: str) -> dict[str, Any]:
    """The data of a page (its JSON island), as read by its script."""
    (raw,) = (data for tag, given, data in Reader(text).raw if given.get("id") == "island")
    return json.loads(raw)


def around(text: str) -> str:
    """The page without its island."""
    return re.sub(r'(<script type="application/json" id="island">).*?(</script>)', r"\1\2", text, flags=re.S)


def uses(hostile: str) -> Iterator[str]:
    """Pages with the hostile text in each field that takes a text."""
    for field in ("id", "question", "reference", "answer", "reason"):
        yield page([rollout(**{field: hostile})], "t", {})
    yield page([rollout(tokens=(replace(TOKEN, text=hostile),))], "t", {})
    yield page([rollout(tokens=(replace(TOKEN, teacher=hostile),))], "t", {})
    yield page([rollout()], hostile, {})
    yield page([rollout()], "t", {hostile: "x"})
    yield page([rollout()], "t", {"x": hostile})


# ---- untrusted text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_is_part_of_the_markup(hostile):
    plain = around(page([rollout()], "t", {}))
    for text in uses(hostile):
        assert around(text) == plain
        assert hostile in str_values(island(text))


def str_values(value: Any) -> list[str]:
    if isinstance(value, dict):
        return str_values([*value, *value.values()])
    if isinstance(value, list):
        return [text for entry in value for text in str_values(entry)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_island_is_ascii_and_no_text_can_close_it(hostile):
    for text in uses(hostile):
        raw = text[text.index('id="island">') + len('id="island">') :].split("</script>")[0]
        assert raw.isascii()
        assert not set("<>&") & set(raw)
        json.loads(raw)


def test_the_page_allows_only_its_own_script_and_style():
    text = page([rollout(images=(Image.new("RGB", (4, 4)),))], "t", {})
    reader = Reader(text)
    rules = policy(reader)
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (body,) = (data for name, given, data in reader.raw if name == tag and "type" not in given)
        digest = base64.b64encode(sha256(body.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_the_page_downloads_nothing():
    text = page([rollout(images=(Image.new("RGB", (4, 4)),))], "t", {})
    assert not re.search(r"https?://|@import|url\(|fetch\(|innerHTML|outerHTML|insertAdjacent|eval\(", text)
    for _, given in Reader(text).tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (given.get(name) or "data:,").startswith("data:")
        assert not any(name.startswith("on") or name == "style" for name in given)


# ---- the data


def test_the_island_has_the_values_of_the_rollouts():
    infinite = ShownToken("x", "end", -math.inf, "tokens", None, math.nan)
    given = rollout(
        valid=False, reason="no_box", correct=False, conflict=True, draw=3, tokens=(PREFILL, TOKEN, infinite)
    )
    data = island(page([given, rollout()], "a title", {"model": "tiny", "n": "2"}))
    assert data["title"] == "a title"
    assert data["facts"] == [["model", "tiny"], ["n", "2"]]
    first = data["rollouts"][0]
    for field in ("id", "draw", "question", "reference", "answer", "valid", "reason", "correct", "conflict"):
        assert first[field] == getattr(given, field)
    rows = [dict(zip(data["columns"], row, strict=True)) for row in first["tokens"]]
    for row, token in zip(rows, given.tokens, strict=True):
        assert row["text"] == token.text
        assert (None if row["kind"] is None else data["kinds"][row["kind"]]) == token.kind
        assert (None if row["teacher"] is None else data["teachers"][row["teacher"]]) == token.teacher
    assert (rows[1]["student"], rows[1]["teacher_logprob"], rows[1]["kl"]) == (-0.25, -0.125, 0.0625)
    assert (rows[2]["student"], rows[2]["teacher_logprob"], rows[2]["kl"]) == ("-Infinity", None, "NaN")
    assert rows[0]["student"] is rows[0]["kl"] is rows[1]["answer_support"] is None
    scored = replace(TOKEN, answer_support=0.5, image_support=2.0, visual=math.inf)
    data = island(page([rollout(tokens=(scored,))], "t", {}))
    row = dict(zip(data["columns"], data["rollouts"][0]["tokens"][0], strict=True))
    assert (row["answer_support"], row["image_support"], row["visual"]) == (0.5, 2.0, "Infinity")


def test_every_kind_has_a_style_and_a_legend_entry():
    text = page([], "t", {})
    for name in (*Kind, "prefill"):
        assert f"\n.{name} {{" in text
        assert f'class="token {name}"' in text


def test_the_middle_of_a_long_text_is_left_out_and_its_length_shown():
    half = TEXT_LIMIT // 2
    giant = ShownToken("x" * 100_000 + "y" * half, "answer", -1.0, None, None, None)
    text = page([rollout(tokens=(giant,), question="q" * TEXT_LIMIT)], "t", {})
    shown = island(text)["rollouts"][0]
    assert shown["tokens"][0][0] == ["x" * half, 100_000 - half, "y" * half]
    assert shown["question"] == "q" * TEXT_LIMIT
    assert len(text) < 100_000


# ---- pictures


def embedded(text: str) -> list[Image.Image]:
    uris = island(text)["images"]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(";base64,")[2]))) for uri in uris]


def test_a_photograph_is_compressed_and_a_drawing_is_exact():
    noise = np.random.default_rng(0).integers(0, 40, (400, 500, 3)).astype("uint8")
    ramp = np.linspace(0, 200, 500, dtype="uint8")[None, :, None] + noise
    photo, drawing = Image.fromarray(ramp), Image.new("RGB", (84, 84), "teal")
    text = page([rollout(images=(photo, drawing))], "t", {})
    shown = embedded(text)
    assert [image.format for image in shown] == ["JPEG", "PNG"]
    assert shown[1].convert("RGB").tobytes() == drawing.tobytes()
    assert len(text) < 200_000 < len(photo.tobytes())


def test_a_picture_is_embedded_once():
    red, again, blue = (Image.new("RGB", (8, 8), name) for name in ("red", "red", "blue"))
    given = [rollout(images=images) for images in ((red,), (red, blue), (again,), (), (blue,))] * 10
    text = page(given, "t", {})
    assert text.count("data:image/png") == 2
    assert [r["images"] for r in island(text)["rollouts"][:5]] == [[0], [0, 1], [0], [], [1]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_any_mode_and_size_are_shown(mode):
    sizes = ((1, 1), (1024, 200), (3, 2000))
    shown = embedded(page([rollout(images=tuple(Image.new(mode, size) for size in sizes))], "t", {}))
    assert [image.size for image in shown] == [(1, 1), (SIDE, 100), (1, SIDE)]


def test_an_embedded_picture_equals_the_original():
    (sample, *_) = question_rows("heldout", 1)
    (shown,) = embedded(page([rollout(images=sample.images)], "t", {}))
    assert shown.tobytes() == sample.images[0].tobytes()


# ---- size and speed


def many(n: int) -> list[ShownRollout]:
    """n rollouts of 80 tokens, with 25 rollouts for each picture."""
    samples = question_rows("heldout", n // 100)
    tokens = tuple(
        ShownToken(f" word{i}", kind.value, -0.1234 * i, "perception", -0.0567 * i, 0.00123 * i)
        for i, kind in zip(range(80), [*Kind] * 14, strict=False)
    )
    return [
        rollout(id=s.id, question=s.question, images=s.images, tokens=tokens)
        for s in samples
        for _ in range(25)
    ]


def test_a_page_of_400_rollouts_is_written_fast_and_small(tmp_path):
    rollouts = many(400)
    assert len(rollouts) == 400
    start = time.process_time()  # only this process, because others may use the cores
    size = write_page(tmp_path / "rollouts.html", rollouts, "t", {})
    assert time.process_time() - start < 5
    assert size == (tmp_path / "rollouts.html").stat().st_size < 3_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["rollouts.html"]


# ---- in a browser, if one is installed

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def rendered(path: Path, hash: str, profile: Path) -> str:
    """The document after its script has run."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", f"file://{path}#{hash}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_the_page(tmp_path):
    tokens = (
        PREFILL,
        *(replace(TOKEN, text=text) for text in (*HOSTILE, "", " ", "x" * 25_000 + " the end")),
    )
    bare = replace(TOKEN, teacher=None, teacher_logprob=None, kl=None)
    given = [
        rollout(id="kept", tokens=tokens, question=HOSTILE[0], reason=HOSTILE[0], valid=False, correct=False),
        rollout(id="valid", tokens=(bare,)),
        rollout(id="elsewhere", valid=False, correct=False, question="another"),
    ]
    write_page(tmp_path / "page.html", given, HOSTILE[0], {"model": HOSTILE[1]})
    dom = rendered(tmp_path / "page.html", "format=invalid&search=TAKEN", tmp_path / "profile")
    assert "1 of 3 shown" in dom
    assert dom.count("<article") == 1
    assert "<title>&lt;/script&gt;&lt;script&gt;document.title" in dom
    assert dom.count("<script") == 2
    assert "no picture" in dom
    assert "U+202E" in dom and "U+0000" in dom and "U+D83D" in dom
    assert re.search(r"x<span class=.code.>… 5,008 characters left out …</span>x+ the end", dom)
    assert 'data-colour="segment"' in dom and " by-" not in dom.split("<main>")[1]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_what_supports_a_token(tmp_path):
    tokens = [
        replace(TOKEN, text=text, answer_support=by_answer, image_support=by_image)
        for text, by_answer, by_image in (("told", 2.0, 1.0), ("seen", 0.0, 3.0), ("neither", 0.0, 0.001))
    ]
    write_page(tmp_path / "page.html", [rollout(tokens=(PREFILL, *tokens))], "t", {})
    dom = rendered(tmp_path / "page.html", "colour=palr", tmp_path / "profile").split("<main>")
    assert 'data-colour="palr"' in dom[0]
    classes = {
        text: classes for classes, text in re.findall(r'class="(token [^"]*)"[^>]*>(\w+)</span>', dom[1])
    }
    assert "supported by-answer" in classes["told"] and "supported by-image" in classes["seen"]
    assert "supported" not in classes["neither"]
    write_page(tmp_path / "page.html", [rollout()], "t", {})  # without scores the choice does not exist
    dom = rendered(tmp_path / "page.html", "colour=palr", tmp_path / "profile").split("<main>")
    assert 'data-colour="segment"' in dom[0]
