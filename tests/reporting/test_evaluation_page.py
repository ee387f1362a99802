"""The page of `vigos eval`: texts are never markup, long texts fit into a budget, charts show the figures."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from PIL import Image
from test_rollouts_page import CHROMIUM, HOSTILE, Reader, around, island, policy, rendered, str_values

from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.item_pictures import KEPT, ItemPictures
from vigos_cli.reporting import evaluation_page
from vigos_cli.reporting.evaluation_page import (
    BARS,
    Bar,
    EvaluationPage,
    ShownAnswer,
    ShownItem,
    clip_pieces,
    evaluation_html,
    text_limit,
    visible,
    write_evaluation_page,
)
from vigos_cli.reporting.rollouts_page import TEXT_LIMIT
from vigos_cli.types import Kind, Sample, Verdict

FIGURE = {"mean": 0.25, "low": 0.125, "high": 0.5, "n": 40}
ANSWER = ShownAnswer(
    "wrong", "blue", "text: other", [("it is ", Kind.REASONING), ("blue", Kind.ANSWER)], 7, False, None
)
ITEM = ShownItem("q1", "What colour?", "red", [["Art"]], [], [ANSWER])


def page(*items: ShownItem, **changes: Any) -> EvaluationPage:
    bars = [Bar("Art", [FIGURE], 0.5), Bar("Music", [None], None)]
    plain = EvaluationPage("t", {}, {"greedy": {"accuracy": FIGURE}}, {"subject": bars}, items or [ITEM], [])
    return replace(plain, **changes)


# ---- untrusted text


def uses(hostile: str) -> Iterator[EvaluationPage]:
    """Pages with the hostile text in each field whose text is in the island only."""
    for field in ("id", "question", "reference"):
        yield page(replace(ITEM, **{field: hostile}))
    for field in ("extracted", "reason"):
        yield page(replace(ITEM, answers=[replace(ANSWER, **{field: hostile})]))
    yield page(replace(ITEM, answers=[replace(ANSWER, pieces=[(hostile, Kind.END)])]))
    yield page(title=hostile)
    yield page(facts={"model": hostile})


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_is_part_of_the_markup(hostile):
    plain = around(evaluation_html(page()))
    for given in uses(hostile):
        text = evaluation_html(given)
        assert around(text) == plain and hostile in str_values(island(text))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_of_groups_and_figures_are_escaped(hostile):
    given = page(
        replace(ITEM, groups=[[hostile]]),
        charts={hostile: [Bar(hostile, [FIGURE], None)]},
        scores={"greedy": {"accuracy": FIGURE, hostile: FIGURE}},
    )
    text = evaluation_html(given)
    text.encode("utf-8")  # no lone surrogates
    tags = [tag for tag, _ in Reader(around(text)).tags]
    assert tags == [tag for tag, _ in Reader(around(evaluation_html(replace(given, **like(hostile))))).tags]
    assert not set("\u202e\u2066\u200b\x00\x1b\u2028") & set(around(text))
    assert island(text)["groupings"][0]["groups"] == [hostile]


def like(hostile: str) -> dict[str, Any]:
    """The same page with harmless names."""
    return {
        "items": [replace(ITEM, groups=[["Art"]])],
        "charts": {"subject": [Bar("Art", [FIGURE], None)]},
        "scores": {"greedy": {"accuracy": FIGURE, "other": FIGURE}},
    }


def test_the_page_allows_only_its_own_script_and_style_and_downloads_nothing():
    text = evaluation_html(page())
    reader = Reader(text)
    rules = policy(reader)
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (body,) = (data for name, given, data in reader.raw if name == tag and "type" not in given)
        assert rules[f"{tag}-src"] == f"'sha256-{base64.b64encode(sha256(body.encode()).digest()).decode()}'"
    assert not re.search(r"https?://|@import|url\(|fetch\(|innerHTML|outerHTML|insertAdjacent|eval\(", text)
    assert not any(name.startswith("on") or name == "style" for _, given in reader.tags for name in given)


def test_characters_that_are_not_seen_are_shown_by_their_number():
    assert visible("a\u202eb\ud83dc é") == "aU+202EbU+D83Dc é"


# ---- figures and charts


def test_the_table_has_every_figure_of_both_kinds_of_answers():
    tokens = {"mean": 412.34, "low": None, "high": None, "n": 80}
    scores = {
        "greedy": {"accuracy": FIGURE, "tokens": tokens, "unparsed": 0.125, "subject": {"Art": FIGURE}},
        "sampled": {"accuracy": FIGURE, "vote": FIGURE, "pass": {"5": FIGURE}},
    }
    cell = "0.250 [0.125, 0.500] n=40"
    assert evaluation_page.figure_rows(scores) == [
        ("accuracy", [cell, cell]),
        ("majority vote", ["-", cell]),
        ("tokens per answer", ["412.3  n=80", "-"]),
        ("unparsed", ["0.125", "-"]),
        ("pass@5", ["-", cell]),
    ]


def test_the_figures_of_a_judge_are_in_the_table():
    judge = {"model": "m", "n": 40, "null": 0, "score": FIGURE, "agreement": None}
    assert evaluation_page.figure_rows({"greedy": {"judge": judge}}) == [
        ("judge's score", ["0.250 [0.125, 0.500] n=40"])
    ]


def test_there_is_no_chart_without_figures():
    assert "<figure>" in evaluation_html(page())
    assert "<figure>" not in evaluation_html(page(charts={"subject": [Bar("Art", [None], 0.5)]}))


def test_a_chart_has_a_dot_an_interval_and_the_chance_of_each_group():
    tags = Reader(evaluation_html(page(charts={"subject": [Bar("Art", [FIGURE], 0.5)]}))).tags
    (dot,) = (given for tag, given in tags if tag == "circle" and given.get("cx") != "7")
    lines = {given["class"]: given for tag, given in tags if tag == "line" and given.get("x1") != "5"}
    grid = [given for tag, given in tags if tag == "line" and given["class"] == "grid"]
    zero, quarter, half = (at(given, "x1") for given in grid[:3])
    assert at(dot, "cx") == quarter and at(lines["chance"], "x1") == half
    assert (at(lines["interval"], "x1"), at(lines["interval"], "x2")) == ((zero + quarter) / 2, half)


def at(given: dict[str, str | None], name: str) -> float:
    return float(given[name] or "nan")


def test_a_chart_shows_a_bounded_number_of_groups_the_largest_ones():
    bars = [Bar(f"g{i:03}", [{**FIGURE, "n": i}], None) for i in range(BARS + 10)]
    text = around(evaluation_html(page(replace(ITEM, groups=[["g000"]]), charts={"x": bars})))
    assert text.count('class="name"') == BARS and "10 smaller groups are not shown" in text
    assert "g010" in text and "g009" not in text


# ---- size


def test_long_texts_are_shortened_until_all_fit(monkeypatch):
    monkeypatch.setattr(evaluation_page, "TEXTS", 10_000)
    texts = ["a" * 100] * 10 + ["b" * 9000] * 4
    limit = text_limit(texts)
    assert 2000 < limit < 9000 and sum(min(len(text), limit) for text in texts) <= 10_000
    assert text_limit(["a" * 100]) == TEXT_LIMIT
    assert text_limit(["é" * 9000] * 4) <= text_limit(["b" * 9000] * 4)
    assert text_limit(["é" * 2000] * 2) < TEXT_LIMIT  # JSON writes each character as six
    shown = island(evaluation_html(page(replace(ITEM, question="q" * 30_000))))["items"][0]["question"]
    assert shown[0][0] == shown[2][-1] == "q" and shown[1] > 15_000


def test_the_middle_of_a_text_in_pieces_is_left_out():
    pieces = [("a" * 30, Kind.DESCRIPTION), ("b" * 50, Kind.REASONING), ("c" * 20, Kind.ANSWER)]
    assert clip_pieces(pieces, 100) == pieces
    for limit in range(2, 99, 2):
        shown = clip_pieces(pieces, limit)
        (cut,) = (text for text, _ in shown if not isinstance(text, str))
        assert cut[1] == 100 - limit
        flat = "".join(text if isinstance(text, str) else f"{text[0]}|{text[2]}" for text, _ in shown)
        whole = "".join(text for text, _ in pieces)
        assert flat == f"{whole[: limit // 2]}|{whole[-(limit // 2) :]}"


def test_pictures_of_a_bounded_number_of_items_are_kept():
    kept, picture = ItemPictures(), Image.new("RGB", (8, 8), "red")
    for i in range(KEPT + 5):
        for draw in range(2):  # the second draw has another verdict, which does not count
            verdict = Verdict("wrong" if draw else "right", "x", "", "")
            kept.see(Graded(Sample(f"r{i}", "", "", (picture,)), draw, verdict))
    kept.see(
        Graded(
            Sample("w", "", "", (picture, Image.new("RGB", (8, 8), "blue"))), 0, Verdict("wrong", "", "", "")
        )
    )
    kept.see(Graded(Sample("none", "", "", ()), 0, Verdict("right", "", "", "")))
    assert kept.of(f"r{KEPT - 1}") == [0] and kept.of(f"r{KEPT}") is None
    assert kept.of("w") == [0, 1] and kept.of("none") == [] and len(kept.uris) == 2


@pytest.mark.slow
def test_a_page_of_4000_items_is_written_fast_and_small(tmp_path):
    text = [("thought " * 500, Kind.REASONING), ("so it is blue", Kind.ANSWER)]
    items = [replace(ITEM, id=f"q{i}", answers=[replace(ANSWER, pieces=text)] * 5) for i in range(4000)]
    start = time.process_time()
    size = write_evaluation_page(tmp_path / "report.html", page(*items))
    assert time.process_time() - start < 20 and size < 14_000_000
    shown = island((tmp_path / "report.html").read_text())["items"][0]["answers"][0][-1]
    assert shown[-1][0][-12:] == "o it is blue"[-12:]


# ---- in a browser, if one is installed


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_and_filters_the_items(tmp_path):
    pieces = [(text, Kind.REASONING) for text in HOSTILE]
    right = replace(ANSWER, verdict="right", cut_off=True, score=0.5)
    given = page(
        replace(ITEM, id="kept", question=HOSTILE[0], answers=[replace(ANSWER, pieces=pieces), right]),
        replace(ITEM, id="right", answers=[right, right]),
        replace(ITEM, id="elsewhere", groups=[["Music"]], pictures=None, answers=[ANSWER, ANSWER]),
        title=HOSTILE[0],
        facts={"model": HOSTILE[1]},
    )
    write_evaluation_page(tmp_path / "page.html", given)

    def dom(state: str) -> str:
        return rendered(tmp_path / "page.html", state, tmp_path / "profile")

    found = dom("verdict=wrong&ended=cut+off&draws=mixed&group0=0&search=TAKEN")
    assert "1 of 3 items" in found and found.count("<article") == 1 and found.count("<script") == 2
    assert "<title>&lt;/script&gt;&lt;script&gt;document.title" in found
    assert "U+202E" in found and "U+0000" in found and "U+D83D" in found
    assert "judge 0.5" in found and "7 tokens" in found
    assert "1 of 3 items" in (found := dom("group0=1")) and "this picture is not on the page" in found
    assert "1 of 3 items" in dom("verdict=right") and "2 of 3 items" in dom("draws=alike")
    assert "2 of 3 items" in dom("ended=cut+off") and "3 of 3 items" in dom("group0=77")
    assert (
        json.dumps(island((tmp_path / "page.html").read_text())["groupings"][0]["groups"])
        == '["Art", "Music"]'
    )
