"""Split the frozen weights of a model among the processes of a run (`trainer.shard=fsdp2`).

    base = split_base(base, device)      # loaded to the CPU in the first process, empty in the others
    for tensor in base.parameters():
        whole(tensor)                    # the whole tensor, on every process

The weights of the language model's layers are split, with `fully_shard` of PyTorch. Before a layer runs, in
the forward and again in the backward pass, all processes send each other their parts of it; afterwards each
keeps only its own part. The weights have no gradient, so nothing is sent back.

The vision tower, the embeddings and the output head are not split. Not every rollout or teacher has a
picture, so the processes run the tower a different number of times and could not exchange its weights. The
loss reads the head in chunks, as often as it has tokens. The adapter is added afterwards, and every process
has all of it.

Each pass of a split model is an exchange of all processes, so all of them must make the same number of passes
(`vigos_cli.supervision.even_passes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vigos_cli.utils import process_group
from vigos_cli.utils.errors import UserError

Place = tuple[dict[str, Any], str]  # where a module holds a tensor: one of its dictionaries, and the key


def split_base(base: Any, device: torch.device) -> Any:
    """Send the model from the first process to all, and keep a part of it in each; all must call this.

    The model goes layer by layer, so that a device never holds more than its part and one whole layer.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    decoder = base.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UserError(f"trainer.shard: {type(base).__name__} has no list of layers: set it to none")
    mesh = init_device_mesh(device.type, (process_group.size(),))
    for layer in layers:
        send_tensors(layer.modules(), device)
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    inside = {id(module) for module in layers.modules()}
    send_tensors((module for module in base.modules() if id(module) not in inside), device)
    # The decoder is the root: it has no weights to split, but its layers can then be fetched ahead.
    rest = {p for name, p in decoder.named_parameters() if not name.startswith("layers.")}
    fully_shard(decoder, mesh=mesh, ignored_params=rest)
    return base


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor. If it is split, all processes must call this together."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def send_tensors(modules: Iterable[nn.Module], device: torch.device) -> None:
    """Replace the tensors of these modules by those of the first process, on the device."""
    held = _tensors(modules)
    found = process_group.gather([(tensor.shape, tensor.dtype) for tensor, _ in held])
    first = process_group.rank() == 0
    for (old, places), (shape, dtype) in zip(held, found[0], strict=True):
        new = torch.empty(shape, dtype=dtype, device=device)
        if first:
            new.copy_(old.detach())
        process_group.fill_from_first(new)
        value = nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new
        for holder, key in places:
            holder[key] = value


def _tensors(modules: Iterable[nn.Module]) -> list[tuple[Tensor, list[Place]]]:
    """Every tensor of these modules once, with all places that hold it (tied weights have two)."""
    found: dict[int, tuple[Tensor, list[Place]]] = {}
    for module in modules:
        for holder in (module._parameters, module._buffers, vars(module)):  # the last: plain attributes
            for key, value in holder.items():
                if isinstance(value, Tensor):
                    found.setdefault(id(value), (value, []))[1].append((holder, key))
    return list(found.values())
