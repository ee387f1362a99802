"""Copies of a benchmark's pictures and questions are found, and different pictures are told apart."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vigos_cli.config.schema import DataConfig
from vigos_cli.data import contamination, picture_hash
from vigos_cli.data.contamination import KeptRows, Marks, Match, matches, normal_question, table_marks
from vigos_cli.data.load import TableData, load_data
from vigos_cli.data.picture_hash import HashCache, PictureHash, bit_distances, looks_same
from vigos_cli.data.priorworld import PriorWorld, question_rows
from vigos_cli.types import Sample


def photo(seed: int) -> Image.Image:
    """A random picture with large and small shapes, like a photograph."""
    numbers, whole = np.random.default_rng(seed), np.zeros((120, 160, 3))
    for side in (4, 16, 40):
        part = Image.fromarray(numbers.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8))
        whole += np.asarray(part.resize((160, 120), Image.Resampling.BICUBIC), float) / 3
    return Image.fromarray(whole.astype(np.uint8))


def diagram(seed: int) -> Image.Image:
    """A triangle, drawn with thin lines on a white page."""
    numbers, page = random.Random(seed), Image.new("RGB", (300, 240), "white")
    corners = [(numbers.uniform(20, 280), numbers.uniform(20, 220)) for _ in range(3)]
    ImageDraw.Draw(page).polygon(corners, outline="black")
    return page


def copied(image: Image.Image) -> Image.Image:
    """The picture at half the size, as a JPEG of quality 70."""
    file = io.BytesIO()
    image.resize((image.width // 2, image.height // 2)).save(file, "JPEG", quality=70)
    return Image.open(file)


def hashes(images: list[Image.Image]) -> list[PictureHash]:
    found = [picture_hash.picture_hash(image) for image in images]
    assert None not in found
    return found  # type: ignore[return-value]


def marks(row: int, question: str, *images: Image.Image) -> Marks:
    sample = Sample(id=f"id-{row}", question=question, answer="", images=images)
    return contamination.sample_marks(row, sample, Counter())


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("make", [photo, diagram])
def test_a_smaller_copy_of_poorer_quality_is_found(make):
    images = [make(seed) for seed in range(40)]
    ours, copies = hashes(images), hashes([copied(image) for image in images])
    assert np.mean(np.diagonal(bit_distances(ours, copies)) <= 4) >= 0.95
    assert looks_same(ours, copies).all()


def test_the_distance_is_the_number_of_different_bits():
    numbers = np.random.default_rng(0)
    some = [PictureHash(numbers.bytes(8), b"") for _ in range(5)]
    others = [PictureHash(numbers.bytes(8), b"") for _ in range(3)]
    found = bit_distances(some, others)
    for i, one in enumerate(some):
        for j, other in enumerate(others):
            counted = (int.from_bytes(one.bits) ^ int.from_bytes(other.bits)).bit_count()
            assert found[i, j] == counted


def test_different_photographs_are_far_apart():
    ours = hashes([photo(seed) for seed in range(60)])
    distances = bit_distances(ours, ours)
    assert distances[~np.eye(60, dtype=bool)].min() > 4


@pytest.mark.slow
def test_near_bits_of_different_drawings_do_not_make_them_the_same():
    """On white pages the bits of different drawings are often near; the grey values tell them apart."""
    for images in ([diagram(seed) for seed in range(300)], [s.images[0] for s in PriorWorld(size=300)]):
        ours = hashes(images)
        near = np.argwhere(np.triu(bit_distances(ours, ours) <= 4, 1))
        assert len(near) > 5, "some are near by chance"
        assert not looks_same([ours[i] for i, _ in near], [ours[j] for _, j in near]).any()


@pytest.mark.slow
def test_priorworld_pictures_of_training_and_test_do_not_match():
    rows = [marks(i, "?", *sample.images) for i, sample in enumerate(PriorWorld(size=200))]
    items = [marks(i, "?", *sample.images) for i, sample in enumerate(question_rows("heldout", rows=40))]
    assert "picture" not in {match.kind for match in matches(rows, items)}


def test_brightness_and_contrast_do_not_matter():
    dimmed = [photo(seed).point(lambda v: 20 + v * 0.7) for seed in range(20)]
    ours, theirs = hashes([photo(seed) for seed in range(20)]), hashes(dimmed)
    assert np.diagonal(bit_distances(ours, theirs)).max() <= 4
    assert looks_same(ours, theirs).all()


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_a_blank_picture_matches_nothing(colour):
    blank = Image.new("RGB", (50, 40), colour)
    assert picture_hash.picture_hash(blank) is None
    row, item = marks(0, "What is this?", blank), marks(1, "And what is that?", blank)
    assert row.pictures == () and matches([row], [item]) == []


def test_transparent_pixels_are_compared_as_white():
    page = diagram(1)
    ink = page.convert("L").point(lambda value: 255 - value)
    clear = Image.new("RGBA", page.size, "black")
    clear.putalpha(ink)
    assert hashes([page]) == hashes([clear])


# ---------------------------------------------------------------- questions


@pytest.mark.parametrize(
    "same",
    [
        "Which cup is larger?",
        "  which CUP\nis larger ",
        "<image>Which cup is larger?",
        "Which cup <image 1> is [image 2] larger?",
        "Which cup is larger?\n(A) left\n(B) right",
        "Which cup is larger? A. left B. right",
        "Which cup is larger?\nChoices:\nA: left\nB: right\nC: both",
        "Question: “Which cup” is larger?",
        "Hint: Please give the letter.\nQuestion: Which cup is larger?\nChoices:\n(A) 1\n(B) 2",
        "Which cup is larger?\nAnswer the question using a single word or phrase.",
    ],
)
def test_forms_of_one_question_are_equal(same):
    assert normal_question(same) == "which cup is larger"


def test_different_questions_stay_different():
    texts = ["What is 2+3?", "What is 2-3?", "What is 2*3?", "What is 2/3?", "What is 23?", "What is 2^3?"]
    texts += ["Is A. Smith older?", "Is B. Smith older?", "(A) cup (B) jug", "(A) cup (B) pot"]
    assert len({normal_question(text) for text in texts}) == len(texts)


def test_a_long_question_takes_no_long_time():
    for text in ("\n" * 300_000, "(A) " * 100_000, "answer with " * 100_000, "<image " * 100_000):
        normal_question(text)


# ---------------------------------------------------------------- matches


def test_each_kind_of_match_is_found():
    items = [
        marks(0, "How many cups?", photo(0)),
        marks(1, "How many jugs?", photo(1)),
        marks(2, "How many legs do three cats have?"),
        marks(3, "How many dogs?", photo(3)),
        marks(4, ""),
    ]
    rows = [
        marks(10, "how many  cups", copied(photo(0))),
        marks(11, "Which jug is red?", photo(8), photo(1)),  # one of its pictures
        marks(12, "How many legs do three cats have?", photo(9)),
        marks(13, "How many dogs?", photo(10)),  # another picture to the same question: no match
        marks(14, "How many dogs?"),
        marks(15, ""),
        marks(16, "Which?", photo(11)),
    ]
    found = {(match.row, match.item): match.kind for match in matches(rows, items)}
    assert found == {
        (10, "id-0"): "both",
        (11, "id-1"): "picture",
        (12, "id-2"): "question",
        (14, "id-3"): "question",
    }


def test_near_bits_alone_count_only_together_with_the_question():
    ours = hashes([diagram(seed) for seed in range(300)])
    i, j = np.argwhere(np.triu(bit_distances(ours, ours) <= 4, 1))[0]
    item = Marks(0, "item", "what is the area", (ours[j],))
    row = Marks(5, "row", "what is the area", (ours[i],))
    other = Marks(6, "other", "how long is it", (ours[i],))
    assert [match.kind for match in matches([row, other], [item])] == ["both", "look_alike"]


def test_the_limit_of_four_bits_is_exact():
    base = int.from_bytes(np.random.default_rng(0).bytes(8))
    numbers = [(base ^ (2**n - 1)).to_bytes(8) for n in range(7)]
    (grey,) = {one.grey for one in hashes([photo(0)])}
    rows = [Marks(n, str(n), "", (PictureHash(bits, grey),)) for n, bits in enumerate(numbers)]
    found = matches(rows, [Marks(0, "item", "", (PictureHash(numbers[0], grey),))])
    assert [(match.row, match.distance) for match in found] == [(n, n) for n in range(5)]


def test_the_blocks_of_the_comparison_do_not_change_its_result(monkeypatch):
    images = [diagram(seed) for seed in range(150)]
    rows = [marks(i, f"question {i % 7}", image) for i, image in enumerate(images)]
    items = [marks(i, f"question {i % 5}", copied(image)) for i, image in enumerate(images[::2])]
    whole = matches(rows, items)
    assert len(whole) > 75
    monkeypatch.setattr(contamination, "BLOCK", 200)
    monkeypatch.setattr(contamination, "PAIRS", 3)
    assert matches(rows, items) == whole


def test_a_picture_in_many_items_is_named_with_its_strongest_matches():
    picture = photo(0)
    items = [marks(i, "What else?" if i != 30 else "What is it?", picture) for i in range(60)]
    found = matches([marks(0, "What is it?", picture)], items)
    assert len(found) == contamination.PER_ROW
    assert found[0] == Match(0, "id-0", "id-30", "both", 0)
    assert contamination.strongest_kinds(found) == {0: "both"}


# ---------------------------------------------------------------- tables


@pytest.fixture
def table(tmp_path: Path) -> TableData:
    photo(0).save(tmp_path / "a.png")
    photo(1).save(tmp_path / "b.png")
    Image.new("RGB", (30, 30), "white").save(tmp_path / "white.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    rows = [
        {"id": "a", "question": "What?", "answer": "1", "images": ["a.png"]},
        {"id": "again", "question": "Which?", "answer": "1", "images": ["a.png", "white.png"]},
        {"id": "b", "question": "What?", "answer": "1", "images": ["cut.png", "b.png", "nowhere.png"]},
        {"id": "bad", "question": "", "answer": "1", "images": ["a.png"]},
        {"id": "none", "question": "What?", "answer": "1", "images": []},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_data(DataConfig(name="jsonl", path=str(tmp_path / "rows.jsonl")), 0)  # type: ignore[return-value]


def test_pictures_that_cannot_be_read_are_counted_and_the_others_compared(table, tmp_path):
    found, counts = table_marks(table, range(5), HashCache(tmp_path / "cache"))
    first, second = hashes([photo(0), photo(1)])
    assert [(one.row, one.id, one.pictures) for one in found] == [
        (0, "a", (first,)),
        (1, "again", (first,)),
        (2, "b", (second,)),
        (4, "none", ()),
    ]
    assert counts == {"pictures": 4, "blank": 1, "unreadable": 2, "unusable_rows": 1}


def test_cached_pictures_are_not_decoded_again(table, tmp_path, monkeypatch):
    first = table_marks(table, range(5), HashCache(tmp_path / "cache"))
    with (tmp_path / "cache").open("a") as file:
        file.write('{"digest": "cut off by a k')
    photo(2).save(tmp_path / "b.png")
    decoded = []

    def read(raw, folder):
        decoded.append(raw)
        return original(raw, folder)

    original = contamination.read_image
    monkeypatch.setattr(contamination, "read_image", read)
    again = table_marks(table, range(5), HashCache(tmp_path / "cache"))
    assert decoded == [(tmp_path / "cut.png").read_bytes(), (tmp_path / "b.png").read_bytes()]
    assert again[0][:2] == first[0][:2] and again[1] == first[1]
    assert again[0][2].pictures == tuple(hashes([photo(2)])), "the cache goes by content, not by name"
    assert len((tmp_path / "cache").read_text().splitlines()) == len(HashCache(tmp_path / "cache").known) == 4


def test_rows_that_are_left_out_are_skipped_in_order():
    world = PriorWorld(size=6)
    kept = KeptRows(world, [0, 3, 5])
    assert [sample.id for sample in kept] == [world[i].id for i in (1, 2, 4)]
    assert len(kept) == 3
    with pytest.raises(IndexError):
        kept[3]
