"""First phase: the vision tower learns to classify the content of every cell of a picture."""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from torch import Tensor

from vigos_cli.data.priorworld.looks import COLOURS, KINDS, PATTERNS
from vigos_cli.data.priorworld.picture import picture
from vigos_cli.data.priorworld.scene import BACKGROUNDS, GRID, Scene, seeded
from vigos_cli.pretraining.collate import pixels
from vigos_cli.pretraining.optimization import Optimization, ahead
from vigos_cli.pretraining.training_questions import training_scene

SIGHT_STEPS, SIGHT_PICTURES, SIGHT_LR = 400, 64, 2e-3  # the vision tower alone


def cell_labels(scenes: list[Scene]) -> Tensor:
    """What is in each cell (pictures x 9, 6): kind, colour, pattern (0: nothing), row, column, background."""
    labels = torch.zeros(len(scenes), GRID * GRID, 6, dtype=torch.long)
    for i, scene in enumerate(scenes):
        cells = torch.arange(GRID * GRID)
        labels[i, :, 3], labels[i, :, 4] = cells // GRID, cells % GRID
        labels[i, :, 5] = list(BACKGROUNDS).index(scene.background)
        for t in scene.things:
            look = (KINDS.index(t.kind), list(COLOURS).index(t.colour), PATTERNS.index(t.pattern))
            labels[i, t.row * GRID + t.column, :3] = torch.tensor(look) + 1
    return labels.view(-1, 6)


def learn_to_see(model: Any, seed: int) -> list[dict]:
    """Train the vision tower under linear heads that are thrown away; return the log."""
    classes = (len(KINDS) + 1, len(COLOURS) + 1, len(PATTERNS) + 1, GRID, GRID, len(BACKGROUNDS))
    heads = torch.nn.Linear(model.config.text_config.hidden_size, sum(classes))
    tower = model.model.visual
    parameters = [*tower.parameters(), *heads.parameters()]
    optimization = Optimization(parameters, SIGHT_LR, SIGHT_STEPS, warmup=100)
    grid = torch.tensor([[1, GRID * 2, GRID * 2]]).expand(SIGHT_PICTURES, -1)
    start, log = time.time(), []

    def draw(step: int) -> tuple[Tensor, Tensor]:
        rng = seeded("sight", seed, step)
        scenes = [training_scene(rng) for _ in range(SIGHT_PICTURES)]
        return pixels([picture(scene, rng) for scene in scenes]), cell_labels(scenes)

    for step, (shown, labels) in enumerate(ahead(draw, SIGHT_STEPS)):
        parts = heads(tower(shown, grid_thw=grid).pooler_output).split(classes, dim=-1)
        losses = [torch.nn.functional.cross_entropy(p, labels[:, k]) for k, p in enumerate(parts)]
        loss = torch.stack(losses).sum()
        optimization.step(loss)
        if step % 100 == 0 or step == SIGHT_STEPS - 1:
            minutes = round((time.time() - start) / 60, 1)
            log.append({"phase": "see", "step": step, "loss": round(loss.item(), 4), "minutes": minutes})
            print(json.dumps(log[-1]), flush=True)
    return log
