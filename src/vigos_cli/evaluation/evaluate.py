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

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.config import torchrun
from vigos_cli.config.schema import BenchTask, EvalRun
from vigos_cli.evaluation import benchmark_rows, registry
from vigos_cli.evaluation.draw_figures import draw_figures
from vigos_cli.evaluation.evaluation_report import write_report
from vigos_cli.evaluation.figures import cluster, mean_figure
from vigos_cli.evaluation.graded import TOO_LONG, Graded
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.item_pictures import ItemPictures
from vigos_cli.evaluation.result import ASKED, Result, save_result, save_scores
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.evaluation.saved_responses import by_item, joined, missing, not_over_a_run, saved_responses
from vigos_cli.types import Response, Sample, Verdict
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.heavy_imports import heavy_imports
from vigos_cli.utils.quiet import quieten

if TYPE_CHECKING:
    from vigos_cli.data.holdout import Holdout  # imports torch, which grading does not need
    from vigos_cli.evaluation.asker import Asker

Items = tuple[Iterator[Sample], RowReader]  # the samples of a benchmark, and their reader


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
            results[name] = result = _result(config, name, own_items, asker, folder)
            scores[name] = result.figures(result.graded)
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
        _adapter(config, name),
        task,
        images=config.responses is None,
        limit=limit,
        ids=config.ids,
    )


def _adapter(config: EvalRun, name: str) -> Bench:
    return registry.get(name)


def _result(config: EvalRun, name: str, items: Items, asker: Asker | None, folder: Path) -> Result:
    if asker and name == "priorworld":
        result = _priorworld(config, items, asker, folder)
    else:
        result = _bench(config, name, items, asker, folder)
    marks: dict[str, Any] = {} if config.diagnostic == "none" else {"diagnostic": config.diagnostic}
    if asker and (engine := asker.engine.facts()):
        marks["engine"] = engine
    if asker:
        if refused := sum(bool(response.refused) for response in result.responses):
            marks["refused"] = refused
        return _with_format_figures(result, marks, leaks=config.routing.student.format == "structured")
    own = result.figures
    return replace(result, figures=lambda graded: own(graded) | marks)


def _with_format_figures(result: Result, marks: dict[str, Any], *, leaks: bool) -> Result:
    """Add how often a response holds the format, and how often a description states the answer (leakage).

    Separately for greedy and sampled responses. PriorWorld has its own measure of the format.
    """
    from vigos_cli.evaluation.leakage import leakage

    own = result.figures
    kinds = {"greedy": [], "sampled": []}
    for response in result.responses:
        kinds["sampled" if response.draw else "greedy"].append(response)

    def figures(graded: Sequence[Graded]) -> dict[str, Any]:
        scores = own(graded) | marks
        samples = {one.sample.id: one.sample for one in graded}

        def added(responses: Sequence[Response]) -> dict[str, Any]:
            found: dict[str, Any] = {"leakage": leakage(list(samples.values()), responses)} if leaks else {}
            if result.bench:
                valid = [float(one.valid) for one in responses]
                found["valid"] = mean_figure(valid, [cluster(samples[one.sample_id]) for one in responses])
            return found

        if "sampled" in scores:
            scores["sampled"] = scores["sampled"] | added(kinds["sampled"])
        return scores | added(kinds["greedy"])

    return replace(result, figures=figures)


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


def _priorworld(config: EvalRun, items: Items, asker: Asker, folder: Path) -> Result:
    """Evaluate PriorWorld, which grades the parts of a parsed response and draws its pictures itself."""
    from vigos_cli.evaluation.benchmarks.priorworld_scoring import guess_chance, priorworld_verdict
    from vigos_cli.evaluation.priorworld_evaluation import evaluate_priorworld

    report, asked = evaluate_priorworld(asker, list(items[0]), folder)
    verdicts = (
        _asked(sample, response, _refused(response) or priorworld_verdict(sample, response))
        for sample, response in asked
    )
    graded, pictures = _collect(verdicts)

    def figures(graded: Sequence[Graded]) -> dict[str, Any]:
        greedy, drawn = _by_kind(graded)
        scores = report | draw_figures(greedy)
        return scores | ({"sampled": report["sampled"] | draw_figures(drawn)} if drawn else {})

    responses = [response for _, response in asked]
    return Result(graded, figures, folder, responses=responses, chance=guess_chance, pictures=pictures)


def _bench(config: EvalRun, name: str, items: Items, asker: Asker | None, folder: Path) -> Result:
    samples, reader = items
    adapter, scorer = _adapter(config, name), config.bench.scorer
    if scorer == "official" and not adapter.official:
        print(f"{name}: bench.scorer=official has no effect, it has no other rule than ours", file=sys.stderr)
        scorer = "ours"
    counts: dict[str, Any] = {"scorer": scorer}
    responses: list[Response] = []
    answers, summarise = ASKED, _figures
    if asker:

        def verdicts() -> Iterator[Graded]:
            for sample, response in asker.responses(name, adapter.prompt, samples, reader.total, folder):
                responses.append(response)
                verdict = _refused(response) or adapter.grade(sample, response.text, scorer)
                yield _asked(sample, response, verdict)

        graded, pictures = _collect(verdicts())
        _refuse_none(name, graded, reader)
    else:
        saved = saved_responses(Path(config.responses or ""), adapter.id_column)
        not_over_a_run(folder, Path(config.responses or ""))
        if not saved.ours:
            answers = ("saved", "sampled") if saved.draws == 1 else ("sampled", "sampled")
            summarise = _part_figures
        if saved.by_row:
            rows = [(reader.at, sample) for sample in samples]
            saved = by_item(adapter, rows, saved, config.responses or "")
            samples = (sample for _, sample in rows)
        graded, pictures = _collect(_graded(adapter, joined(samples, saved), scorer))
        _refuse_none(name, graded, reader)
        counts |= missing(adapter, {one.sample.id for one in graded}, saved, config.responses or "")
    counts |= {"revision": reader.revision} if reader.revision else {}
    if reader.left_out:
        counts["left_out"] = {rule: len(items) for rule, items in reader.left_out.items()}
        print(f"{name}: left out: {_left_out(reader)}", file=sys.stderr)
    if reader.without_picture:
        counts["without_picture"] = reader.without_picture
        print(f"{name}: {reader.without_picture} items have no picture", file=sys.stderr)
    counts |= {"note": reader.note} if reader.note else {}
    return Result(
        graded,
        lambda graded: summarise(adapter, graded) | counts,
        folder,
        answers,
        adapter,
        responses,
        adapter.chance,
        pictures,
    )


def _refuse_none(name: str, graded: Sequence[Graded], reader: RowReader) -> None:
    """Raise UserError if every row was left out."""
    if not graded and reader.left_out:
        raise UserError(f"{name}: no row can be asked; left out: {_left_out(reader)}")


def _left_out(reader: RowReader) -> str:
    """The rules by which rows were left out, with the number of rows."""
    return ", ".join(f"{rule} {len(items)}" for rule, items in reader.left_out.items())


def _figures(bench: Bench, graded: Sequence[Graded]) -> dict[str, Any]:
    """The benchmark's figures of the greedy responses (draw 0); those of the others are under `sampled`."""
    greedy, drawn = _by_kind(graded)
    scores = _part_figures(bench, greedy)
    return scores | ({"sampled": _part_figures(bench, drawn)} if drawn else {})


def _part_figures(bench: Bench, graded: Sequence[Graded]) -> dict[str, Any]:
    """The benchmark's figures, and those of its draws."""
    return bench.summarise(graded) | draw_figures(graded, by_rules=not bench.needs_judge)


def _by_kind(graded: Sequence[Graded]) -> tuple[list[Graded], list[Graded]]:
    """The greedy responses (draw 0), and the sampled ones, numbered from 0."""
    greedy = [one for one in graded if one.draw == 0]
    return greedy, [replace(one, draw=one.draw - 1) for one in graded if one.draw > 0]


# ---------------------------------------------------------------- verdicts


def _graded(
    bench: Bench, responses: Iterable[tuple[Sample, int, str | None]], scorer: str
) -> Iterator[Graded]:
    none = Verdict("unparsed", None, "missing", "no response to this item")
    for sample, draw, text in responses:
        verdict = none if text is None else bench.grade(sample, text, scorer)
        yield Graded(sample, draw, verdict, response=text)


def _asked(sample: Sample, response: Response, verdict: Verdict) -> Graded:
    """A model's graded response. An engine that does not count tokens reports 0, which is not known."""
    if response.refused:
        return Graded(sample, response.draw, verdict)
    tokens = response.tokens or None
    return Graded(
        sample, response.draw, verdict, response=response.text, tokens=tokens, finished=response.finished
    )


def _refused(response: Response) -> Verdict | None:
    """The verdict on a response that the server refused, or whose item was not asked; None otherwise."""
    if not response.refused:
        return None
    own = response.refused.startswith(TOO_LONG)
    return Verdict("unparsed", None, "missing", response.refused if own else f"the server {response.refused}")


def _collect(verdicts: Iterable[Graded]) -> tuple[list[Graded], ItemPictures]:
    """All graded responses without their pictures, and the pictures that the page shows."""
    graded, pictures = [], ItemPictures()
    for one in verdicts:
        pictures.see(one)
        graded.append(replace(one, sample=replace(one.sample, images=())))
    return graded, pictures
