"""A whole `vigos eval`: ask or read responses, grade them, and leave every verdict.

    responses.jsonl   a line a response, flushed chunk by chunk: resume=auto asks only what is missing
    verdicts.jsonl    a line a response: id, draw, extracted, verdict (right, wrong, unparsed), rule, reason
    scores.json       each benchmark's figures, greedy and sampled

Several benchmarks have a folder each, and scores.json beside them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.bench import registry, rows
from vigos_cli.bench.interface import Bench, Graded
from vigos_cli.config import BenchTask, ConfigError, EvalRun, UserError
from vigos_cli.files import read_lines, write_json, write_lines
from vigos_cli.types import Sample, Verdict

if TYPE_CHECKING:
    from vigos_cli.bench.ask import Asker


def evaluate(config: EvalRun) -> dict[str, dict[str, Any]]:
    """Every benchmark's figures, by name."""
    tasks = tasks_of(config)
    if config.responses and len(tasks) > 1:
        raise ConfigError("responses= are of one benchmark: name one")
    out, asker = Path(config.out), None
    if config.compare:  # before anything is asked
        from vigos_cli.bench.compare import verdicts

        verdicts(Path(config.compare[0]))
    if config.responses is None:
        from vigos_cli.bench.ask import Asker  # torch, which grading has no use for

        asker = Asker(config)
    scores: dict[str, dict[str, Any]] = {}
    for name, task in tasks.items():
        folder = out if len(tasks) == 1 else out / name
        folder.mkdir(parents=True, exist_ok=True)
        if asker and name == "priorworld":
            scores[name], graded = asker.priorworld(task, folder)
        else:
            scores[name], graded = _bench(config, registry.get(name), task, asker, folder)
        write_lines(folder / "verdicts.jsonl", (verdict_line(name, one) for one in graded))
        if asker and config.routing.student == "structured":
            _leakage(scores[name], graded, read_lines(folder / "responses.jsonl"))
        if config.diagnostic != "none":
            scores[name]["diagnostic"] = config.diagnostic
        write_json(out / "scores.json", scores[name] if len(tasks) == 1 else scores)
    if config.compare:
        _against(scores, config.compare[0], config.out)
        write_json(out / "scores.json", next(iter(scores.values())) if len(tasks) == 1 else scores)
    return scores


def _leakage(
    scores: dict[str, Any], graded: Sequence[Graded], responses: Sequence[Mapping[str, Any]]
) -> None:
    """Add to the figures whether descriptions state the answer, greedy and sampled."""
    from vigos_cli.bench.leakage import leakage

    samples = list({one.sample.id: one.sample for one in graded}.values())
    lines = {(line["sample_id"], line["draw"]): line for line in responses}  # the last, where asked again
    scores["leakage"] = leakage(samples, [line for (_, draw), line in lines.items() if draw == 0])
    if "sampled" in scores:
        scores["sampled"]["leakage"] = leakage(
            samples, [line for (_, draw), line in lines.items() if draw > 0]
        )


def _against(scores: Mapping[str, dict[str, Any]], run: str, out: str) -> None:
    """Add to the figures of each benchmark its paired differences from an earlier run."""
    from vigos_cli.bench.compare import compare, row

    for difference in compare([run, out]):
        against = scores[difference.bench.split()[0]].setdefault("against", {"run": run, "differences": []})
        against["differences"].append(row(difference))


def tasks_of(config: EvalRun) -> dict[str, BenchTask]:
    """The tasks, `bench.path` and `bench.schema` given to the only one that can have meant."""
    bench, tasks = config.bench, config.bench.tasks
    if not tasks:
        raise ConfigError("bench: no task; name one, such as bench=mathvista")
    for name in tasks:
        if name != "priorworld":
            registry.get(name)
    if bench.path is None:
        return tasks
    if len(tasks) > 1:
        raise ConfigError(
            f"bench.path is of one benchmark; these are {', '.join(tasks)}: set bench.tasks.NAME.path"
        )
    (name,) = tasks
    return {name: replace(tasks[name], path=bench.path)}


def _bench(
    config: EvalRun, bench: Bench, task: BenchTask, asker: Asker | None, folder: Path
) -> tuple[dict[str, Any], list[Graded]]:
    adapter = registry.get("plain") if config.bench.schema == "plain" else bench
    samples, reading = rows.read(
        adapter,
        path=task.path,
        split=task.split,
        revision=task.revision,
        images=asker is not None,
        limit=config.limit,
    )
    if asker:
        graded = _grade(adapter, asker.responses(adapter, samples, folder), config.bench.scorer)
        scores = _figures(adapter, graded)
    else:
        saved = saved_responses(Path(config.responses or ""), adapter.id_column)
        graded = _grade(adapter, _joined(samples, saved), config.bench.scorer)
        known = {one.sample.id for one in graded}
        if not known & set(saved):
            raise UserError(
                f"responses={config.responses}: none of its ids, such as {next(iter(saved))}, is a "
                f"{adapter.id_column} of {bench.name}, such as {min(known, default='none')}"
            )
        scores = adapter.summarise(graded)
        scores["missing"] = len(known - set(saved))
        scores["unknown"] = len(set(saved) - known)
    if reading.left_out:
        scores["left_out"] = {rule: len(items) for rule, items in reading.left_out.items()}
        print(f"{bench.name}: left out {scores['left_out']}", file=sys.stderr)
    return scores, graded


def _figures(bench: Bench, graded: Sequence[Graded]) -> dict[str, Any]:
    """The benchmark's own figures: of the greedy answers (draw 0), and of the sampled ones apart."""
    scores = bench.summarise([one for one in graded if one.draw == 0])
    drawn = [replace(one, draw=one.draw - 1) for one in graded if one.draw > 0]
    return scores | ({"sampled": bench.summarise(drawn)} if drawn else {})


def saved_responses(path: Path, id_column: str) -> dict[str, list[str]]:
    """JSON lines with `id` (or the benchmark's own id column) and `response` or `responses`, by id."""
    if not path.is_file():
        raise ConfigError(f"responses={path}: there is no such file")
    found: dict[str, list[str]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            id = str(line["id"] if "id" in line else line[id_column])
            said = line["responses"] if "responses" in line else line["response"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"responses={path}, line {number}: not an object with id and response") from error
        if id in found:
            raise UserError(f"responses={path}, line {number}: a second line for {id}; use `responses`")
        found[id] = [
            text if isinstance(text, str) else "" for text in (said if isinstance(said, list) else [said])
        ]
    if not found:
        raise UserError(f"responses={path}: no lines in it")
    return found


def _joined(
    samples: Iterable[Sample], saved: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Sample, int, str | None]]:
    for sample in samples:
        for draw, text in enumerate(saved.get(sample.id) or [None]):
            yield sample, draw, text


# ---------------------------------------------------------------- verdicts


def _grade(bench: Bench, responses: Iterable[tuple[Sample, int, str | None]], scorer: str) -> list[Graded]:
    graded = []
    for sample, draw, text in responses:
        if text is None:
            verdict = Verdict("unparsed", None, "missing", "no response to this item")
        else:
            verdict = bench.grade(sample, text, scorer)
        graded.append(Graded(sample, draw, verdict))
    return graded


def verdict_line(bench: str, graded: Graded) -> dict[str, Any]:
    """A line of verdicts.jsonl.

    `part` tells items that agree with a usual answer from those that contradict it; `cluster` is what a
    bootstrap resamples as one.
    """
    sample = graded.sample
    part = "" if sample.prior is None else "agrees" if sample.prior.agrees else "conflicts"
    known = {"bench": bench, "part": part, "cluster": sample.group or sample.id}
    return {"id": sample.id, "draw": graded.draw, **asdict(graded.verdict), **known}
