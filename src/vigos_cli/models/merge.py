"""A full model from a base and an adapter, for engines that take no adapters.

Training never merges (4-bit weights cannot be, bfloat16 ones drift); this does so once, at the end, and
checks on real prompts that the merged model, and what is on disk, say the same as base and adapter did.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from vigos_cli.config.schema import MergeRun
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.adapter_folder import settle_prompts
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.types import Role
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.files import write_json

PROMPTS = 4  # pictures of PriorWorld: any model reads them
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}  # nats a token: rounding


@dataclass(frozen=True, slots=True)
class MergeReport:
    """How far the merged model is from base and adapter, on `tokens` tokens: KL in nats a token."""

    tokens: int
    mean_kl: float
    largest_kl: float


def merge(config: MergeRun) -> MergeReport:
    """Write the merged model, its processor and `merge.json` to `config.out`.

    Raises UserError when the merged model differs by more than the rounding of its weights.
    """
    if config.adapter.path is None:
        raise ConfigError("adapter.path is missing: the adapter to merge, such as runs/a/adapter")
    settle_prompts(config)
    student = load_student(config.model, replace(config.adapter, quantise="none"))
    prompter = Prompter(student.processor, config.prompt, config.routing)
    batch = _prompts(student, prompter)
    apart = _log_probabilities(student.base, batch)
    merged = student.net.merge_and_unload(safe_merge=True)
    together = _log_probabilities(merged, batch)
    report = _compare(apart, together)
    if report.mean_kl > TOLERANCE[merged.dtype]:
        raise UserError(
            f"merged, the model differs by {report.mean_kl:.2g} nats a token: try model.dtype=float32"
        )
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(out, safe_serialization=True)
    student.processor.save_pretrained(out)
    saved: Any = AutoModelForImageTextToText.from_pretrained(
        out, dtype=merged.dtype, attn_implementation=config.model.attention, use_safetensors=True
    )
    if not torch.equal(_log_probabilities(saved.to(student.device).eval(), batch), together):
        raise UserError(f"{out} does not hold what was merged: is the disk full?")
    write_json(out / "merge.json", {"tokens": report.tokens, "mean_kl": report.mean_kl})
    return report


def _prompts(student: Student, prompter: Prompter) -> dict[str, Tensor]:
    """A batch of student prompts about pictures."""
    samples = [PriorWorld(size=PROMPTS)[i] for i in range(PROMPTS)]
    prompts = [prompter.render(Role.STUDENT, prompter.encode(s.images), question=s.question) for s in samples]
    return student.batch([prompt.ids for prompt in prompts], prompts)


@torch.no_grad()
def _log_probabilities(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """(tokens, V) in float32, over the tokens that are not padding."""
    dtype = next(model.parameters()).dtype
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.items()}
    logits = model(**inputs, use_cache=False).logits
    return logits[batch["attention_mask"].bool()].float().log_softmax(-1)


def _compare(one_NV: Tensor, two_NV: Tensor) -> MergeReport:
    kl_N = (one_NV.exp() * (one_NV - two_NV)).sum(-1)
    return MergeReport(len(kl_N), float(kl_N.mean().clamp(min=0)), float(kl_N.max()))
