"""Kills and signals in `vigos distill`."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from runs import RUN

from campaign import killing
from campaign.diary import START, Moment
from campaign.killing import Command, at_change, during
from campaign.trial import Trial
from vigos_cli.data.priorworld import PriorWorld

GROUP = "kills of distill"
SAVING = ("saving a checkpoint", "saving best/", "saving adapter/")
STEP = ("a step", "reading the teachers", "reading the student", "computing the loss")


def rows(folder: Path, size: int = 40) -> Sequence[str]:
    """Own rows, which all have the same answer, so that training finds a best adapter on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    if not file.exists():
        world, lines = PriorWorld(size=size), []
        for i in range(size):
            world[i].images[0].save(folder / f"{i}.png")
            row = {"question": world[i].question, "answer": "red", "images": [f"{i}.png"]}
            lines.append(json.dumps(row) + "\n")
        file.write_text("".join(lines))
    return "data=jsonl", f"data.path={file}"


WORLD = Command("distill", [*RUN, "trainer.eval_every=2"])
FOUR_BIT = Command("distill adapter=qlora", [*RUN, "adapter=qlora"])
HELD = Command(
    "distill bench=holdout",
    [
        *RUN[:4],
        *("trainer.eval_every=2", "routing=sft", "trainer.lr=0.006", "rollout.max_new_tokens=48"),
        *("bench=holdout", "bench.tasks.holdout.rows=8", "bench.samples=1", "bench.max_new_tokens=48"),
    ],
    rows,
)


def twice(rng: random.Random, whole: Path) -> list[Moment]:
    """SIGINT in a step, and again while the checkpoint of that step is saved."""
    step = rng.choice([3, 5])  # after these no checkpoint is due, so the signal makes one
    saving = Moment("saving a checkpoint", (step + 1) // 2, change=rng.randint(1, 6), number=signal.SIGINT)
    return [Moment("sampling rollouts", step, number=signal.SIGINT), saving]


def once(number: int) -> Callable[[random.Random, Path], list[Moment]]:
    """A signal while answers or rollouts are sampled, or in a step."""

    def choose(rng: random.Random, whole: Path) -> list[Moment]:
        return [replace(during(rng, whole, ("sampling answers", "sampling rollouts", *STEP)), number=number)]

    return choose


def trials(seed: int) -> list[Trial]:
    """The trials of this group."""
    phases = (START, "loading the model"), ("sampling answers",), ("sampling rollouts",), STEP
    saving = partial(at_change, phases=SAVING)
    kills: list[tuple[Command, killing.Choice, int]] = [
        *((WORLD, partial(during, phases=names), 1) for names in phases),
        (HELD, saving, 1),
        (HELD, saving, 1),
        (HELD, killing.anywhere, 2),
        (FOUR_BIT, killing.anywhere, 1),
        (FOUR_BIT, killing.anywhere, 3),
        (FOUR_BIT, saving, 1),
    ]
    signals = [
        ("SIGTERM", once(signal.SIGTERM)),
        ("SIGINT", once(signal.SIGINT)),
        ("SIGINT, and again while the checkpoint is saved", twice),
    ]
    return [
        *(
            Trial(
                f"kill distill {number}",
                GROUP,
                partial(killing.kill_and_repeat, command=command, choose=choose, kills=times),
            )
            for number, (command, choose, times) in enumerate(kills, 1)
        ),
        *(
            Trial(
                f"signal distill {number}",
                GROUP,
                partial(killing.signal_and_repeat, command=WORLD, choose=choose, did=did),
            )
            for number, (did, choose) in enumerate(signals, 1)
        ),
    ]
