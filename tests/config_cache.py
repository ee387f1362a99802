"""Hydra reads each file and merges each choice of options once per test process, and then copies it.

Composing a configuration takes a fifth of a second, and the tests do it about a thousand times, most often
with the same options and other values. What is kept here does not depend on the values: the content of a
file, the merged content of a list of files, and the dataclass of a configuration apart from `out`. A file
that has changed is read again. `tests/config/test_config_cache.py` compares with Hydra itself.

Import this module before one that imports names from `vigos_cli.config.compose`.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from vigos_cli.config import compose

_kept: dict[Any, bytes] = {}  # as pickles, because the caller changes what it gets
_nodes: list[Any] = []  # keeps the nodes of the store alive whose ids are keys


def _once(key: Any, make: Callable[[], Any]) -> Any:
    """A copy of what `make` returned when this key was first asked for."""
    if key not in _kept:
        _kept[key] = pickle.dumps(make())
    return pickle.loads(_kept[key])


def _file(source: Any, path: str) -> Any:
    found = os.stat(os.path.join(source.path, source._normalize_file_name(path)))
    return found.st_mtime_ns, found.st_size, found.st_ino


def _resource(source: Any, path: str) -> Any:
    return ()  # a file of Hydra


def _stored(source: Any, path: str) -> Any:
    node = source.store._load(source._normalize_file_name(path)).node
    _nodes.append(node)
    return id(node)


STATES: dict[str, Callable[[Any, str], Any]] = {"file": _file, "pkg": _resource, "structured": _stored}


def _reading(load: Callable[..., Any], state: Callable[[Any, str], Any]) -> Callable[..., Any]:
    def load_config(self: Any, config_path: str) -> Any:
        try:
            key = (type(self), self.provider, self.path, config_path, state(self, config_path))
        except OSError:
            return load(self, config_path)  # it says what is wrong
        result = _once(key, lambda: load(self, config_path))
        result.read_as = key
        return result

    return load_config


def _merging(merge: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    def compose_config(self: Any, defaults: Sequence[Any], repo: Any) -> DictConfig:
        loaded = [repo.load_config(default.config_path) for default in defaults]
        if not all(hasattr(one, "read_as") for one in loaded):
            return merge(self, defaults, repo)
        key = tuple((repr(default), one.read_as) for default, one in zip(defaults, loaded, strict=True))
        return _once(key, lambda: merge(self, defaults, repo))

    return compose_config


def _typing(typed: Callable[..., Any]) -> Callable[..., Any]:
    def as_dataclass(config: DictConfig, command: str) -> Any:
        plain: Any = OmegaConf.to_container(config)
        out = plain.pop("out", None)
        plain.pop("hydra", None)
        if not isinstance(out, str) or "${" in out:
            return typed(config, command)
        key = (command, repr(plain))
        run = _once(key, lambda: typed(config, command))
        run.out = out
        return run

    return as_dataclass


def _copy_of(repository: Any, delegate: Any) -> None:
    """Copy the list of sources and not their content: the store of all experiments would be copied too."""
    repository.delegate, repository.cache = copy.copy(delegate), {}


def _replaced() -> dict[tuple[Any, str], Any]:
    Plugins.instance()  # Hydra imports its classes of sources in a way of its own; only these are used
    sources = {SourcesRegistry.instance().resolve(scheme): state for scheme, state in STATES.items()}
    found: dict[tuple[Any, str], Any] = {
        (source, "load_config"): _reading(source.load_config, state) for source, state in sources.items()
    }
    found[ConfigLoaderImpl, "_compose_config_from_defaults_list"] = _merging(
        ConfigLoaderImpl._compose_config_from_defaults_list
    )
    found[CachingConfigRepository, "__init__"] = _copy_of
    found[compose, "typed"] = _typing(compose.typed)
    return found


_with = _replaced()
_without = {(owner, name): getattr(owner, name) for owner, name in _with}


def install() -> None:
    """Let Hydra use what is kept."""
    for (owner, name), function in _with.items():
        setattr(owner, name, function)


@contextmanager
def switched_off() -> Iterator[None]:
    """Hydra itself, for a comparison."""
    for (owner, name), function in _without.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        install()


install()
