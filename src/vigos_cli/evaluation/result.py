"""One benchmark's graded responses, and its files verdicts.jsonl and scores.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vigos_cli.config import torchrun
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.item_pictures import ItemPictures
from vigos_cli.types import Response, Sample
from vigos_cli.utils.files import write_json, write_lines

ASKED = ("greedy", "sampled")


@dataclass
class Result:
    """One benchmark's graded responses, the function for its figures, and the folder for its files."""

    graded: list[Graded]
    figures: Callable[[Sequence[Graded]], dict[str, Any]]
    folder: Path
    answers: tuple[str, str] = ASKED  # the kind of draw 0, and of the other draws
    bench: Bench | None = None  # None: PriorWorld
    responses: Sequence[Response] = ()  # from the model that was asked; empty for saved responses
    chance: Callable[[Sample], float | None] = lambda _: None  # the accuracy of a uniform guess
    pictures: ItemPictures = field(default_factory=ItemPictures)


def save_result(out: Path, name: str, result: Result, scores: Mapping[str, Any]) -> None:
    """Write a benchmark's verdicts, and all scores so far; only the first of several processes writes."""
    if torchrun.launched_rank() == 0:
        write_lines(
            result.folder / "verdicts.jsonl",
            (verdict_line(name, one, result.answers) for one in result.graded),
        )
        save_scores(out, scores, alone=result.folder == out)


def save_scores(out: Path, scores: Mapping[str, Any], *, alone: bool) -> None:
    """Write scores.json: the figures of a single benchmark, or those of several by name."""
    write_json(out / "scores.json", next(iter(scores.values())) if alone else scores)


def verdict_line(bench: str, graded: Graded, answers: tuple[str, str]) -> dict[str, Any]:
    """A line of verdicts.jsonl.

    `judge` is a judge's score, 0 to 1, or null; it changes no other column. `part` says whether the picture
    agrees with the usual answer or conflicts with it. A bootstrap resamples lines of one `cluster` together.
    """
    sample = graded.sample
    part = "" if sample.prior is None else "agrees" if sample.prior.agrees else "conflicts"
    known = {"answers": answers[graded.draw > 0], "bench": bench, "part": part}
    known["cluster"] = sample.group or sample.id
    return {"id": sample.id, "draw": graded.draw, **asdict(graded.verdict), "judge": graded.score, **known}
