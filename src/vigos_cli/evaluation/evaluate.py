"""Run `vigos eval`: sample or read responses, grade them, and write verdicts and scores.

    responses.jsonl   a line for each response, as soon as it is complete; resume=auto samples the others
    verdicts.jsonl    a line for each: id, draw, extracted, verdict (right, wrong, unparsed), rule, reason;
                      judge (0 to 1, or null), which changes no other field; answers (greedy, sampled, saved)
    scores.json       figures of each benchmark, greedy and sampled, by the rules and by a judge; the keys
                      of all benchmarks are explained in figures.py and draw_figures.py
    report.html       a page with the figures, charts by group, and every item with its answers
    judge.jsonl       the scores of a judge, if one was asked

With several benchmarks each has a folder, and scores.json is beside the folders. A judge is asked last, so
all other files are complete even if it fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.config import torchrun
from vigos_cli.config.provenance import check_claimed
from vigos_cli.config.schema import BenchTask, EvalRun
from vigos_cli.evaluation import benchmark_rows, registry
from vigos_cli.evaluation.evaluation_report import write_report
from vigos_cli.evaluation.graded_benchmark import Items, graded_benchmark
from vigos_cli.evaluation.result import Result, save_result, save_scores
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.heavy_imports import heavy_imports
from vigos_cli.utils.quiet import quieten

if TYPE_CHECKING:
    from vigos_cli.data.holdout import Holdout  # imports torch, which grading does not need
    from vigos_cli.evaluation.asker import Asker


def evaluate(
    config: EvalRun, asker: Asker | None = None, held: Holdout | None = None
) -> dict[str, dict[str, Any]]:
    """The figures of every benchmark, by name. Without `asker`, load the model or connect to the server.

    `held` has the rows of bench=holdout; without it they are found by the adapter or the data.
    Mistakes that can be found early are reported before any model is loaded.
    """
    tasks, own = tasks_of(config), asker is None
    for key, given in (("responses=", config.responses), ("ids=", config.ids)):
        if given and len(tasks) > 1:
            raise ConfigError(f"{key} belongs to one benchmark, not {len(tasks)}: name one with bench=")
    out, judge = Path(config.out), None
    if config.compare:
        from vigos_cli.evaluation.run_comparison import read_verdicts

        run = config.compare[0]
        there = sorted({name.split()[0] for name in read_verdicts(Path(run))})
        if not set(there) & set(tasks):
            has, asked = ", ".join(there) or "no answers", ", ".join(tasks)
            raise ConfigError(f"compare: this command asks {asked}, but {run} has {has}: set bench=")
    if config.judge.name != "none" and torchrun.launched_rank() == 0:
        from vigos_cli.evaluation.judge_scores import Judge

        judge = Judge(config.judge, out)
    if "holdout" in tasks and held is None:
        with heavy_imports():
            quieten()
            from vigos_cli.evaluation.held_back import held_rows

        held = held_rows(config)
    items = {name: _items(config, name, task, held) for name, task in tasks.items()}
    if config.responses is None and asker is None:
        with heavy_imports():  # torch, which grading does not need
            quieten()
            from vigos_cli.evaluation.asker import load_asker

        asker = load_asker(config)
    results: dict[str, Result] = {}
    scores: dict[str, dict[str, Any]] = {}
    with closing(asker.engine) if asker and own else nullcontext():
        for name, own_items in items.items():
            folder = out if len(tasks) == 1 else out / name
            folder.mkdir(parents=True, exist_ok=True)
            results[name] = result = graded_benchmark(config, name, own_items, asker, folder)
            scores[name] = result.figures(result.graded)
            if asker and own:
                check_claimed(out)
            _save(config, name, result, scores)
    if judge:
        from vigos_cli.evaluation.judge_scores import fill_in, with_judge

        fill_in(judge, list(results.values()))
        for name, result in results.items():
            scores[name] = with_judge(config.judge.model, result)
            _save(config, name, result, scores)
    if config.compare and torchrun.launched_rank() == 0:
        _against(scores, config.compare[0], config.out)
        save_scores(out, scores, alone=len(tasks) == 1)
    return scores


def _save(config: EvalRun, name: str, result: Result, scores: Mapping[str, dict[str, Any]]) -> None:
    """Write a benchmark's verdicts, all scores so far, and the benchmark's page."""
    save_result(Path(config.out), name, result, scores)
    if torchrun.launched_rank() == 0:
        write_report(name, result, scores[name], config)


def _items(config: EvalRun, name: str, task: BenchTask, held: Holdout | None) -> Items:
    """A benchmark's items and their reader; pictures are read later, when their item is needed."""
    limit = task.limit or config.limit
    if name == "holdout":
        assert held
        drawn = held.samples(images=config.responses is None)
        size = min(limit or held.asked, held.asked)
        reader = RowReader(rows=size, limit=size, note=held.note)
        return islice(benchmark_rows.samples_with_ids("holdout", "id", drawn, config.ids), size), reader
    if name == "priorworld":
        from vigos_cli.evaluation.benchmarks.priorworld_scoring import priorworld_items

        drawn = benchmark_rows.samples_with_ids("priorworld", "id", iter(priorworld_items(task)), config.ids)
        samples = list(islice(drawn, limit))
        return iter(samples), RowReader(rows=len(samples), limit=len(samples))
    return benchmark_rows.read_samples(
        registry.get(name),
        task,
        images=config.responses is None,
        limit=limit,
        ids=config.ids,
    )


def _against(scores: Mapping[str, dict[str, Any]], run: str, out: str) -> None:
    """Add to the figures of each benchmark its paired differences from an earlier run."""
    from vigos_cli.evaluation.run_comparison import compare_runs, difference_row

    for difference in compare_runs([run, out]):
        against = scores[difference.bench.split()[0]].setdefault("against", {"run": run, "differences": []})
        against["differences"].append(difference_row(difference))


def tasks_of(config: EvalRun) -> dict[str, BenchTask]:
    """The benchmarks of a run; `bench.path` sets the path of the only one. Raises ConfigError."""
    bench, tasks = config.bench, config.bench.tasks
    if not tasks:
        raise ConfigError("bench: no benchmark is chosen; choose one, such as bench=mathvista")
    for name in tasks:
        if name != "priorworld":
            registry.get(name)
    if config.responses and "priorworld" in tasks:
        raise ConfigError(
            "responses= cannot be graded for priorworld, which must ask a model; name the benchmark of the "
            "responses, such as bench=mathvista"
        )
    if bench.path is None:
        return tasks
    if len(tasks) > 1:
        raise ConfigError(
            f"bench.path is the data of one benchmark, but {', '.join(tasks)} are chosen: "
            "set bench.tasks.NAME.path"
        )
    (name,) = tasks
    return {name: replace(tasks[name], path=bench.path)}
