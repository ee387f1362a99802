"""Ask and grade the items of one benchmark.

    result = graded_benchmark(config, "mathvista", items, asker, folder)
    result.figures(result.graded)              # the entry of scores.json

The answers are those of a model (`asker`) or of a file (`responses=`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigos_cli.config.schema import EvalRun
from vigos_cli.evaluation import registry
from vigos_cli.evaluation.draw_figures import draw_figures
from vigos_cli.evaluation.figures import cluster, mean_figure
from vigos_cli.evaluation.graded import TOO_LONG, Graded
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.item_pictures import ItemPictures
from vigos_cli.evaluation.result import ASKED, Result
from vigos_cli.evaluation.row_reader import RowReader
from vigos_cli.evaluation.saved_responses import by_item, joined, missing, not_over_a_run, saved_responses
from vigos_cli.types import Response, Sample, Verdict
from vigos_cli.utils.errors import UserError

if TYPE_CHECKING:
    from vigos_cli.evaluation.asker import Asker  # imports torch, which grading does not need

Items = tuple[Iterator[Sample], RowReader]  # the samples of a benchmark, and their reader


def graded_benchmark(config: EvalRun, name: str, items: Items, asker: Asker | None, folder: Path) -> Result:
    """The graded responses to the items of one benchmark, and how its figures are computed from them."""
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
    adapter, scorer = registry.get(name), config.bench.scorer
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
