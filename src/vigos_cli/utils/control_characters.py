r"""Show the control characters of texts as numbers, so that no text can control the terminal.

>>> visible("a\x1b[31mb")
'aU+001B[31mb'
>>> with escaped_output():
...     print(response)            # an escape sequence in it is shown as text

A response may contain escape sequences, which change colours, set the title or write to the clipboard, and
marks that reorder what follows. Tables and bars are drawn by `vigos_cli.utils.console`.
"""

from __future__ import annotations

import contextlib
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories whose characters are shown by their number
KEPT = "\n\t\u200c\u200d"  # line breaks, and the two joiners, which emoji and many scripts need
ORDINARY = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff]*")  # most texts have nothing else
DRAWING = ("rich", "tqdm", "wandb", "click", "typer")  # libraries that draw on a terminal by escape sequences


def visible(text: str, keep: str = "") -> str:
    """The text with invisible characters, and those that change the direction, replaced by their number."""
    if ORDINARY.fullmatch(text):
        return text
    return "".join(
        f"U+{ord(char):04X}" if unicodedata.category(char) in UNSEEN and char not in keep else char
        for char in text
    )


def printable(text: str) -> str:
    """The text as it may be printed: line breaks, tabs and the joiners of scripts are kept."""
    return visible(text.replace("\r\n", "\n"), KEPT)


class Escaped:
    """A text stream that prints control characters as their numbers, unless a library draws with them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        with contextlib.suppress(AttributeError, ValueError, OSError):
            cast(Any, stream).reconfigure(errors="backslashreplace")  # a character that its encoding lacks

    def write(self, text: str) -> int:
        """Write the text. It is not changed if a library of DRAWING calls this."""
        caller = str(sys._getframe(1).f_globals.get("__name__", "")).partition(".")[0]
        return self._stream.write(text if caller in DRAWING else printable(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        self._stream.writelines(map(printable, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """Print control characters of texts as their numbers, on stdout and stderr."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Escaped(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
