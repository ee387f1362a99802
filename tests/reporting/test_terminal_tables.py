"""Tables on the terminal have rows only for what was measured."""

from __future__ import annotations

from typing import Any

from vigos_cli.reporting.terminal_tables import print_priorworld_table, print_scores


def figures(**more: Any) -> dict[str, Any]:
    names = ("score", "prior", "other", "description", "capture", "valid")
    shares = dict.fromkeys(names, 0.5)
    return {**shares, "n": dict.fromkeys(names, 4), "interval": {key: [0.2, 0.8] for key in names}, **more}


def test_without_sampled_answers_the_table_of_priorworld_has_no_rows_for_them(capsys):
    print_priorworld_table({"before": figures(), "after": figures()}, "a run")
    assert "│ sampled │" not in capsys.readouterr().out
    print_priorworld_table({"before": figures(), "after": figures(sampled=figures())}, "a run")
    assert capsys.readouterr().out.count("│ sampled │") == 6


def test_names_in_a_table_are_text(capsys):
    found = {"mean": 0.5, "low": 0.2, "high": 0.8, "n": 4}
    print_scores({"[red]x[/red]\x1b[31m": {"accuracy": found, "[bold]\u202ex": found}})
    said = capsys.readouterr().out
    assert "[red]x[/red]U+001B[31m" in said and "[bold]U+202Ex" in said
    assert "\x1b" not in said and "\u202e" not in said
