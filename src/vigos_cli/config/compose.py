"""Where the configuration lives, and how a composed one becomes plain dataclasses.

register()                                     `schema`, the experiments and their arms are known to Hydra
run: DistillRun = typed(cfg, "distill")

An experiment is a partial configuration. What it compares is a product of values under
`hydra.sweeper.params`, or, where that does not fit, named `arms`, each a set of overrides:

    arms:
      forward: {loss: forward_kl}               becomes `+arm=forward`, swept by the experiment
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

STARTED = "VIGOS_STARTED"  # the environment variable that tells a launcher's workers when the run started
# Of the run; launch.py replaces it by rank 0's when there are several processes.
started = datetime.fromisoformat(os.environ[STARTED]) if STARTED in os.environ else datetime.now()


@cache
def register() -> None:
    """Tell Hydra of the schema, the experiments and their arms, once a process."""
    store = ConfigStore.instance()
    # One schema for all commands, so that a model's recipe and an experiment mean the same to each of
    # them; `typed` then drops the groups that a command has no use for.
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
    """The partial configuration of an experiment's arm: options of groups, and values of keys."""
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
    """The folder of a composed cell within its sweep (the resolver behind `hydra.sweep.subdir`)."""
    name = str(_root_.hydra.job.override_dirname)
    return cell_folder_name(
        Path(_root_.hydra.sweep.dir), name, digest(cast(AblateRun, typed(_root_, "ablate")))
    )


# When imported, not in register(): a launcher's worker imports this file and calls nothing.
OmegaConf.register_new_resolver("started", lambda form: started.strftime(form), replace=True)
OmegaConf.register_new_resolver("cell", _cell_folder, replace=True)


def typed(config: DictConfig, command: str) -> RunConfig:
    """The dataclass of a composed configuration; raises on an unknown key, a wrong type, a bad choice."""
    schema = COMMANDS[command]
    unused = {f.name for f in fields(AnyRun)} - {f.name for f in fields(schema)}
    # Through plain containers: a DictConfig would let keys added with `+` slip past the schema.
    plain = cast(dict[str, Any], OmegaConf.to_container(config))
    plain = {key: value for key, value in plain.items() if key not in unused and key != "hydra"}
    return cast(RunConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain)))


def compose(command: str, overrides: list[str]) -> DictConfig:
    """What Hydra would run `vigos <command> <overrides>` with, the `hydra` node included."""
    from hydra import compose, initialize_config_dir

    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir()), job_name=command):
        return compose(command, overrides, return_hydra_config=True)


def job(command: str, overrides: list[str]) -> Any:
    """The dataclass of `vigos <command> <overrides>` (see `COMMANDS`), without running it."""
    from hydra.core.hydra_config import HydraConfig

    config = compose(command, overrides)
    HydraConfig.instance().set_config(config)
    return typed(config, command)
