"""The project's checks: `nox` runs those that every change must pass.

Sessions use the interpreter that nox runs under (`pip install -e .[dev]` gives it all they need), so that
torch is installed once and not once a session.
"""

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "configs", "tests", "slow", "package"]
PYTHON = sys.executable
OTHERS = ("--ignore=tests/config/test_config.py", "--ignore=tests/test_package.py")  # sessions of their own


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff (rules and formatting) and import-linter (the order of the folders, see pyproject.toml)."""
    session.run(PYTHON, "-m", "ruff", "check", ".", external=True)
    session.run(PYTHON, "-m", "ruff", "format", "--check", ".", external=True)
    session.run(str(Path(PYTHON).with_name("lint-imports")), external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Pyright, on the interpreter in use."""
    session.run(PYTHON, "-m", "pyright", "--pythonpath", PYTHON, external=True)


@nox.session
def configs(session: nox.Session) -> None:
    """Every option and experiment composes, and the reference is current."""
    session.run(PYTHON, "-m", "pytest", "-q", "tests/config/test_config.py", *session.posargs, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests that take three minutes in all."""
    session.run(PYTHON, "-m", "pytest", "-q", "-m", "not slow", *OTHERS, *session.posargs, external=True)


@nox.session
def slow(session: nox.Session) -> None:
    """The others: kills and resumes, two processes, every model family."""
    session.run(PYTHON, "-m", "pytest", "-q", "-m", "slow", *OTHERS, *session.posargs, external=True)


@nox.session
def package(session: nox.Session) -> None:
    """Wheel and sdist, each installed afresh and run outside the checkout."""
    session.run(PYTHON, "-m", "pytest", "-q", "tests/test_package.py", external=True)


@nox.session
def reference(session: nox.Session) -> None:
    """Write what is made from the source: conf/README.md, the lists of files, docs/routing.svg."""
    text = session.run(PYTHON, "-m", "vigos_cli.cli.explain", external=True, silent=True)
    Path("conf/README.md").write_text(str(text), encoding="utf-8")
    session.run(PYTHON, "tests/tools/file_map.py", external=True)
    session.run(PYTHON, "tests/tools/routing_picture.py", external=True)


@nox.session
def pretrain_tiny(session: nox.Session) -> None:
    """Make the embedded model again from scratch: up to an hour on two cores."""
    session.run(PYTHON, "-m", "vigos_cli.pretraining.pretrain", *session.posargs, external=True)
