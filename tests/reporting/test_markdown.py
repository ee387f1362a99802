"""A Markdown table has one line for each row, whatever its cells contain."""

from vigos_cli.reporting.markdown import markdown_table


def test_a_table_has_a_header_a_rule_and_one_line_per_row():
    table = markdown_table(("arm", "n"), [("vigos", 3), ("", 0.5)])
    assert table == "| arm | n |\n|---|---|\n| vigos | 3 |\n|  | 0.5 |"
    assert markdown_table(("arm", "n"), []) == "| arm | n |\n|---|---|"


def test_pipes_and_line_breaks_do_not_break_a_row():
    table = markdown_table(("a|b",), [("one\ntwo",), ("x | y\r\nz",)])
    assert table == "| a\\|b |\n|---|\n| one two |\n| x \\| y z |"
