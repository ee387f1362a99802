"""Sample a batch token by token from the language model, without the overhead of `generate`.

    turns = decode(student, prompts, draws, choice, most=256, watch=watch)    # one list of ids for each draw

`generate` prepares masks, positions and caches again for each token, and PEFT looks up the adapter in each
layer. At small sizes this takes longer than the arithmetic. Here

- a prompt is read once for all of its draws;
- positions and the mask are known before the first token;
- keys and values are written to buffers that grow by `ROOM` tokens at a time;
- the adapter's matrices are applied directly, or added to the weights of a small layer (`lean_adapter`);
- rows that have ended leave the batch as soon as they are a quarter of it.

The arithmetic is that of `generate`, in an order that differs at most by the shape of a batch. So a token
differs only where two candidates are equal up to rounding. `can_decode` says which models it serves; the
sampler uses `generate` for the others.

Shapes: U prompts, B rows (draws), T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor
from torch.nn.functional import linear
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from vigos_cli.models.adapter_layers import language_model
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt

ROOM = 256  # tokens by which the buffers of keys and values grow
MERGE = 2**20  # weights of a layer up to which the adapter is added to them for the length of a batch
LEAVE = 0.25  # share of the rows that have ended after which they leave the batch


class Choice(Protocol):
    """Chooses the next token of each row."""

    def choose(self, scores_BV: Tensor, position: int) -> Tensor:
        """The chosen ids (B,)."""
        ...

    def keep(self, rows_B: Tensor) -> None:
        """Go on with these rows only."""
        ...


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer in buffers (B, heads, room, width); the first `length` are used."""

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.is_initialized, self.device, self.dtype = True, keys.device, keys.dtype
        self.length = keys.shape[2]
        self._buffers = [self._with_room(part) for part in (keys, values)]

    @staticmethod
    def _with_room(part: Tensor) -> Tensor:
        grown = part.new_empty(*part.shape[:2], part.shape[2] + ROOM, part.shape[3])
        grown[:, :, : part.shape[2]] = part
        return grown

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values behind the others; return views of all."""
        start, self.length = self.length, self.length + key_states.shape[2]
        for i, new in enumerate((key_states, value_states)):
            if self.length > self._buffers[i].shape[2]:
                self._buffers[i] = self._with_room(self._buffers[i])
            self._buffers[i][:, :, start : self.length] = new
        keys, values = (buffer[:, :, : self.length] for buffer in self._buffers)
        return keys, values

    def get_seq_length(self) -> int:
        """The number of tokens that are stored."""
        return self.length

    def keep(self, rows_B: Tensor) -> None:
        """Go on with these rows only."""
        self._buffers = [buffer[rows_B] for buffer in self._buffers]


def can_decode(student: Student) -> bool:
    """Whether the language model keeps plain keys and values and computes attention as the loop expects."""
    text = student.base.config.get_text_config()
    window = getattr(text, "sliding_window", None)
    kinds = set(getattr(text, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    return (
        kinds == {"full_attention"}
        and text._attn_implementation == "sdpa"
        and hasattr(student.base, "_prepare_position_ids_for_generation")
    )


@torch.no_grad()
def decode(
    student: Student,
    prompts: Sequence[Prompt],
    draws: Sequence[int],
    choice: Choice,
    *,
    most: int,
    watch: Callable[[Tensor], object],
) -> list[list[int]]:
    """Sample one turn of at most `most` tokens for each draw; `draws[b]` is the place of its prompt.

    A turn ends with the first token that ends a turn, and is padded behind it. `watch` gets the ids so far
    (B, T) after each token.
    """
    device, base = student.device, student.base
    text, embed = base.get_submodule(language_model(base)), base.get_input_embeddings()
    head = base.get_output_embeddings()
    cache_name = cache_argument(text)
    stops = torch.tensor(sorted(student.stop_ids), device=device)

    with lean_adapter(student):
        hidden_UH, cache, positions, mask_UT = read_prompts(student, prompts)
        rows_B = torch.tensor(draws, device=device)
        layers = _grow(cache, rows_B)
        positions = positions.index_select(-2, rows_B) + 1
        width = mask_UT.shape[1]
        mask_B11T = None
        if not bool(mask_UT.all()):
            new = mask_UT.new_ones(len(draws), most)
            mask_B11T = torch.cat([mask_UT[rows_B], new], dim=1)[:, None, None]
        scores_BV = head(hidden_UH)[rows_B]

        ids_BT = torch.full((len(draws), most), student.tokenizer.pad_token_id, device=device)
        alive_B, place_B = (
            torch.ones(len(draws), dtype=torch.bool, device=device),
            rows_B.new_tensor(range(len(draws))),
        )
        for t in range(most):
            chosen_B = choice.choose(scores_BV, t)
            ids_BT[place_B, t] = torch.where(alive_B, chosen_B, ids_BT[place_B, t])
            watch(ids_BT[:, : t + 1])
            alive_B = alive_B & ~torch.isin(chosen_B, stops)
            left = int(alive_B.sum())
            if not left or t + 1 == most:
                break
            if left <= (1 - LEAVE) * len(alive_B):
                kept = alive_B.nonzero()[:, 0]
                place_B, chosen_B, alive_B = place_B[kept], chosen_B[kept], alive_B[kept]
                positions = positions.index_select(-2, kept)
                mask_B11T = None if mask_B11T is None else mask_B11T[kept]
                choice.keep(kept)
                for layer in layers:
                    layer.keep(kept)
            hidden_B1H = text(
                inputs_embeds=embed(chosen_B)[:, None],
                position_ids=positions,
                attention_mask=None if mask_B11T is None else mask_B11T[..., : width + t + 1],
                use_cache=True,
                **{cache_name: cache},
            ).last_hidden_state
            scores_BV = head(hidden_B1H[:, -1])
            positions = positions + 1
    return ids_BT.tolist()


def cache_argument(text: Any) -> str:
    """The name under which the language model takes its cache, which transformers 5.24 has changed."""
    return "cache" if "cache" in inspect.signature(type(text).forward).parameters else "past_key_values"


def read_prompts(student: Student, prompts: Sequence[Prompt]) -> tuple[Tensor, DynamicCache, Tensor, Tensor]:
    """Read every prompt once.

    Returns the last hidden state of each (U, H), their keys and values, the position of the last token
    (..., U, 1), and which tokens are not padding (U, T).
    """
    inputs = student.batch([prompt.ids for prompt in prompts], prompts, pad_left=True)
    positions = student.base._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
    cache = DynamicCache()
    cache_name = cache_argument(student.base.get_submodule(language_model(student.base)))
    with student.seeing(prompts):
        hidden_UTH = student.base.model(
            **inputs, position_ids=positions, use_cache=True, **{cache_name: cache}
        ).last_hidden_state
    return hidden_UTH[:, -1], cache, positions[..., -1:], inputs["attention_mask"].bool()


def _grow(cache: DynamicCache, rows_B: Tensor) -> list[GrowingLayer]:
    """Replace each layer by one that grows and has a row for each draw; free the old one before the next."""
    layers = []
    for i, layer in enumerate(cache.layers):
        assert type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None
        layers.append(GrowingLayer(layer.keys[rows_B], layer.values[rows_B]))
        cache.layers[i] = layers[-1]
        layer.keys = layer.values = None
    return layers


@contextmanager
def lean_adapter(student: Student) -> Iterator[None]:
    """Let the layers with an adapter compute it directly inside the block, in PEFT's order of operations.

    A small float32 layer gets the sum of its weights and the adapter instead: the same up to rounding.

    An adapter that is switched off, or whose second matrices are zero as before training, costs nothing.
    """
    patched = []
    try:
        for module in student.net.modules():
            if isinstance(module, LoraLayer) and (forward := _lean_forward(module)):
                module.forward = forward  # type: ignore[method-assign]
                patched.append(module)
        yield
    finally:
        for module in patched:
            del module.forward


def _lean_forward(module: Any) -> Callable[..., Tensor] | None:
    """A forward function for a plain LoRA layer; None for a variant, which keeps PEFT's."""
    active = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or (
        not module.lora_variant and not any(bool(module.lora_B[name].weight.any()) for name in active)
    ):
        return partial(_without_adapter, module.base_layer)  # a module itself would become a submodule
    if module.lora_variant or module.merged or len(active) != 1:
        return None
    down, up = module.lora_A[active[0]], module.lora_B[active[0]]
    if down.bias is not None or up.bias is not None:
        return None
    if _can_merge(module.base_layer, down):
        base = module.base_layer
        merged = torch.addmm(base.weight, up.weight, down.weight, alpha=module.scaling[active[0]])
        return partial(linear, weight=merged, bias=base.bias)
    return partial(_with_adapter, module.base_layer, down.weight, up.weight, module.scaling[active[0]])


def _can_merge(base_layer: Any, down: Any) -> bool:
    """Whether one product replaces three: in float32, for weights so small that the calls take the time."""
    same = type(base_layer) is torch.nn.Linear and base_layer.weight.dtype == down.weight.dtype
    return same and down.weight.dtype == torch.float32 and base_layer.weight.numel() <= MERGE


def _without_adapter(base_layer: Any, x: Tensor) -> Tensor:
    return base_layer(x)


def _with_adapter(base_layer: Any, down: Tensor, up: Tensor, scaling: float, x: Tensor) -> Tensor:
    result = base_layer(x)
    return (result + linear(linear(x.to(down.dtype), down), up) * scaling).to(result.dtype)
