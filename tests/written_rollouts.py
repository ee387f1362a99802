"""Rollouts with a given text on PriorWorld samples, and what their teachers read; nothing is sampled.

rows = written("sdpo", [r"The tree is yellow. </think> \\boxed{yellow}", ...])
rows[0].message("hinted")      # the text of the user in the teacher's prompt
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from conftest import distill_config
from PIL.Image import Image

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, as_rollout
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import prepare
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.types import Rollout, Sample

DATA = PriorWorld(size=64)  # its first sample asks for the colour of the tree, which is yellow
RIGHT = r"The tree is yellow. </think> \boxed{yellow}"
WRONG = r"The tree is green. </think> \boxed{green}"
BROKEN = "The tree is in"
SLOTS = re.compile(r"(<\|vision_start\|>|<\|image_pad\|>|<\|vision_end\|>)+")


@cache
def routed(name: str, *overrides: str, n: int = 2) -> Any:
    """The configuration of a run of a published method with n rollouts for each prompt; not to be changed."""
    return distill_config(f"routing={name}", f"rollout.n={n}", f"trainer.batch={4 * n}", *overrides)


def prepared(
    student: Any, config: Any, indices: Sequence[int] = (0,), data: Any = DATA
) -> tuple[Prompter, list[Prepared]]:
    """The prompter of a run, and samples of the data as it reads them. No row may be left out."""
    prompter, counts = Prompter(student.processor, config.prompt, config.routing), Counter[str]()
    items = prepare(data, list(enumerate(indices)), prompter, config, counts)
    assert len(items) == len(indices), counts
    return prompter, items


def write(student: Any, item: Prepared, text: str, draw: int = 0, *, finished: bool = True) -> Rollout:
    """A rollout whose sampled tokens are those of the text and the end of the turn."""
    ids = student.tokenizer(text, add_special_tokens=False)["input_ids"]
    end = [student.tokenizer.eos_token_id] if finished else []
    return as_rollout(student, Request(item.key, item.prompt, draw), (*ids, *end))


@dataclass(frozen=True)
class Written:
    """One supervised rollout, with the sample and the model whose texts and pictures are asked for."""

    row: Supervised
    sample: Sample
    item: Prepared
    student: Any

    def message(self, context: str) -> str:
        """The text that a context is asked, without the slots of its pictures."""
        ids = self.row.contexts[context].prompt.ids
        text = SLOTS.sub("", self.student.tokenizer.decode(ids))
        found = re.fullmatch(
            r"<\|im_start\|>user\n(.*)<\|im_end\|>\n<\|im_start\|>assistant\n<think>", text, re.DOTALL
        )
        assert found, text
        return found[1]

    def pictures(self, context: str) -> tuple[Image, ...]:
        """The pictures that a context is shown."""
        return self.row.contexts[context].prompt.images

    def tokens(self, by: str) -> list[int]:
        """The sampled tokens that one name supervises."""
        return sorted(i for term in self.row.terms if term.by == by for i in term.tokens)

    @property
    def length(self) -> int:
        return len(self.row.rollout.ids)


def written(
    student: Any,
    name: str,
    texts: Sequence[str],
    *overrides: str,
    indices: Sequence[int] = (0,),
    data: Any = DATA,
) -> list[Written]:
    """Rollouts of each prompt with these texts, as the run of a method supervises them."""
    config = routed(name, *overrides, n=max(2, len(texts)))
    prompter, items = prepared(student, config, indices, data)
    rollouts = [
        (item, write(student, item, text, draw, finished=text != BROKEN))
        for item in items
        for draw, text in enumerate(texts)
    ]
    rows = supervise_all(rollouts, prompter, config)
    assert all(row.rollout.prompt.context == STUDENT for row in rows)
    return [Written(row, item.sample, item, student) for row, (item, _) in zip(rows, rollouts, strict=True)]
