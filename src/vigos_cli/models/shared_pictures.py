"""One pass of the frozen vision tower for several passes of the language model on the same pictures.

    with student.pictures.of(student.base, prompts):
        hidden_BTH = student.hidden(batch)       # the tower runs only if these are other pictures than before

The student and most of its teachers look at the same pictures, one after another in each micro-batch. The
tower has no adapter, so its output is the same for all of them, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from vigos_cli.types import Prompt


class SharedPictures:
    """Keeps the tower's output for the pictures of the last batch, and those pictures."""

    def __init__(self) -> None:
        self._shown: list[Tensor] = []
        self._output: Any = None

    @contextmanager
    def of(self, base: Any, prompts: Sequence[Prompt]) -> Iterator[None]:
        """Inside the block, the model looks at the pictures of these prompts, in their order."""
        shown = [tensor for prompt in prompts for tensor in prompt.features.values()]
        if not shown:
            yield
            return
        inner, encode = base.model, base.model.get_image_features

        def once(*args: Any, **kwargs: Any) -> Any:
            if not self._same(shown):
                self._output, self._shown = encode(*args, **kwargs), shown
            return self._output

        inner.get_image_features = once
        try:
            yield
        finally:
            del inner.get_image_features

    def _same(self, shown: Sequence[Tensor]) -> bool:
        """Whether these are the tensors of the last batch itself: to compare values would take time."""
        return len(shown) == len(self._shown) and all(a is b for a, b in zip(shown, self._shown, strict=True))
