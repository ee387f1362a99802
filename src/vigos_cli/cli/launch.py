"""Launch a command: build Hydra's arguments, run the task, and return the exit code.

    launch("distill", ["seed=1,2"], Flags(multirun=True))
    -> argv `vigos --multirun -- seed=1,2` -> hydra.main -> `_task`, once per combination

Exit codes: 0 success; 1 the task failed; 2 a mistake in the configuration; 3 a run of
`vigos distill` was stopped because its model collapsed, and its files are complete; 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from vigos_cli.cli import mistakes
from vigos_cli.config import compose, torchrun
from vigos_cli.config.compose import register, typed
from vigos_cli.config.ignored_keys import ignored_keys
from vigos_cli.config.paths import config_dir
from vigos_cli.config.run_folder import first_result
from vigos_cli.utils.errors import ConfigError, RunRefused, Stopped, UserError
from vigos_cli.utils.machine_errors import explained

ONE_PROCESS = ("rollout", "merge")  # commands that do not share their work between processes


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of a command, which are those of Hydra."""

    multirun: bool = False
    cfg: str | None = None
    package: str | None = None
    resolve: bool = False
    info: str | None = None
    config_dir: Path | None = None


class TaskFailed(Exception):
    """A task failed and its error was printed; carries the exit code through Hydra and its launchers."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"exit code {self.code}"


class Guard(Callback):
    """Hydra callback that refuses bad values and a folder with results before anything is written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a single run."""
        self._check(config, config.hydra.run.dir, alone=True)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a sweep; the values of each job are checked when the job starts."""
        self._check(config, config.hydra.sweep.dir)

    def _check(self, config: DictConfig, out: str, *, alone: bool = False) -> None:
        try:
            run = typed(config, config.hydra.job.config_name)
            if alone and (ignored := ignored_keys(run, config.hydra.overrides.task)):
                raise ConfigError(ignored[0])
            if config.resume == "never" and torchrun.launched_rank() == 0:
                refuse_results(Path(out))
        except Exception as error:
            raise RunRefused from error


def refuse_results(out: Path) -> None:
    """Raise a ConfigError if `out` contains results, so that no run is overwritten."""
    if out.is_file():
        raise ConfigError(f"out={out} is a file: choose a folder")
    if result := first_result(out):
        raise ConfigError(
            f"out={out} is not empty (it contains {result.name}): add resume=auto to resume that run, "
            "or choose another folder"
        )


def launch(command: str, overrides: list[str], flags: Flags) -> int:
    """Run `vigos <command>` and return its exit code."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors, and we print one line
    sigterm = signal.getsignal(signal.SIGTERM)
    if main_thread := threading.current_thread() is threading.main_thread():
        # SIGTERM from a scheduler ends a run like Ctrl-C: files, trackers and servers are closed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.argv = ["vigos", *_arguments(command, overrides, flags)]
        if command in ONE_PROCESS and torchrun.several_processes():
            raise ConfigError(f"vigos {command} runs in one process: start it without torchrun")
        torchrun.end_with_agent()
        torchrun.agree_on_start_time()
        os.environ[compose.STARTED] = compose.started.isoformat()
        register()
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=command)(_task)()
    except KeyboardInterrupt:
        print("vigos: interrupted", file=sys.stderr)
        return 130
    except (TaskFailed, Stopped) as error:
        return error.code
    except (Exception, RunRefused) as error:
        cause = error.__cause__ if isinstance(error, RunRefused) and error.__cause__ else error
        message = torchrun.lost_process(cause)
        cause = explained(cause, mistakes.folder_of(overrides))
        message = message or mistakes.explain(cause, command, overrides)
        if message is None:  # not a mistake of the user
            traceback.print_exception(cause)
        else:
            print(f"vigos: {message}", file=sys.stderr)
        return _exit_code(cause, message)
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, sigterm)
        sys.argv = argv
        os.environ.pop(compose.STARTED, None)
        if full_error is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    return 0


def _arguments(command: str, overrides: list[str], flags: Flags) -> list[str]:
    """The arguments for Hydra, flags first, so that `seed=1 -m` means the same as `-m seed=1`."""
    shows = [f"--{name}" for name in ("multirun", "cfg", "info") if getattr(flags, name)]
    if len(shows) > 1:
        raise ConfigError(f"{' and '.join(shows)} cannot be used together")
    for name in ("package", "resolve"):
        if getattr(flags, name) and not flags.cfg:
            raise ConfigError(f"--{name} needs --cfg job")
    if flags.config_dir and not flags.config_dir.is_dir():
        raise ConfigError(f"--config-dir {flags.config_dir}: there is no such folder")
    mistakes.check_known(command, overrides)
    overrides = [_added(_quoted(override)) for override in overrides]
    if command == "ablate" and not mistakes.sweeps(overrides):
        overrides = ["+experiment=main", *overrides]

    arguments = ["--multirun"] if flags.multirun else []
    for name in ("cfg", "package", "info", "config_dir"):
        if value := getattr(flags, name):
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    arguments += ["--resolve"] if flags.resolve else []
    # The folder names of a sweep contain only the keys that are swept.
    fixed = ["out", "resume", *mistakes.fixed_keys(overrides)]
    naming = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(dict.fromkeys(fixed))}]"
    return [*arguments, "--", naming, *torchrun.overrides_for_rank(), *overrides]


def _added(override: str) -> str:
    """The override, with the sign that Hydra wants for a key of a mapping whose names the user chooses."""
    return f"++{override}" if override.startswith(mistakes.open_mappings()) else override


def _quoted(override: str) -> str:
    """The override, with quotes around its value if the value is the name of a file.

    Many characters of file names have a meaning in Hydra's syntax, such as `=` and `,` in the folders of a
    sweep, or are not allowed in it without quotes.
    """
    key, equals, value = override.partition("=")
    if re.fullmatch(r"[A-Za-z0-9_./:@%+-]*", value) or not os.path.exists(value):
        return override
    return mistakes.quoted(key + equals, value)


def _task(config: DictConfig) -> float | None:
    """Run one job. Its error is printed here, so that the traceback has no frames of Hydra."""
    hydra_config = HydraConfig.get()
    command = str(hydra_config.job.config_name)
    try:
        torchrun.join_submitit_tasks()
        run = typed(config, command)
        run.out = str(hydra_config.runtime.output_dir)  # with -m, the folder of this job
        for line in ignored_keys(run, list(hydra_config.overrides.task)):  # of a job of a sweep
            print(f"vigos: {line}: this job ignores it", file=sys.stderr)
    except Exception as error:
        return _fail(error, mistakes.explain(error, command, list(hydra_config.overrides.task)))
    try:
        return importlib.import_module(f"vigos_cli.cli.commands.{command}").run(run)
    except Exception as raised:
        error = explained(raised, Path(run.out))
        said = str(error) if isinstance(error, UserError) else None
        return _fail(error, torchrun.lost_process(raised) or said)


def _fail(error: BaseException, message: str | None) -> NoReturn:
    """Print the error and end the job: a single run ends, a sweep continues with its other jobs."""
    if message is None:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # not _task's frame
        traceback.print_exception(error)
    else:
        print(f"vigos: {message}", file=sys.stderr)
    code = _exit_code(error, message)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise TaskFailed(code) from None
    sys.exit(code)


def _exit_code(error: BaseException, message: str | None) -> int:
    """2 for a mistake in the configuration, 1 for every other failure."""
    broken = isinstance(error, OSError | RuntimeError) and not isinstance(error, HydraException)
    failed = message is None or broken  # RuntimeError: a launcher's job, such as one that was killed
    return 1 if failed or (isinstance(error, UserError) and not isinstance(error, ConfigError)) else 2
