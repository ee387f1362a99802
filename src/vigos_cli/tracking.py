"""Where a run's metrics go: always `metrics.jsonl`, a line a step; a tracker's own store as well if asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vigos_cli.config import TrackingConfig, UserError
from vigos_cli.files import read_lines, write_lines
from vigos_cli.types import Response, Sample

SHOWN = 32  # answers in a table of completions


class Store(Protocol):
    """A tracker besides metrics.jsonl."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of one step."""

    def completions(self, name: str, step: int, rows: Sequence[tuple[Sample, Response]]) -> None:
        """Show answers with their pictures."""

    def close(self) -> None:
        """Flush everything."""


class Tracker:
    """Appends a line a step and flushes it; on resume, drops the lines after the checkpoint."""

    def __init__(self, config: TrackingConfig, out: Path, run_config: Mapping[str, Any], *, from_step: int):
        self.path = out / "metrics.jsonl"
        self.lines = [line for line in read_lines(self.path) if line["step"] <= from_step]
        write_lines(self.path, self.lines)
        self._file = self.path.open("a")
        self._store = open_store(config, out, run_config)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def log(self, line: Mapping[str, Any]) -> None:
        """Record one step."""
        self.lines.append(dict(line))
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._store:
            numbers = {k: v for k, v in line.items() if isinstance(v, int | float) and k != "step"}
            for name, value in line.get("eval", {}).items():
                if isinstance(value, int | float):
                    numbers[f"eval/{name}"] = value
            self._store.log(line["step"], numbers)

    def evaluation(
        self,
        name: str,
        step: int,
        report: Mapping[str, Any],
        samples: Sequence[Sample],
        responses: Sequence[Response],
    ) -> None:
        """Record an evaluation's figures, and some of its greedy answers with their pictures."""
        if self._store:
            numbers = {f"{name}/{k}": v for k, v in report.items() if isinstance(v, int | float)}
            self._store.log(step, numbers)
            greedy = {response.sample_id: response for response in responses if response.draw == 0}
            rows = [(sample, greedy[sample.id]) for sample in samples[:SHOWN] if sample.id in greedy]
            self._store.completions(name, step, rows)

    def close(self) -> None:
        """Flush everything."""
        self._file.close()
        if self._store:
            self._store.close()


def open_store(config: TrackingConfig, out: Path, run_config: Mapping[str, Any]) -> Store | None:
    """The tracker that the config names.

    Raises UserError when its package is missing.
    """
    try:
        match config.name:
            case "wandb":
                return Wandb(config, out, run_config)
            case "tensorboard":
                return TensorBoard(out)
    except ImportError as error:
        hint = f"pip install {config.name}"
        raise UserError(f"tracking={config.name}: the package is not installed: {hint}") from error
    return None


class Wandb:
    """Weights & Biases; offline unless asked otherwise, and where there is no key."""

    def __init__(self, config: TrackingConfig, out: Path, run_config: Mapping[str, Any]):
        import wandb
        from wandb.errors import CommError, UsageError

        def start(mode: Any) -> Any:
            return wandb.init(project=config.project, mode=mode, dir=str(out), config=dict(run_config))

        self._wandb: Any = wandb
        try:
            self._run = start(config.mode)
        except (UsageError, CommError) as error:
            reason = " ".join(str(error).split())[:100]
            print(f"vigos: wandb goes offline ({reason}); later: wandb sync", file=sys.stderr)
            self._run = start("offline")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One step's numbers."""
        self._run.log(dict(values), step=step)

    def completions(self, name: str, step: int, rows: Sequence[tuple[Sample, Response]]) -> None:
        """A table with the first picture of each item."""
        table = self._wandb.Table(columns=["picture", "question", "reference", "answer", "valid", "text"])
        for sample, response in rows:
            picture = self._wandb.Image(sample.images[0]) if sample.images else None
            table.add_data(
                picture, sample.question, sample.answer, response.answer, response.valid, response.text
            )
        self._run.log({f"{name}/completions": table}, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class TensorBoard:
    """Event files in `out/tensorboard`."""

    def __init__(self, out: Path):
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One step's numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def completions(self, name: str, step: int, rows: Sequence[tuple[Sample, Response]]) -> None:
        """The answers as text."""
        texts = [f"**{sample.question}** ({sample.answer})\n\n    {r.text}" for sample, r in rows]
        self._writer.add_text(f"{name}/completions", "\n\n".join(texts), step)

    def close(self) -> None:
        """Flush the files."""
        self._writer.close()
