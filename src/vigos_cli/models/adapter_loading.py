"""Load a saved adapter completely; refuse it at the first difference from the model.

    net = load_adapter(base, config.adapter)              # a PEFT folder, or a checkpoint of a run
    copy_saved_tensors(student.adapter, saved, file)      # the strict copy, also used when a run resumes

PEFT skips tensors whose names it does not know and only prints a warning. The model would then be evaluated
as its base. Here every tensor of the file must exist in the model, every adapter tensor of the model must be
in the file, and the values are read back after loading.

Names that an older transformers gave to modules are translated with transformers' own table of renamings,
for example `model.layers.0` to `model.language_model.layers.0` in Qwen2-VL.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from vigos_cli.config.schema import AdapterConfig
from vigos_cli.config.torchrun import launched_rank
from vigos_cli.models.adapter_layers import lora_config
from vigos_cli.utils.errors import UserError, one_line
from vigos_cli.utils.files import read_tensors

PREFIX = "base_model.model."  # PEFT adds it before the names of the base model's modules
# The part of a tensor's name that PEFT adds after the name of the wrapped module.
WRAPPED = re.compile(r"\.(?:lora_|base_layer\.|modules_to_save\.|token_adapter\.|trainable_tokens_)")
# Initialisations that leave the base weights unchanged.
NEUTRAL_INITS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")


def load_adapter(base: Any, adapter: AdapterConfig) -> PeftModel:
    """Add the adapter at `adapter.path` to the base model: a PEFT folder, or a checkpoint of a run."""
    assert adapter.path is not None
    folder = Path(adapter.path)
    if (checkpoint := folder / "adapter.safetensors").is_file():
        return _from_checkpoint(base, adapter, checkpoint)
    return _from_peft_folder(base, folder)


def copy_saved_tensors(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], file: Path) -> None:
    """Copy saved tensors into the model's tensors `own`; copy none if any name or shape differs.

    Raises UserError that names the first difference.
    """
    for name in saved:
        if name not in own:
            siblings = [other for other in own if _base_module(other) == _base_module(name)]
            raise UserError(
                f"{file}: the tensor {name} has no place in the model's adapter layers"
                f"{_closest(name, siblings)}: not loaded"
            )
    for name, place in own.items():
        if name not in saved:
            raise UserError(f"{file}: the tensor {name} ({_size(place)}) is missing: not loaded")
        if saved[name].shape != place.shape:
            raise UserError(
                f"{file}: {name} has the shape {_size(saved[name])} instead of {_size(place)}"
                f"{_ranks(name, saved[name], place)}: not loaded"
            )
        if not saved[name].to(place.dtype).isfinite().all():
            raise UserError(f"{file}: {name} holds NaN or infinite values: not loaded")
    with torch.no_grad():
        for name, place in own.items():
            place.copy_(saved[name])


def _closest(name: str, names: Iterable[str]) -> str:
    found = get_close_matches(name, [other for other in names if other], n=1)
    return f" (the closest is {found[0]})" if found else ""


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _ranks(name: str, saved: Tensor, place: Tensor) -> str:
    """The two ranks, if the shapes of a LoRA matrix differ only in the rank; else an empty string."""
    for part, axis in (("lora_A", 0), ("lora_B", 1)):
        if f".{part}." in name and saved.ndim == 2 and saved.shape[1 - axis] == place.shape[1 - axis]:
            return f" (rank {saved.shape[axis]} in the file, {place.shape[axis]} in its configuration)"
    return ""


# ---------------------------------------------------------------- a PEFT folder


def _from_peft_folder(base: Any, folder: Path) -> PeftModel:
    """Load an adapter as PEFT saves it: adapter_config.json and adapter_model.safetensors."""
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        pickle = ": adapter_model.bin is a pickle, which can run code; save the adapter as safetensors"
        raise UserError(
            f"adapter.path={folder} holds no {file.name}"
            + (pickle if (folder / "adapter_model.bin").is_file() else "")
        )
    config = _read_config(folder / "adapter_config.json")
    saved = read_tensors(file)
    names = _Names(base)
    current = names.translate(saved, file)
    if renamed := [(old, new) for old, new in current.items() if old != new]:
        config = names.update(config, current)
    net = _inject(base, config, folder)
    saved = {current[name]: value for name, value in saved.items()}
    copy_saved_tensors(_saved_names(net), saved, file)
    for name, value in _saved_names(net).items():
        if not torch.equal(value.cpu(), saved[name].to(value.dtype)):
            raise UserError(f"{file}: {name} does not have the file's values after loading")
    if renamed:
        told = dict.fromkeys(_renaming(old, new) for old, new in renamed)
        _tell(f"{file}: module names of an older transformers: {', '.join(told)}")
    return net


def _read_config(file: Path) -> LoraConfig:
    """Read adapter_config.json. Refuse settings that change the base model's own weights."""
    if not file.is_file():
        raise UserError(f"adapter.path={file.parent} holds no {file.name}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        kind = values["peft_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {one_line(error)}") from error
    if kind != "LORA":
        raise UserError(f"{file}: peft_type={kind}: only LORA adapters can be loaded")
    if unknown := sorted(k for k in values.keys() - {f.name for f in fields(LoraConfig)} if values[k]):
        _tell(f"{file}: settings that this version of PEFT does not know are ignored: {', '.join(unknown)}")
    known = {f.name: values[f.name] for f in fields(LoraConfig) if f.init and f.name in values}
    try:
        config = LoraConfig(**known)
    except Exception as error:  # PEFT raises errors of many kinds for invalid values
        raise UserError(f"{file} is damaged: {one_line(error)}") from error
    for name, changes in (
        ("bias", config.bias != "none"),
        ("init_lora_weights", config.init_lora_weights not in NEUTRAL_INITS),
        ("layer_replication", bool(config.layer_replication)),
    ):
        if changes:
            raise UserError(
                f"{file}: {name}={getattr(config, name)} changes the base model itself: not supported"
            )
    config.inference_mode = False
    return config


def _inject(base: Any, config: LoraConfig, folder: Path) -> PeftModel:
    """Add untrained adapter layers to the base."""
    try:
        return PeftModel(base, config)
    except Exception as error:  # PEFT checks a configuration against the model with errors of many kinds
        file = folder / "adapter_config.json"
        raise UserError(f"{file} does not fit this model: {one_line(error)}") from error


def _saved_names(net: PeftModel) -> dict[str, Tensor]:
    """The adapter's tensors in the model, under the names that PEFT gives them in a file."""
    return get_peft_model_state_dict(net, save_embedding_layers=False)


# ---------------------------------------------------------------- a checkpoint


def _from_checkpoint(base: Any, adapter: AdapterConfig, file: Path) -> PeftModel:
    """Load `out/checkpoints/step-N/adapter.safetensors`; rank and layers come from that run's config.json."""
    run = file.parents[2] / "config.json"
    if not run.is_file():
        raise UserError(f"adapter.path={file.parent}: no config.json of its run in {run.parent}")
    try:
        saved = json.loads(run.read_text(encoding="utf-8"))["adapter"]
        keys = ("r", "alpha", "dropout", "targets", "vision")
        own = replace(adapter, **{key: saved[key] for key in keys}, path=saved.get("path"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run} is damaged: {one_line(error)}") from error
    tensors = read_tensors(file)
    current = _Names(base).translate(tensors, file)
    if own.path is None:
        net = get_peft_model(base, lora_config(base, own))
    elif Path(own.path).is_dir():  # the run started from another adapter and kept its rank and layers
        net = load_adapter(base, own)
    else:
        raise UserError(f"{run}: this run started from adapter.path={own.path}, which no longer exists")
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    copy_saved_tensors(trained, {current[name]: value for name, value in tensors.items()}, file)
    return net


# ---------------------------------------------------------------- names of modules


class _Names:
    """Translate module names of older transformers versions to those of the loaded base model."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self.modules = dict(base.named_modules())
        known = get_model_conversion_mapping(base, add_legacy=False)
        self.forward = [step for step in known if isinstance(step, WeightRenaming)]
        self.backward: list[Any] = [step.reverse_transform() for step in reversed(self.forward)]

    def translate(self, saved: Iterable[str], file: Path) -> dict[str, str]:
        """The current name of each saved tensor. Raises UserError if the model has no such module."""
        current: dict[str, str] = {}
        for name in saved:
            if not name.startswith(PREFIX):
                raise UserError(f"{file}: the tensor {name} does not begin with {PREFIX}: not loaded")
            inner = name.removeprefix(PREFIX)
            if _module(inner) not in self.modules:
                inner = rename_source_key(inner, self.forward, [])[0]
            if _module(inner) not in self.modules:
                close = _closest(_base_module(name), self.modules)
                raise UserError(
                    f"{file}: the tensor {name} belongs to no module of this {type(self.base).__name__}"
                    f"{close}: not loaded"
                )
            current[name] = PREFIX + inner
        if len(set(current.values())) < len(current):
            raise UserError(f"{file} holds the same tensors under an old and a new name")
        return current

    def update(self, config: LoraConfig, current: Mapping[str, str]) -> LoraConfig:
        """Replace patterns of old module names by the current full names, each with its rank and alpha."""
        former = {_base_module(new): _base_module(old) for old, new in current.items()}
        # LoRA adapts linear layers and embeddings, which have no modules inside.
        leaves = [
            name
            for name, module in self.modules.items()
            if next(module.children(), None) is None and getattr(module, "weight", None) is not None
        ]
        known_as = {name: former.get(name) or self._oldest_name(name) for name in leaves}
        if not any(check_target_module_exists(config, was) for was in known_as.values()):
            known_as = {name: name for name in leaves}  # old tensor names, but a pattern of the current ones
        targets, ranks, alphas = [], {}, {}
        for name, was in known_as.items():
            if check_target_module_exists(config, was):
                targets.append(name)
                key = re.escape(name)
                ranks[key] = _at(config.rank_pattern, was, config.r)
                alphas[key] = _at(config.alpha_pattern, was, config.lora_alpha)
        config = copy(config)
        config.target_modules = set(targets)  # pyright: ignore[reportAttributeAccessIssue]
        config.rank_pattern = {key: r for key, r in ranks.items() if r != config.r}
        config.alpha_pattern = {key: alpha for key, alpha in alphas.items() if alpha != config.lora_alpha}
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        return config

    def _oldest_name(self, module: str) -> str:
        return _module(rename_source_key(f"{module}.weight", self.backward, [])[0])


def _module(tensor: str) -> str:
    """The part of a tensor's name that names a module of the base."""
    mark = WRAPPED.search(tensor)
    return tensor[: mark.start()] if mark else tensor.rpartition(".")[0]


def _base_module(saved: str) -> str:
    """The base model's module that a saved tensor belongs to."""
    return _module(saved.removeprefix(PREFIX))


def _at(pattern: Mapping[str, int] | None, module: str, default: int) -> int:
    """A module's rank or alpha: its entry in the pattern, or the default."""
    return pattern.get(get_pattern_key([*pattern], module), default) if pattern else default


def _renaming(old: str, new: str) -> str:
    """The part in which two names differ, as `model is read as model.language_model`."""
    before, after = _base_module(old).split("."), _base_module(new).split(".")
    while len(before) > 1 and len(after) > 1 and before[-1] == after[-1]:
        del before[-1], after[-1]
    return f"{'.'.join(before)} is read as {'.'.join(after)}"


def _tell(text: str) -> None:
    """Print one line on stderr, from the first process only."""
    if launched_rank() == 0:
        print(f"vigos: {text}", file=sys.stderr)
