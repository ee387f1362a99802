"""No text of a model, of data or of a file's name controls the terminal; our own tables do."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from vigos_cli.__main__ import main
from vigos_cli.utils.console import Terminal
from vigos_cli.utils.control_characters import Escaped, escaped_output, printable, visible

HOSTILE = "\x1b[31m\x1b]0;title\x07\x9b2J\x08\r\x00\u202e\u2066\ud83d"
SHOWN = "U+001B[31mU+001B]0;titleU+0007U+009B2JU+0008U+000DU+0000U+202EU+2066U+D83D"


def test_control_characters_are_shown_by_their_numbers():
    assert visible(HOSTILE) == printable(HOSTILE) == SHOWN
    assert visible("a\nb") == "aU+000Ab" and printable("a\r\nb\tc") == "a\nb\tc"
    assert printable("👩\u200d🔬 é 日本 שלום") == "👩\u200d🔬 é 日本 שלום"


def test_what_is_printed_is_escaped_and_the_streams_are_given_back(capsys):
    before = sys.stdout, sys.stderr
    with escaped_output():
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        sys.stdout.writelines([HOSTILE])
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert said.out == f"{SHOWN}\n{SHOWN}" and said.err == f"{SHOWN}\n"


def test_a_stream_whose_encoding_lacks_a_character_does_not_end_the_program():
    raw = io.BytesIO()
    stream = Escaped(io.TextIOWrapper(raw, encoding="ascii"))
    print("→ é", file=stream)  # pyright: ignore[reportArgumentType]
    stream.flush()
    assert raw.getvalue() == b"\\u2192 \\xe9\n"


def test_a_library_that_draws_is_not_escaped():
    plain = io.StringIO()
    Console(file=Escaped(plain), force_terminal=True, color_system="truecolor").print("x", style="red")  # pyright: ignore[reportArgumentType]
    assert plain.getvalue() == "\x1b[31mx\x1b[0m\n"


def test_markup_and_escapes_in_a_table_are_text():
    plain = io.StringIO()
    table = Table(f"head {HOSTILE}", title="[red]title[/red] :smile:")
    table.add_row(f"[link=http://x.example]{HOSTILE}[/link]")
    Terminal(file=plain, width=200).print(table)
    said = plain.getvalue()
    assert f"head {SHOWN}" in said and f"[link=http://x.example]{SHOWN}[/link]" in said
    assert "[red]title[/red] :smile:" in said
    assert not set(said) & set("\x1b\x07\x9b\x08\r\x00\u202e\u2066\ud83d")


@pytest.mark.parametrize("arguments", [["x\x1b[31m"], ["eval", "--x\x1b[31m"], ["eval", "x\x1b[31m=3"]])
def test_a_mistake_on_the_command_line_is_shown_without_its_escapes(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["vigos", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert "U+001B[31m" in said.err or "\\x1b[31m" in said.err  # Typer writes it as Python does
    assert "\x1b" not in said.out + said.err
