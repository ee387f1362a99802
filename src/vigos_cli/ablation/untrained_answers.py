"""The untrained student's answers, which one cell makes and the other cells copy.

The answers depend only on the model, the prompt, the form of the student's turn and the benchmarks.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vigos_cli.ablation.cells import STARTED
from vigos_cli.ablation.made_once import find_made, lock_file
from vigos_cli.config.provenance import recorded
from vigos_cli.config.schema import AblateRun, DistillRun, may_change
from vigos_cli.utils.files import drafted

BENCHES = "before"  # folder: verdicts on each benchmark other than PriorWorld
# With bench=holdout also the keys that say which rows are held back, and how many of them are asked.
OF_HOLDOUT = ("data", "limit", "trainer.steps", "trainer.batch", "trainer.eval_every", "rollout.n")
OF_HOLDOUT += ("rollout.max_new_tokens", "rollout.name")
FILES = (
    "before.jsonl",
    "before.json",
)  # in the order in which a run writes them; the last one shows that the answers are complete


def untrained_key(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a run's configuration on which the answers of its untrained student depend.

    Only a saved adapter counts: a new adapter starts at zero, whatever its rank and seed.
    """
    wanted = {"model", "prompt", "bench", "adapter.path", "adapter.quantise", "routing.student.format"}
    content = recorded(config, DistillRun)
    if "bench.tasks.holdout.rows" in content:
        wanted.update(OF_HOLDOUT)
    return {
        k: v
        for k, v in content.items()
        if v is not None and not may_change(k) and not {k, k.split(".")[0]}.isdisjoint(wanted)
    }


def untrained_lock(config: AblateRun) -> Path:
    """The lock that a cell holds while it makes these answers."""
    return lock_file(Path(config.out).parent, "untrained", untrained_key(asdict(config)))


def has_untrained_answers(config: AblateRun) -> bool:
    """Whether the cell has these answers, after copying them from another cell of the sweep if possible."""
    out = Path(config.out)
    if (out / FILES[-1]).exists():
        return True
    cells = (path.parent for path in out.parent.glob(f"[!.]*/{STARTED}"))
    source = find_made(cells, untrained_key(asdict(config)), _key_of)
    if source is None:
        return False
    if (source / BENCHES).is_dir():
        shutil.copytree(source / BENCHES, out / BENCHES, dirs_exist_ok=True)
    for name in FILES:
        with drafted(out / name) as draft:
            shutil.copyfile(source / name, draft)
    return True


def _key_of(cell: Path) -> dict[str, Any] | None:
    if not (cell / FILES[-1]).exists():
        return None
    return untrained_key(json.loads((cell / STARTED).read_text()))
