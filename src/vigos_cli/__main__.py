"""The program's entry: `vigos ...`, `python -m vigos_cli ...`, `accelerate launch -m vigos_cli ...`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; a mistake in its flags is one line on stderr and exit 2."""
    from vigos_cli.cli.app import app

    # Without arguments Typer would call the missing command an error; the help says more.
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, prog_name="vigos", standalone_mode=False)
    except Exception as error:
        # Typer's usage errors, whose class it does not export: all of them have this method.
        if not hasattr(error, "format_message"):
            raise
        print(f"vigos: {error.format_message()}", file=sys.stderr)  # pyright: ignore[reportAttributeAccessIssue]
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
