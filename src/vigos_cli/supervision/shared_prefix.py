"""Read the pictures of a micro-batch once for all teachers that have the same weights.

    if saves_enough(student, contexts):                       # {teacher: [contexts of its rows]}
        with weights.model(student, names[0]) as model:
            prefixes = read_prefixes(model, contexts)
            hidden_NH = states_after(model, prefixes, contexts["image"], where)

The contexts of two teachers are equal up to the end of the pictures, if they see the same ones: the system
prompt and the pictures. With large pictures this is most of what a teacher reads. So these tokens are read
once, and each teacher reads only the rest, with their keys and values in front of it. Several draws of one
prompt share them too. Positions and arithmetic are the same as without it, up to rounding.

Shapes: U prefixes of at most P tokens, B rows, S tokens of the longest rest, T tokens of the longest context,
N supervised tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from vigos_cli.generation.decode_loop import cache_argument, can_decode, read_prompts
from vigos_cli.models.adapter_layers import language_model
from vigos_cli.models.student import Student
from vigos_cli.supervision.contexts import Context
from vigos_cli.types import Prompt

LEAST = 0.2  # share of the tokens of all contexts that must be saved: see docs/performance.md

Key = tuple[int, tuple[int, ...]]  # the tensor of the pictures, and the ids


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The keys and values (U, heads, P, width) of each layer, which are padded on the left."""

    layers: Sequence[tuple[Tensor, Tensor]]
    mask_UP: Tensor
    place: Mapping[Key, int]


def saves_enough(student: Student, contexts: Mapping[str, Sequence[Context]]) -> bool:
    """Whether these teachers, which have the same weights, save enough of what they read by sharing it.

    A split model is left out, because all processes must make the same passes.
    """
    if student.sharded or not can_decode(student):
        return False
    every = [context for of_teacher in contexts.values() for context in of_teacher]
    prefixes = [_prefix(student, context.prompt) for context in every]
    if not all(prompt.ids for prompt in prefixes):
        return False  # a context without pictures
    once = {_key(prompt): len(prompt.ids) for prompt in prefixes}
    saved = sum(len(prompt.ids) for prompt in prefixes) - sum(once.values())
    return saved >= LEAST * sum(len(context.ids) for context in every)


def read_prefixes(model: Student, contexts: Mapping[str, Sequence[Context]]) -> Prefixes:
    """Read what the contexts of these teachers share, each prefix once."""
    every = [context for of_teacher in contexts.values() for context in of_teacher]
    prompts = {_key(prompt): prompt for prompt in (_prefix(model, context.prompt) for context in every)}
    _, cache, _, mask_UP = read_prompts(model, list(prompts.values()))
    layers = []
    for layer in cache.layers:
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        layers.append((layer.keys, layer.values))
    return Prefixes(layers, mask_UP, {key: place for place, key in enumerate(prompts)})


def states_after(
    model: Student, prefixes: Prefixes, contexts: Sequence[Context], where: Sequence[tuple[int, int]]
) -> Tensor:
    """The hidden states (N, H) at these places: each a context and a position in it, behind its prefix."""
    short = [_prefix(model, context.prompt) for context in contexts]
    begins = [len(prompt.ids) for prompt in short]
    ends = list(begins)
    for b, position in where:
        ends[b] = max(ends[b], position + 1)
    inputs = model.batch(
        [context.ids[:end] for context, end in zip(contexts, ends, strict=True)],
        [context.prompt for context in contexts],
    )
    positions = model.base._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))

    device, S = model.device, max(end - begin for begin, end in zip(begins, ends, strict=True))
    rest_BS = torch.tensor(begins, device=device)[:, None] + torch.arange(S, device=device)
    rest_BS.clamp_(max=inputs["input_ids"].shape[1] - 1)  # padding, which no state depends on
    rows_B = torch.tensor([prefixes.place[_key(prompt)] for prompt in short], device=device)
    causal_SS = torch.ones(S, S, dtype=torch.bool, device=device).tril()
    mask_B1ST = torch.cat(
        [prefixes.mask_UP[rows_B][:, None].expand(-1, S, -1), causal_SS.expand(len(contexts), -1, -1)], dim=2
    )[:, None]
    cache = DynamicCache()
    for i, (keys, values) in enumerate(prefixes.layers):
        cache.update(keys[rows_B], values[rows_B], i)
    text = model.base.get_submodule(language_model(model.base))
    hidden_BSH = text(
        inputs_embeds=model.base.get_input_embeddings()(inputs["input_ids"].gather(1, rest_BS)),
        position_ids=positions.gather(-1, rest_BS.expand(*positions.shape[:-2], -1, -1)),
        attention_mask=mask_B1ST,
        use_cache=True,
        **{cache_argument(text): cache},
    ).last_hidden_state
    assert all(position >= begins[b] for b, position in where), "a token follows its prefix at once"
    index = torch.tensor([(b, position - begins[b]) for b, position in where], device=device).view(-1, 2)
    return hidden_BSH[index[:, 0], index[:, 1]]


def _prefix(model: Student, prompt: Prompt) -> Prompt:
    """The prompt up to the last token of its pictures."""
    slots = set(model.banned_ids)
    end = max((i + 1 for i, token in enumerate(prompt.ids) if token in slots), default=0)
    if not prompt.features:
        end = 0
    return replace(prompt, ids=prompt.ids[:end], mm_token_types=prompt.mm_token_types[:end])


def _key(prompt: Prompt) -> Key:
    """Equal for prefixes of the same pictures, which are the same tensors, after the same text."""
    return id(next(iter(prompt.features.values()), None)), prompt.ids
