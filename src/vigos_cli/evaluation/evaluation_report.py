"""Build the page `report.html` of one benchmark from its graded responses and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vigos_cli.config.schema import EvalRun
from vigos_cli.evaluation.figures import by_item, group_figures
from vigos_cli.evaluation.graded import Graded, Groups
from vigos_cli.evaluation.item_pictures import KEPT
from vigos_cli.evaluation.result import Result
from vigos_cli.evaluation.row_parsing import labelled
from vigos_cli.method.segments import runs
from vigos_cli.reporting.evaluation_page import (
    Bar,
    EvaluationPage,
    ShownAnswer,
    ShownItem,
    write_evaluation_page,
)
from vigos_cli.types import Kind, Sample

PAGE = "report.html"
PRIORWORLD: Groups = {"family": lambda sample: sample.family}


def write_report(name: str, result: Result, scores: Mapping[str, Any], config: EvalRun) -> None:
    """Write the page into the result's folder."""
    items = by_item(result.graded)
    samples = [draws[0].sample for draws in items.values()]
    groups = {
        name: key for name, key in _groups(result, samples).items() if len({str(key(s)) for s in samples}) > 1
    }
    kinds = {result.answers[0]: scores}
    if "sampled" in scores:
        kinds["sampled"] = scores["sampled"]
    by_rules = not (result.bench and result.bench.needs_judge)
    charts = {name: _bars(result, key, list(kinds), by_rules) for name, key in groups.items()}
    student = None if config.responses else config.routing.student.format
    page = EvaluationPage(
        title=f"{name}: evaluation",
        facts=_facts(config, result, items),
        scores=kinds,
        charts=charts,
        items=[
            ShownItem(
                id=draws[0].sample.id,
                question=_question(draws[0].sample),
                reference=draws[0].sample.answer,
                groups=[_names(key, draws[0].sample) for key in groups.values()],
                pictures=None if config.responses else result.pictures.of(draws[0].sample.id),
                answers=[_answer(one, student) for one in draws],
            )
            for draws in items.values()
        ],
        pictures=result.pictures.uris,
    )
    write_evaluation_page(result.folder / PAGE, page)


def _groups(result: Result, samples: Sequence[Sample]) -> Groups:
    """The benchmark's groupings, and whether the picture agrees with the usual answer if there is one."""
    groups = dict(result.bench.groups if result.bench else PRIORWORLD)
    if any(sample.prior for sample in samples):
        groups["picture"] = lambda sample: (
            "no usual answer"
            if sample.prior is None
            else "agrees with the usual answer"
            if sample.prior.agrees
            else "contradicts the usual answer"
        )
    return groups


def _names(key: Callable[[Sample], str | Sequence[str]], sample: Sample) -> list[str]:
    names = key(sample)
    return [names] if isinstance(names, str) else list(names)


def _bars(
    result: Result, key: Callable[[Sample], str | Sequence[str]], kinds: Sequence[str], by_rules: bool
) -> list[Bar]:
    parts = [result.graded]
    if len(kinds) > 1:
        parts = [[one for one in result.graded if (one.draw > 0) == drawn] for drawn in (False, True)]
    found = [group_figures(part, key, result.chance) for part in parts]
    return [
        Bar(
            name,
            [own.get(name) if by_rules else None for own in found],
            found[0][name]["chance"] if found[0].get(name, {}).get("guessable") else None,
        )
        for name in dict.fromkeys(name for own in found for name in own)
    ]


def _question(sample: Sample) -> str:
    options = labelled(sample.options)
    return sample.question if not options or options in sample.question else f"{sample.question}\n{options}"


def _answer(one: Graded, student: str | None) -> ShownAnswer:
    pieces = None
    if one.response is not None:
        pieces = runs(one.response, student=student) if student else [(one.response, Kind.REASONING)]
    verdict = one.verdict
    return ShownAnswer(
        verdict=verdict.verdict,
        extracted=verdict.extracted or "",
        reason=f"{verdict.rule}: {verdict.reason}",
        pieces=pieces,
        tokens=one.tokens,
        cut_off=one.finished is False,
        score=one.score,
    )


def _facts(config: EvalRun, result: Result, items: Mapping[str, list[Graded]]) -> dict[str, str]:
    served, model = config.rollout, config.model.path
    if served.name == "openai":
        model = f"{served.model or model} at {served.url}"
    facts = {
        "model": config.responses or model,
        "adapter": config.adapter.path or "none",
        "items": str(len(items)),
        "answers per item": str(max(map(len, items.values()), default=0)),
    }
    if config.diagnostic != "none":
        facts["diagnostic"] = config.diagnostic
    if config.responses:
        facts["pictures"] = "not read, because the responses are saved ones"
    elif any(result.pictures.of(id) is None for id in items):
        facts["pictures"] = f"of the first {KEPT} items of each verdict"
    return facts
