"""The configuration of the model that `plan=true` estimates: the hub's, or one that ships with vigos.

>>> settings, note = planned_config(config.model)
>>> model = empty_model(settings)                   # on the meta device, without weights
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from vigos_cli.config.schema import ModelConfig
from vigos_cli.models.pretrained import fetch
from vigos_cli.utils.errors import UserError

KNOWN = Path(__file__).parent / "known_configs"


def planned_config(config: ModelConfig) -> tuple[Any, str]:
    """The model's configuration, and a line for the user if it is not the one of the hub or the folder.

    If the hub does not answer and the local cache has no copy, the shipped configuration is used. Raises
    UserError if there is none for this model.
    """
    try:
        return fetch(AutoConfig.from_pretrained, config), ""
    except UserError:
        known = known_config(config.path)
        if known is None:
            raise
    return (
        known,
        f"{config.path} could not be read from the hub: the configuration that ships with vigos is used",
    )


def known_config(path: str) -> Any | None:
    """The shipped configuration of a hub id; None if there is none."""
    file = KNOWN / f"{path.replace('/', '--')}.json"
    return AutoConfig.for_model(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
