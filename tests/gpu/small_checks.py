"""Checks that need no whole run: the 8-bit optimizer's state, and gradients beside those of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gpu.injected_turns import InjectedTurns
from gpu.sizes import TWIN, overrides
from torch import Tensor, nn

from vigos_cli.config.compose import job
from vigos_cli.training.checkpoint import load_checkpoint, save_checkpoint
from vigos_cli.utils.files import read_tensors

SHAPES = ((1024, 256), (96, 64), (7,))  # paged on a card from 100,000 numbers on; 8-bit from 4,096 on


def resumed_optimizer(folder: Path, device: torch.device) -> dict[str, Any]:
    """Save the 8-bit optimizer after two steps, load it, and compare three more steps with and without it."""
    through, optimizer = _optimizer(device)
    _advance(through, optimizer, 0, 2)
    named = {str(i): p.detach().clone() for i, p in enumerate(through)}
    place = save_checkpoint(
        folder, 2, adapter={n: p.cpu() for n, p in named.items()}, optimizer=optimizer, kept={}, state={}
    )
    _advance(through, optimizer, 2, 5)

    resumed, fresh = _optimizer(device)
    load_checkpoint(place, fresh)
    with torch.no_grad():
        for p, saved in zip(resumed, read_tensors(place / "adapter.safetensors").values(), strict=True):
            p.copy_(saved)
    _advance(resumed, fresh, 2, 5)
    apart = max(float((a - b).detach().abs().max()) for a, b in zip(through, resumed, strict=True))
    paged = sum(
        bool(getattr(value, "is_paged", False))
        for values in optimizer.state.values()
        for value in values.values()
    )
    return {"largest_difference": apart, "moments": moment_dtypes(place), "paged": paged}


def moment_dtypes(checkpoint: Path) -> list[str]:
    """The dtypes of the moments of a saved 8-bit optimizer; small tensors keep theirs in float32."""
    saved = read_tensors(checkpoint / "optimizer.safetensors")
    kinds = {value.dtype for name, value in saved.items() if name.endswith((".state1", ".state2"))}
    return sorted(str(kind).removeprefix("torch.") for kind in kinds)


def _optimizer(device: torch.device) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    from bitsandbytes.optim.adamw import PagedAdamW8bit

    generator = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.randn(shape, generator=generator).to(device)) for shape in SHAPES]
    return made, PagedAdamW8bit(made, lr=1e-2)


def _advance(made: list[nn.Parameter], optimizer: torch.optim.Optimizer, start: int, stop: int) -> None:
    for step in range(start, stop):
        generator = torch.Generator().manual_seed(step)
        for p in made:
            p.grad = torch.randn(p.shape, generator=generator).to(p.device)
        optimizer.step()


def compare_gradients(folder: Path, device: str, dtype: str, seed: int = 0) -> dict[str, Any]:
    """One step of the twin here in `dtype`, and on the CPU in float32: losses, and the two gradients."""
    here, there = _one_step(folder, device, dtype, seed), _one_step(folder, "cpu", "float32", seed)
    mine, theirs = here.pop("gradient"), there.pop("gradient")
    return {
        "here": here | {"norm": float(mine.norm())},
        "cpu": there | {"norm": float(theirs.norm())},
        "cosine": float(torch.dot(mine, theirs) / (mine.norm() * theirs.norm())),
        "difference": float((mine - theirs).norm() / theirs.norm()),
        "losses": max(abs(here["loss"][name] / value - 1) for name, value in there["loss"].items()),
    }


def _one_step(folder: Path, device: str, dtype: str, seed: int) -> dict[str, Any]:
    """The losses of one step and the gradient of the adapter, with an adapter that changes the student."""
    from vigos_cli.data.priorworld import PriorWorld
    from vigos_cli.method.prompts import Prompter
    from vigos_cli.models.student_loading import load_student
    from vigos_cli.supervision.batches import Batches
    from vigos_cli.training.learner import make_learner
    from vigos_cli.training.step import train_step

    own = [f"model.device={device}", f"model.dtype={dtype}", "adapter=lora", "adapter.dropout=0"]
    own += ["loss.clip=none", "trainer.max_grad_norm=1e9", "trainer.micro_batch=2", f"seed={seed}"]
    config = job("distill", ["out=unused", *overrides(TWIN, folder), *own])
    student = load_student(config.model, config.adapter, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, p in student.adapter.items():  # the second matrix starts at zero, and the first has no gradient
        if "lora_B" in name:
            p.data.copy_(torch.randn(p.shape, generator=generator) / 64)
    prompter, learner = (
        Prompter(student.processor, config.prompt, config.routing),
        make_learner(student, config),
    )
    learner.engine = InjectedTurns(student, config.rollout.max_new_tokens)
    line = train_step(learner, Batches(PriorWorld(size=16), prompter, config), prompter, config)
    return {
        "loss": {key.removeprefix("loss/"): value for key, value in line.items() if key.startswith("loss/")},
        "dtype": str(student.base.dtype).removeprefix("torch."),
        "gradient": torch.cat([_gradient(p) for p in student.adapter.values()]),
    }


def _gradient(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad.detach().double().cpu().flatten()
