"""Compose configurations with Hydra and convert them to plain dataclasses.

register()                                     # tell Hydra about the schema, experiments and arms
run: DistillRun = typed(cfg, "distill")

An experiment is a partial configuration. It compares all combinations of the values under
`hydra.sweeper.params`. Where combinations do not fit, it has named `arms`, each a set of overrides:

    arms:
      forward: {loss: forward_kl}               becomes `+arm=forward`, which the experiment sweeps
      jsd_0.9: {loss: jsd, loss.beta: 0.9}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from vigos_cli.config.paths import config_dir, experiments_dir
from vigos_cli.config.run_digest import cell_folder_name, digest
from vigos_cli.config.schema import COMMANDS, AblateRun, AnyRun, RunConfig

STARTED = "VIGOS_STARTED"  # environment variable that gives the start time to the workers of a launcher
# The start time of the run; with several processes, torchrun.py replaces it by the time of rank 0.
started = datetime.fromisoformat(os.environ[STARTED]) if STARTED in os.environ else datetime.now()


@cache
def register() -> None:
    """Tell Hydra about the schema, the experiments and their arms, once per process."""
    store = ConfigStore.instance()
    # One schema for all commands, so that a model's recipe and an experiment work with each of them;
    # `typed` then drops the groups that a command does not use.
    store.store(name="schema", node=AnyRun)
    for file in sorted(experiments_dir().glob("*.yaml")):
        node = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(file)))
        arms: dict[str, dict[str, Any]] = node.pop("arms", {})
        if arms:
            params = node.setdefault("hydra", {}).setdefault("sweeper", {}).setdefault("params", {})
            params["+arm"] = ",".join(arms)
        store.store(group="experiment", name=file.stem, package="_global_", node=node)
        for name, overrides in arms.items():
            store.store(group="arm", name=name, package="_global_", node=arm(name, overrides))


def arm(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The partial configuration of an arm, from its overrides of groups and keys."""
    groups = {folder.name for folder in config_dir().iterdir() if folder.is_dir()}
    chosen = [{f"override /{key}": value} for key, value in overrides.items() if key in groups]
    node: dict[str, Any] = {"defaults": [*chosen, "_self_"], "label": name}
    for key, value in overrides.items():
        if key not in groups:
            *path, last = key.split(".")
            inner = node
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = value
    return node


def _cell_folder(*, _root_: DictConfig) -> str:
    """The folder of a cell in its sweep; the resolver `cell` in `hydra.sweep.subdir` calls it."""
    name = str(_root_.hydra.job.override_dirname)
    return cell_folder_name(
        Path(_root_.hydra.sweep.dir), name, digest(cast(AblateRun, typed(_root_, "ablate")))
    )


# At import and not in register(): the worker of a launcher only imports this module.
OmegaConf.register_new_resolver("started", lambda form: started.strftime(form), replace=True)
OmegaConf.register_new_resolver("cell", _cell_folder, replace=True)


def typed(config: DictConfig, command: str) -> RunConfig:
    """The dataclass of a composed configuration; raises for an unknown key or a wrong value."""
    schema = COMMANDS[command]
    unused = {f.name for f in fields(AnyRun)} - {f.name for f in fields(schema)}
    # As plain containers: OmegaConf would not check keys of a DictConfig that were added with `+`.
    plain = cast(dict[str, Any], OmegaConf.to_container(config))
    plain = {key: value for key, value in plain.items() if key not in unused and key != "hydra"}
    return cast(RunConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain)))


def restored(saved: Mapping[str, Any], schema: type[RunConfig]) -> RunConfig:
    """The dataclass of a configuration that a run recorded; keys outside the schema are left out."""
    known = {item.name for item in fields(schema)}
    content = {key: value for key, value in saved.items() if key in known}
    return cast(RunConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), content)))


def compose(command: str, overrides: list[str]) -> DictConfig:
    """The configuration of `vigos <command> <overrides>`, with the `hydra` node."""
    from hydra import compose, initialize_config_dir

    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir()), job_name=command):
        return compose(command, overrides, return_hydra_config=True)


def job(command: str, overrides: list[str]) -> Any:
    """The configuration of `vigos <command> <overrides>` as a dataclass (see `COMMANDS`)."""
    from hydra.core.hydra_config import HydraConfig

    config = compose(command, overrides)
    HydraConfig.instance().set_config(config)
    return typed(config, command)
