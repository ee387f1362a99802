"""As many marks `<image>` as pictures are their places; without pictures a mark is ordinary text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigos_cli.data.image_marks import MARK, read_marks, split_at_marks
from vigos_cli.data.images import BadRow


@pytest.mark.parametrize(
    ("question", "pictures", "becomes", "places"),
    [
        ("What?", 2, "What?", ()),
        ("<image>\nWhat?", 1, "What?", ()),
        (" <image> <image>\nWhat? ", 2, "What? ", ()),
        ("<image>", 1, "", ()),
        ("What? <image>", 1, "What? <image>", (6,)),
        ("<image> or <image>?", 2, "<image> or <image>?", (0, 11)),
        ("What does <image> do in HTML?", 0, "What does <image> do in HTML?", ()),
        ("<Image> and <image 1> are text", 1, "<Image> and <image 1> are text", ()),
    ],
)
def test_marks_are_places_of_pictures(question, pictures, becomes, places):
    assert read_marks(question, pictures) == (becomes, places)


@pytest.mark.parametrize(
    ("question", "pictures"), [("<image> <image>", 1), ("a <image>", 2), ("<image>" * 3, 2)]
)
def test_any_other_number_of_marks_is_a_fault(question, pictures):
    with pytest.raises(BadRow, match=r"^image_marks$"):
        read_marks(question, pictures)


@given(
    st.lists(st.text(alphabet="ab <image>\n", max_size=8).filter(lambda text: MARK not in text), min_size=2)
)
def test_the_texts_around_the_marks_are_kept(texts):
    question = MARK.join(texts)
    if question.count(MARK) != len(texts) - 1:
        return  # two texts and the mark between them hold another mark
    kept, places = read_marks(question, len(texts) - 1)
    pieces = split_at_marks(kept, places)
    assert pieces == texts if places else (kept == texts[-1].lstrip() and not "".join(texts[:-1]).strip())
