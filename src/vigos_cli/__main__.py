"""Entry point of `vigos`, `python -m vigos_cli` and `accelerate launch -m vigos_cli`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vigos_cli.utils.machine_errors import machine_error
from vigos_cli.utils.standard_output import keep_going

SPIN = "1000"  # rounds that a waiting thread of torch spins before it sleeps; the default is 300,000


def main() -> None:
    """Run a command; for a mistake in its flags, print one line on stderr and exit with 2."""
    keep_going()
    # Read when torch is imported. Active waiting gains a tenth on an idle machine; on a busy one it takes the
    # processor from the thread that is waited for, and sampling becomes up to eight times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    from vigos_cli.cli.app import app

    # Without arguments, show the help and not Typer's error about a missing command.
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, prog_name="vigos", standalone_mode=False)
    except Exception as error:
        # Typer does not export the class of its usage errors; all of them have this method.
        if not hasattr(error, "format_message"):
            line = machine_error(error, Path())
            if line is None:
                raise
            code = 1
        else:
            line, code = error.format_message(), 2  # pyright: ignore[reportAttributeAccessIssue]
        print(f"vigos: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
