"""Merge an adapter into its base, for engines that do not load adapters.

Training never merges: 4-bit weights cannot be merged, and bfloat16 weights drift. This module merges once,
after training. It checks on prompts with images that the merged model gives the same distributions as base
and adapter, and that the saved files give the same result as the merged model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import MergeRun
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.fused_loss import token_log_probs
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.adapter_folder import settle_prompts
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.files import write_json

PROMPTS = 4  # images of PriorWorld, which any model accepts
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}  # nats per token, from rounding


@dataclass(frozen=True, slots=True)
class MergeReport:
    """KL of the merged model from base and adapter on `tokens` tokens, in nats per token."""

    tokens: int
    mean_kl: float
    largest_kl: float


def merge(config: MergeRun) -> MergeReport:
    """Write the merged model, its processor and `merge.json` to `config.out`.

    Raises UserError when the merged model differs by more than the rounding of its weights.
    """
    if config.adapter.path is None:
        raise ConfigError(
            "adapter.path is missing: name the adapter to merge, as in adapter.path=runs/a/adapter"
        )
    settle_prompts(config)
    student = load_student(config.model, replace(config.adapter, quantise="none"))
    prompter = Prompter(student.processor, config.prompt, config.routing)
    batch = _prompts(student, prompter)
    separate_NH = _hidden(student.base, batch)
    merged: Any = student.net.merge_and_unload(safe_merge=True)
    merged_NH = _hidden(merged, batch)
    token_N = batch["input_ids"][batch["attention_mask"].bool()]  # only the KL of these positions is used
    _, kl_N, _ = token_log_probs(separate_NH, student.head_VH, token_N, merged_NH)
    report = MergeReport(len(kl_N), float(kl_N.mean()), float(kl_N.max()))
    if not report.mean_kl <= TOLERANCE[merged.dtype]:
        raise UserError(
            f"the merged model differs by {report.mean_kl:.2g} nats per token: try model.dtype=float32"
        )
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(out, safe_serialization=True)
    student.processor.save_pretrained(out)
    if not _same_when_read(out, merged, batch, merged_NH, token_N):
        raise UserError(f"the model read back from {out} differs from the merged one: is the disk full?")
    write_json(out / "merge.json", {"tokens": report.tokens, "mean_kl": report.mean_kl})
    return report


def _same_when_read(
    out: Path, merged: Any, batch: Mapping[str, Tensor], merged_NH: Tensor, token_N: Tensor
) -> bool:
    """Whether the files have the merged model's weights exactly, and give its distributions up to rounding.

    `merged` cannot be used afterwards: its weights are dropped before those of the files go to the device,
    because two copies of a model of 7 billion weights do not fit a card of 24 GB.
    """
    saved: Any = AutoModelForImageTextToText.from_pretrained(out, dtype=merged.dtype, use_safetensors=True)
    own, read = merged.state_dict(), saved.state_dict()
    if own.keys() != read.keys() or not all(torch.equal(value.cpu(), read[n]) for n, value in own.items()):
        return False
    del own
    merged.to("meta")
    saved.to(merged_NH.device).eval()
    head_VH = saved.get_output_embeddings().weight
    _, kl_N, _ = token_log_probs(merged_NH, head_VH, token_N, _hidden(saved, batch))
    return float(kl_N.mean()) <= TOLERANCE[saved.dtype]


def _prompts(student: Student, prompter: Prompter) -> dict[str, Tensor]:
    """A batch of student prompts with images."""
    samples = [PriorWorld(size=PROMPTS)[i] for i in range(PROMPTS)]
    prompts = [prompter.render(STUDENT, prompter.encode(s.images), question=s.question) for s in samples]
    return student.batch([prompt.ids for prompt in prompts], prompts)


@torch.no_grad()
def _hidden(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The last hidden states (N, H) of the N tokens that are not padding."""
    inputs = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in batch.items()}
    hidden_BTH = model.model(**inputs, use_cache=False).last_hidden_state
    return hidden_BTH[batch["attention_mask"].bool()]
