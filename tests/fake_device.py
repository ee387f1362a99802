"""Tensors with real numbers that say they are on a GPU, on a machine that has none.

    with fake_device():
        x = torch.ones(2, device="cuda:0")       # says cuda:0; its numbers are on the CPU
        x + torch.ones(2)                        # RuntimeError: cuda:0 and cpu
        (x + x).sum().item()                     # 4.0

torch's own FakeTensorMode has no numbers, so it stops at the first line that reads one: the forward pass of a
vision-language model reads where its pictures stand. The rules here are those of CUDA: all tensors of an
operation are on one device; a tensor without dimensions and an index may come from the CPU; a copy crosses.

The backward pass needs a driver if a tensor says `cuda`, but not if it says `meta`. So a whole step of
training runs on a fake `meta` device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from vigos_cli.models.student import Student

aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}


class Elsewhere(Tensor):
    """A tensor on a fake device; `on_cpu` has its numbers."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor, device: torch.device) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls,
            on_cpu.size(),
            strides=on_cpu.stride(),
            storage_offset=on_cpu.storage_offset(),
            dtype=on_cpu.dtype,
            device=device,
        )
        made.on_cpu = on_cpu
        return made

    def __repr__(self, **options: Any) -> str:
        return f"Elsewhere({self.on_cpu}, device={self.device})"

    def tolist(self) -> Any:
        """The numbers as Python's; a GPU allows this too."""
        return self.on_cpu.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Check the devices of an operation, compute it on the CPU, and put the result on its device."""
    leaves, shape = pytree.tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    if func is aten.copy_.default:
        device = tensors[0].device
    elif kwargs.get("device") is not None:
        device = torch.device(kwargs["device"])
    else:
        device = ours[0].device if ours else torch.device("cpu")
    if ours and func not in COPIES:
        indices = [id(i) for i in args[1] if i is not None] if func in INDEXING else []
        wrong = [t for t in tensors if t.device != ours[0].device and t.ndim and id(t) not in indices]
        if wrong:
            raise RuntimeError(f"{func}: tensors on {ours[0].device} and {wrong[0].device}")
    leaves = [
        leaf.on_cpu
        if isinstance(leaf, Elsewhere)
        else torch.device("cpu")
        if isinstance(leaf, torch.device)
        else leaf
        for leaf in leaves
    ]
    plain_args, plain_kwargs = pytree.tree_unflatten(leaves, shape)
    result = func(*plain_args, **plain_kwargs)
    if device.type == "cpu":
        return result
    known = {id(tensor.on_cpu): tensor for tensor in ours}  # an operation in place returns its argument
    return pytree.tree_map_only(
        Tensor, lambda t: known[id(t)] if id(t) in known else Elsewhere(t, device), result
    )


class _Constructors(TorchDispatchMode):
    """Catches the operations without a tensor among their arguments, such as `torch.zeros`."""

    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # so that torch does not look for a GPU

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


@contextmanager
def fake_device() -> Iterator[None]:
    """Let tensors be made on devices that this machine does not have."""
    make, autocast = torch.tensor, torch.autocast

    def tensor(data: Any, *args: Any, device: Any = None, **options: Any) -> Tensor:
        data = pytree.tree_map_only(Elsewhere, Elsewhere.tolist, data)
        made = make(data, *args, **options)
        return made if device is None else made.to(device)

    def no_autocast(device_type: str, **options: Any) -> Any:
        return nullcontext() if device_type == "meta" else autocast(device_type, **options)

    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # a list as an index: a tensor on the CPU first
    torch._C._ensureCUDADeviceGuardSet()
    try:
        with (
            mock.patch.object(torch, "tensor", tensor),  # does not pass through the mode
            mock.patch.object(torch, "autocast", no_autocast),  # torch has none for `meta`
            _Constructors(),
        ):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)


def moved(student: Student, device: str) -> Student:
    """Move a student to a fake device; the original can no longer be used."""
    place = torch.device(device)
    for module in student.net.modules():
        for name, value in module._parameters.items():
            if value is not None:
                there = Elsewhere(value.detach(), place)
                module._parameters[name] = torch.nn.Parameter(there, requires_grad=value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = Elsewhere(value, place)
    adapter = {name: p for name, p in student.net.named_parameters() if p.requires_grad}
    return replace(student, device=place, adapter=adapter)
