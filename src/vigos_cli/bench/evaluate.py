"""A whole `vigos eval`: ask or read responses, grade them, and leave every verdict.

    responses.jsonl   a line a response, flushed chunk by chunk: resume=auto asks only what is missing
    verdicts.jsonl    a line a response: id, draw, extracted, verdict (right, wrong, unparsed), rule, reason;
                      judge (0 to 1, or null), which changes none of them
    scores.json       each benchmark's figures, greedy and sampled, and the judge's apart
    failures.html     the greedy responses that are not right, with their pictures: a page to look at
    judge.jsonl       what a judge said, where one was asked

Several benchmarks have a folder each, and scores.json beside them. A judge comes last: whatever becomes of
it, everything else is there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli import processes
from vigos_cli.bench import registry, rows
from vigos_cli.bench.failures import PAGE, Failures
from vigos_cli.bench.interface import Bench, Graded
from vigos_cli.bench.parts import labelled, paragraphs
from vigos_cli.config import BenchTask, ConfigError, EvalRun, UserError
from vigos_cli.files import read_lines, write_json, write_lines
from vigos_cli.types import Response, Sample, Verdict

if TYPE_CHECKING:
    from vigos_cli.bench.ask import Asker
    from vigos_cli.judge.column import Judge
    from vigos_cli.judge.words import Case


@dataclass
class Result:
    """One benchmark's graded responses, how its figures are taken of them, and where they go."""

    graded: list[Graded]
    figures: Callable[[Sequence[Graded]], dict[str, Any]]
    folder: Path
    bench: Bench | None = None  # None: PriorWorld


def evaluate(config: EvalRun, asker: Asker | None = None) -> dict[str, dict[str, Any]]:
    """Every benchmark's figures, by name. Without an `asker` the model, or the server, is loaded."""
    tasks, own = tasks_of(config), asker is None
    if config.responses and len(tasks) > 1:
        raise ConfigError("responses= are of one benchmark: name one")
    out, judge = Path(config.out), None
    if config.compare:  # before anything is asked
        from vigos_cli.bench.compare import verdicts

        verdicts(Path(config.compare[0]))
    if config.judge.name != "none" and processes.rank() == 0:
        from vigos_cli.judge.column import Judge

        judge = Judge(config.judge, out)
    if config.responses is None and asker is None:
        from vigos_cli.bench.ask import load_asker  # torch, which grading has no use for

        asker = load_asker(config)
    if config.ids and len(tasks) > 1:
        raise ConfigError("ids= are of one benchmark: name one")
    results: dict[str, Result] = {}
    scores: dict[str, dict[str, Any]] = {}
    for name, task in tasks.items():
        folder = out if len(tasks) == 1 else out / name
        folder.mkdir(parents=True, exist_ok=True)
        results[name] = result = _result(config, name, task, asker, folder)
        scores[name] = result.figures(result.graded)
        _save(out, name, result, scores)
    if asker and own:
        asker.engine.close()
    if judge:
        _judge(judge, results.values())
        for name, result in results.items():
            scores[name] = with_judge(config.judge.model, result)
            _save(out, name, result, scores)
    if config.compare and processes.rank() == 0:
        _against(scores, config.compare[0], config.out)
        _save_scores(out, scores, alone=len(tasks) == 1)
    return scores


def _result(config: EvalRun, name: str, task: BenchTask, asker: Asker | None, folder: Path) -> Result:
    if asker and name == "priorworld":
        result = _priorworld(config, task, asker, folder)
    else:
        result = _bench(config, registry.get(name), task, asker, folder)
    marks: dict[str, Any] = {} if config.diagnostic == "none" else {"diagnostic": config.diagnostic}
    if asker and (engine := asker.engine.facts()):
        marks["engine"] = engine
    if asker and config.routing.student == "structured":
        return _with_leakage(result, marks)
    own = result.figures
    return replace(result, figures=lambda graded: own(graded) | marks)


def _with_leakage(result: Result, marks: dict[str, Any]) -> Result:
    """Its figures say as well whether descriptions state the answer, greedy and sampled."""
    from vigos_cli.bench.leakage import leakage

    own = result.figures
    responses = read_lines(result.folder / "responses.jsonl")
    lines = {(line["sample_id"], line["draw"]): line for line in responses}  # the last, where asked again

    def figures(graded: Sequence[Graded]) -> dict[str, Any]:
        scores = own(graded) | marks
        samples = list({one.sample.id: one.sample for one in graded}.values())
        scores["leakage"] = leakage(samples, [line for (_, draw), line in lines.items() if draw == 0])
        if "sampled" in scores:
            drawn = [line for (_, draw), line in lines.items() if draw > 0]
            scores["sampled"] = scores["sampled"] | {"leakage": leakage(samples, drawn)}
        return scores

    return replace(result, figures=figures)


def _save(out: Path, name: str, result: Result, scores: Mapping[str, Any]) -> None:
    """Leave a benchmark's verdicts, and all scores so far. Of several processes the first one does."""
    if processes.rank() == 0:
        write_lines(result.folder / "verdicts.jsonl", (verdict_line(name, one) for one in result.graded))
        _save_scores(out, scores, alone=result.folder == out)


def _save_scores(out: Path, scores: Mapping[str, Any], *, alone: bool) -> None:
    """A single benchmark's as they are, of several by name."""
    write_json(out / "scores.json", next(iter(scores.values())) if alone else scores)


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


def _priorworld(config: EvalRun, task: BenchTask, asker: Asker, folder: Path) -> Result:
    """Its verdicts are on the parts of a parsed response, and its pictures are drawn."""
    from vigos_cli.bench import priorworld

    samples = rows.wanted("priorworld", "id", iter(priorworld.load(task)), config.ids)
    samples = list(islice(samples, task.limit or config.limit))
    responses: list[Response] = []

    def verdicts() -> Iterator[tuple[Sample, int, str, Verdict]]:
        for sample, response in asker.responses("priorworld", attrgetter("question"), samples, folder):
            responses.append(response)
            yield sample, response.draw, response.text, priorworld.grade(sample, response)

    graded = _collect(config, "priorworld", verdicts(), folder)
    report = priorworld.report(samples, responses)
    return Result(graded, lambda _: report, folder)


def _bench(config: EvalRun, bench: Bench, task: BenchTask, asker: Asker | None, folder: Path) -> Result:
    adapter = registry.get("plain") if config.bench.schema == "plain" else bench
    samples, reading = rows.read(
        adapter,
        path=task.path,
        split=task.split,
        revision=task.revision,
        images=asker is not None,
        limit=task.limit or config.limit,
        ids=config.ids,
    )
    counts: dict[str, Any] = {}
    if asker:
        summarise = _figures
        asked = asker.responses(bench.name, adapter.prompt, samples, folder)
        responses = ((sample, response.draw, response.text) for sample, response in asked)
        graded = _collect(config, bench.name, _verdicts(adapter, responses, config.bench.scorer), folder)
    else:
        summarise = type(adapter).summarise
        saved = saved_responses(Path(config.responses or ""), adapter.id_column)
        verdicts = _verdicts(adapter, _joined(samples, saved), config.bench.scorer)
        graded = _collect(config, bench.name, verdicts, folder)
        known = {one.sample.id for one in graded}
        if not known & set(saved):
            raise UserError(
                f"responses={config.responses}: none of its ids, such as {next(iter(saved))}, is a "
                f"{adapter.id_column} of {bench.name}, such as {min(known, default='none')}"
            )
        counts |= {"missing": len(known - set(saved)), "unknown": len(set(saved) - known)}
    if reading.left_out:
        counts["left_out"] = {rule: len(items) for rule, items in reading.left_out.items()}
        print(f"{bench.name}: left out {counts['left_out']}", file=sys.stderr)
    return Result(graded, lambda graded: summarise(adapter, graded) | counts, folder, adapter)


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


def _verdicts(
    bench: Bench, responses: Iterable[tuple[Sample, int, str | None]], scorer: str
) -> Iterator[tuple[Sample, int, str | None, Verdict]]:
    for sample, draw, text in responses:
        if text is None:
            yield sample, draw, text, Verdict("unparsed", None, "missing", "no response to this item")
        else:
            yield sample, draw, text, bench.grade(sample, text, scorer)


def _collect(
    config: EvalRun,
    name: str,
    verdicts: Iterable[tuple[Sample, int, str | None, Verdict]],
    folder: Path,
) -> list[Graded]:
    """All of them without their pictures, but for those on the page of failures, which it leaves."""
    failures, graded = Failures(None if config.responses else config.routing.student), []
    for sample, draw, text, verdict in verdicts:
        one = Graded(sample, draw, verdict, response=text)
        failures.see(one)
        graded.append(replace(one, sample=replace(sample, images=())))
    if processes.rank() == 0:
        failures.write(folder / PAGE, name, config)
    return graded


def verdict_line(bench: str, graded: Graded) -> dict[str, Any]:
    """A line of verdicts.jsonl.

    `judge` is a judge's score, 0 to 1, or null; the other columns owe it nothing. `part` tells items that
    agree with a usual answer from those that contradict it; `cluster` is what a bootstrap resamples as one.
    """
    sample = graded.sample
    part = "" if sample.prior is None else "agrees" if sample.prior.agrees else "conflicts"
    known = {"bench": bench, "part": part, "cluster": sample.group or sample.id}
    return {"id": sample.id, "draw": graded.draw, **asdict(graded.verdict), "judge": graded.score, **known}


# ---------------------------------------------------------------- the judge's column


def _judge(judge: Judge, results: Iterable[Result]) -> None:
    """Fill in the scores of all responses."""
    results = list(results)
    scores = iter(judge.scores([_case(result.bench, one) for result in results for one in result.graded]))
    for result in results:
        result.graded = [replace(one, score=next(scores)) for one in result.graded]


def _case(bench: Bench | None, graded: Graded) -> Case | None:
    """What the judge is shown of a response; None where there is no response or no gold answer."""
    from vigos_cli.judge.words import Case

    sample = graded.sample
    golds = bench.golds(sample) if bench else (sample.answer,)
    if graded.response is None or not golds:
        return None
    question = bench.prompt(sample) if bench else sample.question
    if (options := labelled(sample.options)) not in question:  # they are in the picture
        question = paragraphs(question, options)
    return Case(question, golds, graded.response, by_share=bench.needs_judge if bench else False)


def with_judge(model: str, result: Result) -> dict[str, Any]:
    """The benchmark's figures, the judge's beside them, greedy and sampled apart where ours are."""
    from vigos_cli.judge.figures import judged

    by_share = result.bench.needs_judge if result.bench else False
    scores = result.figures(result.graded)
    drawn = [one for one in result.graded if "sampled" in scores and one.draw > 0]
    rest = [one for one in result.graded if "sampled" not in scores or one.draw == 0]
    scores["judge"] = judged(rest, model, by_share)
    if drawn:
        scores["sampled"]["judge"] = judged(drawn, model, by_share)
    return scores
