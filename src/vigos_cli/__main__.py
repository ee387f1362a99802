"""Entry point of `vigos`, `python -m vigos_cli` and `accelerate launch -m vigos_cli`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vigos_cli.utils.control_characters import escaped_output
from vigos_cli.utils.lost_threads import watch_threads
from vigos_cli.utils.machine_errors import machine_error
from vigos_cli.utils.standard_output import keep_going

SPIN = "1000"  # rounds that a waiting thread of torch spins before it sleeps; the default is 300,000


def main() -> None:
    """Run a command and end the process with its exit code."""
    keep_going()
    watch_threads()
    # Read when torch is imported. Active waiting gains a tenth on an idle machine; on a busy one it takes the
    # processor from the thread that is waited for, and sampling becomes up to eight times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    # Also read then. A process that loses another one would print sixty lines about a socket before its own.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with escaped_output():
        code = run()
    sys.exit(code)


def run() -> int:
    """Run a command; for a mistake in its flags, or a fault of the machine, print one line on stderr."""
    try:
        from vigos_cli.cli.app import app
    except KeyboardInterrupt:
        print("vigos: interrupted", file=sys.stderr)
        return 130
    # Without arguments, show the help and not Typer's error about a missing command.
    arguments = sys.argv[1:] or ["--help"]
    try:
        return app(arguments, prog_name="vigos", standalone_mode=False)
    except Exception as error:
        # Typer does not export the class of its usage errors; all of them have this method.
        if hasattr(error, "format_message"):
            print(f"vigos: {error.format_message()}", file=sys.stderr)  # pyright: ignore[reportAttributeAccessIssue]
            return 2
        line = machine_error(error, Path())
        if line is None:
            raise
        print(f"vigos: {line}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    main()
