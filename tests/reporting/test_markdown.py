"""A Markdown table has one line for each row, whatever its cells contain."""

import pytest

from vigos_cli.reporting.markdown import as_code, literal, markdown_table


def test_a_table_has_a_header_a_rule_and_one_line_per_row():
    table = markdown_table(("arm", "n"), [("vigos", 3), ("", 0.5)])
    assert table == "| arm | n |\n|---|---|\n| vigos | 3 |\n|  | 0.5 |"
    assert markdown_table(("arm", "n"), []) == "| arm | n |\n|---|---|"


def test_pipes_and_line_breaks_do_not_break_a_row():
    table = markdown_table(("a|b",), [("one\ntwo",), ("x | y\r\nz",)])
    assert table == "| a\\|b |\n|---|\n| one two |\n| x \\| y z |"


def test_the_marks_of_our_own_cells_are_kept():
    table = markdown_table(("key", "type"), [("`seed`", "int | None\n*more*")], marked=True)
    assert table.split("\n")[2] == "| `seed` | int \\| None *more* |"


def test_a_backslash_in_front_of_a_pipe_does_not_break_a_row():
    assert literal("a\\|b") == "a\\\\\\|b"  # an escaped backslash, then an escaped pipe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>x</script>", "\\<script>x\\</script>"),
        ("![x](http://x.example/p.png)", "![x\\](http://x.example/p.png)"),
        ("[x]: http://x.example", "[x\\]: http://x.example"),
        ("`a` **b** ~~c~~ $d$ &lt;", "\\`a\\` \\*\\*b\\*\\* \\~\\~c\\~\\~ \\$d\\$ \\&lt;"),
        ("# a heading", "\\# a heading"),
        ("\u202e\x1b[31m", "U+202EU+001B[31m"),
        ("0.25 [0.10, 0.40] routing=opsd_structured", "0.25 [0.10, 0.40] routing=opsd_structured"),
    ],
)
def test_markup_in_a_text_stays_text(text, shown):
    assert literal(text) == shown
    assert markdown_table(("x",), [(text,)]).split("\n")[2] == f"| {shown} |"


def test_code_is_between_more_backticks_than_it_contains():
    assert as_code("a=b") == "`a=b`"
    assert as_code("`` a\nb") == "``` `` a b ```"
