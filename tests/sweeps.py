"""Made-up folders of sweeps: cells with the files of a finished run, and known shares of right answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from vigos_cli.ablation.cells import Cell, add_to_list, cell_folder
from vigos_cli.config.compose import job
from vigos_cli.config.run_digest import digest
from vigos_cli.config.schema import AblateRun, BenchTask
from vigos_cli.evaluation.benchmarks.priorworld_scoring import priorworld_items
from vigos_cli.types import Sample
from vigos_cli.utils.rng import key as drawn

ROWS = "bench.tasks.priorworld.rows=6"
CAPTION = "hat: red plain top left."
SHARES = {"score": 0.5, "prior": 1.0, "other": 1.0}


@cache
def composed(*overrides: str) -> AblateRun:
    return job("ablate", ["out=unused", "bench.samples=1", *overrides])


def cell(*overrides: str, label: str | None = None) -> Cell:
    """The cell that `vigos ablate <overrides>` plans."""
    run = replace(composed(*overrides))
    run.label = label or run.label
    return Cell(",".join(overrides), digest(run), run)


@cache
def samples(rows: int) -> list[Sample]:
    return priorworld_items(BenchTask(rows=rows, split="heldout"))


def answers(config: Any, shares: dict[str, float], seed: int) -> list[dict[str, Any]]:
    """A greedy and a sampled answer for each item; for each measure the first share of items is right."""
    lines = []
    rows = config.bench.tasks["priorworld"].rows
    several = samples(rows)
    for draw in (0, 1):
        met = dict.fromkeys(shares, 0)
        for sample in several:
            measure = "other" if sample.prior is None else "prior" if sample.prior.agrees else "score"
            number = 2 * rows if measure == "score" else rows
            met[measure] += 1
            right = (met[measure] - 0.5) / number < shares[measure]
            wrong = sample.prior.usual if sample.prior and not sample.prior.agrees else "mauve"
            answer = sample.answer if right else wrong
            text = f"<description> {CAPTION} </description> <think> {seed} </think> \\boxed{{{answer}}}"
            lines.append(
                {
                    "sample_id": sample.id,
                    "draw": draw,
                    "text": text,
                    "description": CAPTION,
                    "answer": answer,
                    "valid": True,
                    "described": True,
                    "tokens": 9,
                }
            )
    return lines


def figures(shares: dict[str, float]) -> dict[str, Any]:
    """The shares in the form of PriorWorld's report."""
    return {**shares, "interval": {name: [share, share] for name, share in shares.items()}}


def finish(sweep: Path, one: Cell, shares: dict[str, float] = SHARES, steps: int = 60) -> Path:
    """Write the files of a finished cell into its folder."""
    where, config = cell_folder(sweep, one), one.config
    where.mkdir(parents=True)
    start = {"score": 0.0, "prior": 1.0, "other": 1.0}
    for name, part in (("before", start), ("responses", shares)):
        lines = "".join(json.dumps(line) + "\n" for line in answers(config, part, config.seed))
        (where / f"{name}.jsonl").write_text(lines)

    def noise(step: int, name: str) -> float:
        return drawn(config.seed, name, step, one.key) % 1000 / 1000 - 0.5

    metrics = []
    for step in range(1, steps + 1):
        done = step / steps
        line = {"step": step, "valid_rate": 1.0 - 0.02 * (noise(step, "valid") > 0.4), "answer_accuracy": 0.5}
        line |= {"answer_accuracy": 0.5 + shares["score"] * done / 2 + 0.05 * noise(step, "right")}
        for kind, height in {"description": 0.01, "reasoning": 0.4, "answer": 0.2}.items():
            line[f"divergence/{kind}"] = height * (1.2 - done) * (1 + 0.3 * noise(step, kind))
        if step % 15 == 0 and step < steps:
            line["eval"] = figures({"score": shares["score"] * done, "prior": 1.0})
        metrics.append(line)
    (where / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    summary = {
        "before": figures(start),
        "after": figures(shares),
        "steps": steps,
        "valid_rate": 0.99,
        "fallback_rate": 0.01,
        "commit": "0" * 40,
        "versions": {"python": "3.11"},
        "device": "cpu",
        "seconds": {
            "load": 1.0,
            "evaluate": 20.0,
            "rollout": 60.0,
            "teachers": 30.0,
            "learn": 60.0,
            "loss": 5.0,
        },
        "config": asdict(config),
    }
    (where / "summary.json").write_text(json.dumps(summary))
    return where


def ask(where: Path, bench: str, shares: dict[str, float], items: int = 20) -> None:
    """Write another benchmark's files of a finished cell, before and after; `shares` by part, "" if none."""
    for when, moved in (("before", 0.0), ("after", 1.0)):
        folder = where / when / bench
        folder.mkdir(parents=True)
        lines = [
            {
                "id": f"{part}{i}",
                "draw": draw,
                "verdict": "right" if (i + 0.5) / items < share * moved else "wrong",
                "bench": bench,
                "part": part,
                "cluster": str(i),
            }
            for part, share in shares.items()
            for i in range(items)
            for draw in (0, 1)
        ]
        (folder / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        mean = moved * sum(shares.values()) / len(shares)
        accuracy = {"mean": mean, "low": mean, "high": mean, "n": len(lines) // 2}
        (folder / "scores.json").write_text(json.dumps({"accuracy": accuracy}))
        summary = json.loads((where / "summary.json").read_text())
        summary[when].setdefault("benches", {})[bench] = {"accuracy": accuracy}
        (where / "summary.json").write_text(json.dumps(summary))


def add_palr(where: Path, by_answer: float, rows: int = 6, seed: int = 0) -> None:
    """Write the files of ablation/palr_runs.py in a finished cell; PALR of its reasoning is `by_answer`."""
    for name in ("base", "own"):
        folder = where / "looking" / name
        folder.mkdir(parents=True)
        lines = []
        for row in range(rows):
            pull = 0.5 + drawn(seed, name, row) % 1000 / 1000
            lines.append(
                {
                    "row": row,
                    "kinds": ["description", "delimiters", "reasoning", "answer"],
                    "student_logprob": [-1.0, -1.0, -1.0 - pull, -1.0],
                    "teacher_logprob": [-0.5, None, -1.0, -1.0],
                    "answer_support": [0.0, None, by_answer, 0.0],
                    "image_support": [1.0, None, 1 - by_answer, 0.0],
                    "visual": [3.0, 0.1, 1.0, 0.0],
                }
            )
        (folder / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "summary.json").write_text("{}")
    (where / "looking" / "looked.json").write_text(json.dumps({"rows": rows, "seconds": 2.0 * rows}))


def make(sweep: Path, several: Sequence[tuple[Cell, dict[str, float] | None]]) -> None:
    """Write a sweep's folder; cells without shares have not been run."""
    add_to_list(sweep, [one for one, _ in several])
    for one, shares in several:
        if shares is not None:
            finish(sweep, one, shares)


def pair(
    seeds: Sequence[int] = (1, 2, 3), shares: dict[str, float] | None = None
) -> list[tuple[Cell, dict[str, float] | None]]:
    """Two arms with several seeds; the second is right on half as many contradicting pictures."""
    low = {**SHARES, "score": 0.25}
    return [
        (cell(f"routing={routing}", f"seed={seed}", ROWS), own)
        for seed in seeds
        for routing, own in (("vigos", SHARES), ("sft", shares or low))
    ]
