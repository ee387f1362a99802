"""The console for tables, bars and texts: what a text contains is shown, never carried out."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from vigos_cli.utils.control_characters import printable


class Terminal(Console):
    """A console whose texts are shown as they are: no markup, no emoji codes, no control characters."""

    def render_str(self, text: str, **options: Any) -> Any:
        """The text to print; rich calls this for every string, also for those in the cells of a table."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})
