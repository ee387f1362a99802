"""One pass of the frozen vision tower for all passes of the language model on the same pictures.

    with student.seeing(prompts):
        hidden_BTH = student.hidden(batch)       # the tower runs only if one of the pictures is new

A picture of a training step is looked at by the sampler, by most of the teachers and by the student. The
tower has no adapter, so its output is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from vigos_cli.types import Prompt

ROOM = 2**28  # bytes of outputs that are kept at most
OUTPUTS = ("pooler_output", "deepstack_features")  # what the language model gets of the tower's output


class SharedPictures:
    """The tower's outputs for the pictures of prompts that still exist, up to `ROOM` bytes."""

    def __init__(self) -> None:
        self._known = WeakIdKeyDictionary()  # a tensor of a prompt's pictures -> its part of the output

    @contextmanager
    def of(self, base: Any, prompts: Sequence[Prompt]) -> Iterator[None]:
        """Inside the block, the model looks at the pictures of these prompts, in their order."""
        shown = [prompt for prompt in prompts if prompt.features]
        if not shown:
            yield
            return
        inner, encode = base.model, base.model.get_image_features

        def once(*args: Any, **kwargs: Any) -> Any:
            known = [self._known.get(_key(prompt)) for prompt in shown]
            if all(part is not None for part in known):
                return _joined(known)
            output = encode(*args, **kwargs)
            self._keep(shown, output)
            return output

        inner.get_image_features = once
        try:
            yield
        finally:
            del inner.get_image_features

    def forget(self) -> None:
        """Drop everything."""
        self._known.clear()

    def _keep(self, shown: Sequence[Prompt], output: Any) -> None:
        """Keep the part of each prompt; the oldest parts leave if there is no room."""
        for prompt, part in zip(shown, _parts(shown, output), strict=False):
            self._known.pop(_key(prompt), None)
            self._known[_key(prompt)] = part
        sizes = [(key, _size(part)) for key, part in self._known.items()]
        too_much = sum(size for _, size in sizes) - ROOM
        for key, size in sizes:
            if too_much <= 0:
                break
            del self._known[key]
            too_much -= size


def _key(prompt: Prompt) -> Tensor:
    """The tensor itself stands for the pictures: to compare values would take time."""
    return next(iter(prompt.features.values()))


def _parts(shown: Sequence[Prompt], output: Any) -> list[Any]:
    """The tower's output for each prompt; nothing if the output is not a list over pictures or prompts."""
    found = {name: output[name] for name in OUTPUTS if output.get(name) is not None}
    deep = found.get("deepstack_features", ())
    if any(not isinstance(value, list | tuple) for value in (*found.values(), *deep)):
        return []
    count = len(found["pooler_output"])
    pictures = [len(prompt.images) for prompt in shown]
    steps = [1] * len(shown) if count == len(shown) else pictures
    if sum(steps) != count or any(len(level) != count for level in deep):
        return []
    parts, start = [], 0
    for step in steps:
        part = slice(start, start + step)
        parts.append(
            type(output)(
                **{
                    name: [level[part] for level in value] if name == "deepstack_features" else value[part]
                    for name, value in found.items()
                }
            )
        )
        start += step
    return parts


def _joined(parts: Sequence[Any]) -> Any:
    """The output of a pass over all these prompts."""
    values: dict[str, Any] = {"pooler_output": tuple(x for part in parts for x in part["pooler_output"])}
    if "deepstack_features" in parts[0]:
        levels = zip(*(part["deepstack_features"] for part in parts), strict=True)
        values["deepstack_features"] = [tuple(x for part in level for x in part) for level in levels]
    return type(parts[0])(**values)


def _size(part: Any) -> int:
    """The bytes of a prompt's part of the output."""
    levels = [part["pooler_output"], *part.get("deepstack_features", ())]
    return sum(tensor.numel() * tensor.element_size() for level in levels for tensor in level)
