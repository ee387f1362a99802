"""Read responses from a file, to grade them without loading a model or reading a picture.

>>> saved = saved_responses(Path("answers.jsonl"), "pid")
>>> for sample, draw, text in joined(samples, saved): ...      # text is None if it is missing
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigos_cli.evaluation.interface import Bench
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, UserError


@dataclass
class Saved:
    """Saved responses by item. `ours`: from a run of vigos, where the first response of an item is greedy."""

    texts: dict[str, list[str | None]]
    ours: bool = False

    @property
    def draws(self) -> int:
        """The largest number of responses that any item has; an item with fewer responses lacks some."""
        return max(map(len, self.texts.values()))


def saved_responses(path: Path, id_column: str) -> Saved:
    """JSON lines with `id` (or the benchmark's own id column) and `response` or `responses`, by id.

    The responses.jsonl of an earlier run (`sample_id`, `draw`, `text`) can be read too.
    """
    if not path.is_file():
        raise ConfigError(f"responses={path}: there is no such file")
    saved = Saved({})
    for number, text in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            if "sample_id" in line:
                saved.ours = True
                said = saved.texts.setdefault(line["sample_id"], [])
                said += [None] * (int(line["draw"]) + 1 - len(said))
                said[int(line["draw"])] = None if line.get("refused") else line["text"]
                continue
            id = str(line["id"] if "id" in line else line[id_column])
            said = line["responses"] if "responses" in line else line["response"]
            texts = [_text(one) for one in (said if isinstance(said, list) else [said])]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"responses={path}, line {number}: not an object with id and response") from error
        if id in saved.texts:
            raise UserError(
                f"responses={path}, line {number}: a second line for {id}; put all into one list `responses`"
            )
        saved.texts[id] = texts
    if not any(saved.texts.values()):
        raise UserError(f"responses={path}: there are no responses in it")
    return saved


def _text(said: Any) -> str | None:
    """A response as text; a number becomes text, null becomes None. Raises TypeError for anything else."""
    if isinstance(said, bool) or not isinstance(said, str | int | float | None):
        raise TypeError
    return None if said is None else str(said)


def joined(samples: Iterable[Sample], saved: Saved) -> Iterator[tuple[Sample, int, str | None]]:
    """Every item with `saved.draws` responses; None for those that are missing."""
    for sample in samples:
        texts = saved.texts.get(sample.id, [])
        for draw in range(saved.draws):
            yield sample, draw, texts[draw] if draw < len(texts) else None


def missing(bench: Bench, known: set[str], saved: Saved, path: str) -> dict[str, int]:
    """Count items without responses (`missing`), with too few (`fewer`), and unknown ids (`unknown`)."""
    if not known & set(saved.texts):
        raise UserError(
            f"responses={path}: none of its ids, such as {next(iter(saved.texts))}, is a "
            f"{bench.id_column} of {bench.name}, such as {min(known, default='none')}"
        )
    counts = {
        "missing": len(known - set(saved.texts)),
        "fewer": sum(len(saved.texts[id]) < saved.draws for id in known & set(saved.texts)),
        "unknown": len(set(saved.texts) - known),
    }
    if counts["missing"] or counts["fewer"]:
        print(
            f"{bench.name}: {counts['missing']} items have no response and {counts['fewer']} have fewer than "
            f"{saved.draws}: missing responses count as wrong",
            file=sys.stderr,
        )
    return counts


def not_over_a_run(folder: Path, responses: Path) -> None:
    """Raise ConfigError if `folder` has other responses: the verdicts would not match them."""
    asked = folder / "responses.jsonl"
    if asked.exists() and not asked.samefile(responses):
        raise ConfigError(f"out={folder} contains a run with its own responses: choose another folder")
