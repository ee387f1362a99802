"""A spreadsheet shows the texts of a CSV file as texts, and reads its numbers as numbers."""

import csv
import io

import pytest

from vigos_cli.reporting.csv_rows import csv_row, in_cell


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "  =1", "＝1+1", "+x"])
def test_a_text_that_would_be_computed_is_quoted(text):
    assert in_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["vigos", "-0.5", "+1e-3", "a=b", "-", "", None, -0.5, 3, True])
def test_numbers_and_other_texts_stay(value):
    assert in_cell(value) == value


def test_every_text_can_be_written_and_read_again():
    file = io.StringIO(newline="")
    csv.writer(file).writerow(csv_row(["a\ud83d\x1b", 'say "x",\n', -1.5]))
    text = file.getvalue().encode().decode()  # without a lone surrogate
    assert next(csv.reader(io.StringIO(text, newline=""))) == ["aU+D83DU+001B", 'say "x",\n', "-1.5"]
