"""Write metrics to `metrics.jsonl`, and to Weights & Biases or TensorBoard if configured.

    with Tracker(config.tracking, out, asdict(config), from_step=learner.step) as tracker:
        tracker.log(line)                 # an exception in the block marks the run as failed

A folder has one wandb run, however often it is resumed; `wandb-run.json` stores the run's id.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from vigos_cli.config.schema import TrackingConfig
from vigos_cli.data.images import as_seen
from vigos_cli.types import Response, Sample
from vigos_cli.utils.errors import UserError, one_line
from vigos_cli.utils.files import read_lines, write_json, write_lines

FINISH = 300.0  # seconds that wandb may upload at the end of a run; `wandb sync` uploads the rest
SHOWN = 32  # items in a table of completions
RUN_ID = "wandb-run.json"
STEP = "step"  # wandb: the metric of the optimizer step, which is the x axis of all others


class Store(Protocol):
    """Where metrics go besides metrics.jsonl."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of one step."""

    def completions(self, name: str, step: int, rows: Sequence[tuple[Sample, Response]]) -> None:
        """Record answers with their pictures."""

    def close(self, failed: bool) -> None:
        """Flush everything; `failed` says that the run ended with an error."""


class Tracker:
    """Appends one line for each step and flushes it; on resume, drops the lines after the checkpoint.

    As a context manager it is closed at the end of the block; it passes on to its store whether an exception
    was raised in the block.
    """

    def __init__(self, config: TrackingConfig, out: Path, run_config: Mapping[str, Any], *, from_step: int):
        self.path = out / "metrics.jsonl"
        self.lines = [line for line in read_lines(self.path) if line["step"] <= from_step]
        write_lines(self.path, self.lines)
        self._file = self.path.open("a")
        self._name = config.name
        self._store: Store = NoStore()
        with self._store_may_fail():
            self._store = open_store(config, out, run_config)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def log(self, line: Mapping[str, Any]) -> None:
        """Record one step."""
        self.lines.append(dict(line))
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        with self._store_may_fail() as store:
            numbers = {k: v for k, v in line.items() if isinstance(v, int | float) and k != "step"}
            for name, value in line.get("eval", {}).items():
                if isinstance(value, int | float):
                    numbers[f"eval/{name}"] = value
            store.log(line["step"], numbers)

    def evaluation(
        self,
        name: str,
        step: int,
        report: Mapping[str, Any],
        samples: Sequence[Sample],
        responses: Sequence[Response],
    ) -> None:
        """Record the figures of an evaluation, and some of its greedy answers with their pictures."""
        with self._store_may_fail() as store:
            numbers = {f"{name}/{k}": v for k, v in report.items() if isinstance(v, int | float)}
            store.log(step, numbers)
            greedy = {response.sample_id: response for response in responses if response.draw == 0}
            rows = [(sample, greedy[sample.id]) for sample in samples[:SHOWN] if sample.id in greedy]
            store.completions(name, step, rows)

    def close(self, failed: bool = False) -> None:
        """Flush everything; a second call does nothing."""
        self._file.close()
        with self._store_may_fail() as store:
            store.close(failed)
        self._store = NoStore()

    @contextmanager
    def _store_may_fail(self) -> Iterator[Store]:
        """The store; if it fails, one line says so and the run goes on without it."""
        try:
            yield self._store
        except UserError:  # a package that is missing
            raise
        except Exception as error:  # those of the packages have no common base
            self._store = NoStore()
            print(
                f"vigos: tracking={self._name} failed ({one_line(error, 100)}): the run goes on without it, "
                "and metrics.jsonl has all metrics",
                file=sys.stderr,
            )


class NoStore:
    """Metrics go to metrics.jsonl only."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record nothing."""

    def completions(self, name: str, step: int, rows: Sequence[tuple[Sample, Response]]) -> None:
        """Record nothing."""

    def close(self, failed: bool) -> None:
        """Nothing is open."""


def open_store(config: TrackingConfig, out: Path, run_config: Mapping[str, Any]) -> Store:
    """Open the store that the config names; none for `jsonl`.

    Raises UserError if its package is not installed.
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
    return NoStore()


def run_id(out: Path) -> str:
    """The id of this folder's wandb run; a new id is written to the folder before it is used."""
    file = out / RUN_ID
    if file.exists():
        return json.loads(file.read_text())["id"]
    made = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(8)  # set by a wandb sweep
    write_json(file, {"id": made})
    return made


class Wandb:
    """Weights & Biases; offline by default, and if there is no key.

    A resumed folder continues its run, online and in `wandb sync`. Wandb ignores values that are logged at a
    lower step than its last one, and a run resumed from an older checkpoint logs such steps. So the optimizer
    step is logged as a metric and used as the x axis of the charts, while wandb counts its own steps.
    """

    def __init__(self, config: TrackingConfig, out: Path, run_config: Mapping[str, Any]):
        import wandb

        def start(mode: Any) -> Any:
            return wandb.init(
                project=config.project,
                mode=mode,
                dir=str(out),
                config=dict(run_config),
                id=run_id(out),
                resume="allow",
                settings=wandb.Settings(finish_timeout=FINISH),
            )

        self._wandb: Any = wandb
        try:
            self._run = start(config.mode)
        except (wandb.Error, OSError, ValueError) as error:  # no key, or no answer, or one that is no JSON
            reason = one_line(error, 100)
            print(f"vigos: wandb runs offline ({reason}); upload later with: wandb sync", file=sys.stderr)
            wandb.teardown()  # its service still has the run that did not start, and would refuse the same id
            self._run = start("offline")
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of one step."""
        self._run.log({**values, STEP: step})

    def completions(self, name: str, step: int, rows: Sequence[tuple[Sample, Response]]) -> None:
        """Record the answers as a table with the first picture of each item."""
        table = self._wandb.Table(columns=["picture", "question", "reference", "answer", "valid", "text"])
        for sample, response in rows:
            picture = self._wandb.Image(as_seen(sample.images[0])) if sample.images else None
            table.add_data(
                picture, sample.question, sample.answer, response.answer, response.valid, response.text
            )
        self._run.log({f"{name}/completions": table, STEP: step})

    def close(self, failed: bool) -> None:
        """End the run, as failed or finished."""
        self._run.finish(exit_code=int(failed))


class TensorBoard:
    """TensorBoard event files in `out/tensorboard`."""

    def __init__(self, out: Path):
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of one step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def completions(self, name: str, step: int, rows: Sequence[tuple[Sample, Response]]) -> None:
        """Record the answers as text."""
        texts = [f"**{sample.question}** ({sample.answer})\n\n    {r.text}" for sample, r in rows]
        self._writer.add_text(f"{name}/completions", "\n\n".join(texts), step)

    def close(self, failed: bool) -> None:
        """Flush and close the files."""
        self._writer.close()
