"""The student: a frozen vision-language model and the LoRA weights that are trained.

    student = load_student(config.model, config.adapter, seed=0)
    batch = student.batch([sequence, ...], [prompt, ...])     # right-padded token ids, with the images
    hidden_BTH = student.hidden(batch)                        # the loss computes logits from hidden states
    with student.weights("initial"): ...                       # the same model as a teacher

The base weights never change. A run compares `frozen_hash` at its start and at its end.

Shapes: B sequences, T tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from vigos_cli.models.adapter_loading import copy_saved_tensors
from vigos_cli.models.sharding import whole
from vigos_cli.models.shared_pictures import SharedPictures
from vigos_cli.types import Prompt
from vigos_cli.utils import process_group


@dataclass(frozen=True, slots=True)
class Student:
    """A model that can sample rollouts, score tokens and be trained.

    `net` is the PEFT model, `adapter` maps the names of its trainable tensors to them.
    """

    net: PeftModel
    processor: Any
    device: torch.device
    adapter: dict[str, torch.nn.Parameter]
    stop_ids: frozenset[int]
    banned_ids: tuple[int, ...]  # placeholders of images: a sampled one would have no image
    quantised_modules: int
    vision_guard: RemovableHandle | None  # `guard_vision_tower`; None if the vision tower is trained
    pictures: SharedPictures | None  # None if the vision tower is trained: its output is then never the same
    sharded: bool = False  # the base is split among the processes, and each pass needs all of them

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def base(self) -> Any:
        """The transformers model, adapter layers included."""
        return self.net.get_base_model()

    @property
    def head_VH(self) -> Tensor:
        """The weight of the frozen output head, (V, H)."""
        return self.base.get_output_embeddings().weight

    def batch(
        self, sequences: Sequence[Sequence[int]], prompts: Sequence[Prompt], *, pad_left: bool = False
    ) -> dict[str, Tensor]:
        """Model inputs for token sequences, each of which begins with its prompt and shows its images."""
        width = max(map(len, sequences))

        def pad(row: Sequence[int], value: int) -> list[int]:
            filler = [value] * (width - len(row))
            return [*filler, *row] if pad_left else [*row, *filler]

        inputs = {
            "input_ids": torch.tensor([pad(row, self.tokenizer.pad_token_id) for row in sequences]),
            "attention_mask": torch.tensor([pad([1] * len(row), 0) for row in sequences]),
        }
        if any(prompt.mm_token_types for prompt in prompts):
            kinds = [
                (*prompt.mm_token_types[: len(row)], *[0] * (len(row) - len(prompt.mm_token_types)))
                for row, prompt in zip(sequences, prompts, strict=True)
            ]
            inputs[self._kinds_name] = torch.tensor([pad(row, 0) for row in kinds])
        for name in dict.fromkeys(name for prompt in prompts for name in prompt.features):
            inputs[name] = _stack([prompt.features[name] for prompt in prompts if name in prompt.features])
        return {  # the processor gives pixels in float32
            name: value.to(self.device, self.base.dtype if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
        }

    @property
    def _kinds_name(self) -> str:
        """The model's argument that marks which tokens are images (Gemma uses an older name)."""
        known = inspect.signature(type(self.base).forward).parameters
        return "mm_token_type_ids" if "mm_token_type_ids" in known else "token_type_ids"

    def hidden(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The last hidden states (B, T, H), the input of the output head."""
        return self.base.model(**batch, use_cache=False).last_hidden_state

    def seeing(self, prompts: Sequence[Prompt]) -> AbstractContextManager[None]:
        """Inside this block, the vision tower looks only at those pictures of the prompts that are new."""
        return self.pictures.of(self.base, prompts) if self.pictures else nullcontext()

    def idle_pass(self) -> Tensor:
        """Read one token of no meaning, because all processes must make each pass of a split model."""
        one = torch.full((1, 1), self.tokenizer.pad_token_id, device=self.device)
        return self.hidden({"input_ids": one, "attention_mask": torch.ones_like(one)})

    @contextmanager
    def weights(self, which: str, kept: Mapping[str, Tensor] | None = None) -> Iterator[None]:
        """Let the model score as a teacher inside the block.

        `initial` switches the adapter off, and `live` keeps it. Any other name replaces the adapter's tensors
        by those in `kept`.
        """
        match which:
            case "initial":
                layers = [layer for layer in self.net.modules() if isinstance(layer, LoraLayer)]
                if layers and all(layer.disable_adapters for layer in layers):  # inside such a block already
                    yield
                    return
                # Not `net.disable_adapter()`, which examines the state of every tensor each time.
                tuner: Any = self.net.base_model
                tuner.disable_adapter_layers()
                try:
                    yield
                finally:
                    tuner.enable_adapter_layers()
            case "live":
                yield
            case _:
                assert kept is not None, which
                live = {name: p.data for name, p in self.adapter.items()}
                try:
                    for name, p in self.adapter.items():
                        p.data = kept[name]
                    yield
                finally:
                    for name, p in self.adapter.items():
                        p.data = live[name]

    def recompute_activations(self) -> None:
        """Switch gradient checkpointing on: keep only each layer's input, recompute the rest when needed.

        transformers also marks the embeddings of text and images as requiring a gradient, which only its
        reentrant form needs. This method removes the mark, because with it the backward pass would go through
        every block of the frozen vision tower.
        """
        self.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.base.disable_input_require_grads()

    def release(self) -> Any:
        """Remove the adapter and the hooks, and return the base model as it was loaded.

        The student cannot be used afterwards.
        """
        base: Any = self.net.unload()
        base.gradient_checkpointing_disable()
        if self.vision_guard:
            self.vision_guard.remove()
        return base

    def frozen_hash(self) -> str:
        """sha256 of every weight that must not change: all parameters and buffers outside the adapter.

        A split model has the same hash: one tensor at a time is put together, for which all processes must
        call this.
        """
        if self.sharded:  # the exchange of tensors has a time-out, and a process may still be busy for long
            process_group.wait()
        digest = hashlib.sha256()
        tensors = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        for name in sorted(set(tensors) - set(self.adapter)):
            digest.update(name.encode())
            flat = whole(tensors[name].detach()).cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def adapter_state(self) -> dict[str, Tensor]:
        """A copy of the adapter's tensors, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.adapter.items()}

    def load_adapter_state(self, state: Mapping[str, Tensor], file: Path) -> None:
        """Copy the tensors of `file` into the adapter. Raises UserError if names or shapes differ."""
        copy_saved_tensors(self.adapter, state, file)


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first axis. Smaller parts are padded with zeros, which models read as padding."""
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    out = parts[0].new_zeros(sum(len(part) for part in parts), *shape)
    start = 0
    for part in parts:
        out[(slice(start, start + len(part)), *map(slice, part.shape[1:]))] = part
        start += len(part)
    return out
