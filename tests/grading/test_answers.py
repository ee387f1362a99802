"""An answer is right whatever its case and blanks, and an empty one never is."""

import pytest

from vigos_cli.grading.answers import normal, same


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("red", "red"),
        (" Red. ", "red"),
        ("RED .", "red"),
        ("two  thirds", "Two\nthirds"),
        ("3", "3."),
        ("Straße", "STRASSE"),
        ("U.S.A.", "u.s.a"),
        ("", "x"),
        (".", "."),
        ("  ", ""),
        ("red", "dark red"),
        ("3.0", "3"),
        ("3.5", "35"),
    ],
)
def test_answers_are_compared_in_their_normal_form(answer, reference):
    right = reference not in ("x", ".", "", "dark red", "3", "35") or (answer, reference) == ("3", "3.")
    assert same(answer, reference) == same(reference, answer) == right


def test_the_normal_form_is_a_fixed_point():
    for text in ("  A  b. ", "...", "x . .", "\t\n", "3.14."):
        assert normal(normal(text)) == normal(text)
    assert normal(" A\tB. ") == "a b"
