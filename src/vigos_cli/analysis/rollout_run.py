"""Run `vigos rollout`: sample, parse, grade, score, write an HTML page, give a verdict.

    rollouts.jsonl    one line per rollout, written after each batch, so that resume=auto continues there
    summary.json      rates with intervals, lengths, the verdict whether training can start, configuration
    rollouts.html     the first rollouts with their token scores
    data.json         a digest of the data, so that a resumed run notices a change

With `rollouts=FOLDER` the rollouts of an earlier run are scored instead of new ones. With
`rollout.teachers=false` no token is scored. With `looking=true` every token is also scored with a wrong
answer and with another image (vigos_cli.analysis.counterfactuals).
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from vigos_cli.analysis.counterfactuals import CounterfactualScorer
from vigos_cli.analysis.palr import palr, visual_dependency
from vigos_cli.analysis.readiness import gradable, loss_sums
from vigos_cli.analysis.readiness_verdict import readiness_report
from vigos_cli.analysis.saved_rollouts import Lines, read_saved_rollouts, restored_rollouts
from vigos_cli.analysis.token_scores import TokenScore, score_tokens
from vigos_cli.config.provenance import claim, commit, versions
from vigos_cli.config.schema import RolloutRun
from vigos_cli.data.check import check
from vigos_cli.data.fingerprint import claim_data
from vigos_cli.data.images import BadRow
from vigos_cli.data.load import TableData, load_data
from vigos_cli.generation.engine import Engine, engine_of
from vigos_cli.generation.vllm_command import check_room
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.adapter_folder import settle_prompts
from vigos_cli.models.out_of_memory import SCORED_AT_ONCE, in_phase
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.reporting.rollouts_page import ShownRollout, ShownToken, write_page
from vigos_cli.reporting.routing_picture import picture_uri, routing_picture
from vigos_cli.supervision.batches import prepare
from vigos_cli.supervision.contexts import Supervised, supervise_all
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.rollout_grading import verdict
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.supervision.teacher_weights import TeacherWeights, load_other_checkpoints
from vigos_cli.supervision.told import needed_columns
from vigos_cli.types import Sample
from vigos_cli.utils.files import read_lines, write_json, write_lines
from vigos_cli.utils.progress import Bar
from vigos_cli.utils.stats import mean_interval

LIMIT = 8  # rows, if `limit` is not set
SHOWN = 400  # rollouts on the page
PAGE = "rollouts.html"


def sample(config: RolloutRun) -> list[dict[str, Any]]:
    """Run `vigos rollout`; return the lines of rollouts.jsonl."""
    settle_prompts(config)
    return sample_settled(config)


def sample_settled(config: RolloutRun) -> list[dict[str, Any]]:
    """`sample` for a configuration whose prompts are already loaded (`settle_prompts`)."""
    out = Path(config.out)
    earlier, limit = read_saved_rollouts(config) if config.rollouts else ({}, config.limit)
    check_room(config)
    student = load_student(config.model, config.adapter, seed=config.seed)
    claim(out, config)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    data = load_data(config.data, config.seed, limit or LIMIT, needed_columns(config.routing))
    if isinstance(data, TableData):
        print("\n".join(check(data, text_only=config.data.text_only == "keep").lines()))
    claim_data(out, data)

    path = out / "rollouts.jsonl"
    lines = read_lines(path)
    rows, order = max(1, config.rollout.batch // config.rollout.n), sorted(earlier) or range(len(data))
    wanted = {row: len(earlier.get(row, range(config.rollout.n))) for row in order}
    whole = _whole_batches(lines, [order[i : i + rows] for i in range(0, len(order), rows)], wanted)
    lines = [line for line in lines if line["row"] in whole]
    write_lines(path, lines)  # drop a batch with only a part of its rollouts: it is sampled again
    weights = TeacherWeights.at_start(config.routing)
    if config.rollout.teachers:
        load_other_checkpoints(weights, student, config)
    scorer = CounterfactualScorer(student, prompter, data, config, weights) if config.looking else None
    counts: Counter[str] = Counter()
    with (
        closing(engine_of(config, student)) as engine,
        Bar("rollout", len(order), answers=_sampled_per_row(config)) as bar,
        path.open("a") as file,
    ):
        for start in range(0, len(order), rows):
            places = order[start : start + rows]
            todo = [(i, i) for i in places if i not in whole]
            of_rows = {i: Counter[str]() for i, _ in todo}
            prepared = [one for at in todo for one in prepare(data, [at], prompter, config, of_rows[at[0]])]
            made = _lines(engine, student, prepared, prompter, config, earlier, weights, scorer, bar)
            counts += _add_counts(made, of_rows, scorer)
            file.writelines(json.dumps(line) + "\n" for line in made)
            file.flush()
            lines += made
            bar.advance(by=len(places))
    lines.sort(key=lambda line: (line["row"], line["draw"]))
    write_lines(path, lines)
    for line in lines:
        counts.update(line.get("counts", {}))  # earlier versions did not write it
    summary = rollout_summary(lines, counts)
    if config.looking:
        summary |= {"palr": palr(lines), "visual_dependency": visual_dependency(lines)}
    summary |= {
        "readiness": readiness_report(lines, config),
        "commit": commit(),
        "versions": versions(),
        "config": asdict(config),
    }
    write_json(out / "summary.json", summary)
    _page(out / PAGE, lines, data, config, summary, student.tokenizer)
    return lines


def _whole_batches(
    lines: Sequence[Mapping[str, Any]], batches: Sequence[Sequence[int]], wanted: Mapping[int, int]
) -> set[int]:
    """The rows with all their rollouts, without those of a batch that was interrupted while it was written.

    Only the last batch of a file can be such a batch. All of it is sampled again, because the scores of a row
    differ in their last digits if other rows are scored with it.
    """
    known = Counter(line["row"] for line in lines)
    whole = {row for row, n in known.items() if n == wanted.get(row)}
    last = next((batch for batch in reversed(batches) if any(row in known for row in batch)), ())
    return whole if whole.issuperset(last) else whole.difference(last)


def _add_counts(
    lines: Sequence[dict[str, Any]], counts: dict[int, Counter[str]], scorer: CounterfactualScorer | None
) -> Counter[str]:
    """Write into the first line of each row what was counted of it, so that a resumed run knows it.

    Returns what was counted of the rows without a line.
    """
    for row, own in scorer.take_counts().items() if scorer else ():
        counts[row].update(own)
    for line in lines:
        line["counts"] = counts.pop(line["row"], Counter())
    return sum(counts.values(), Counter())


def _sampled_per_row(config: RolloutRun) -> float:
    """The answers that the progress bar expects of a row. Scoring counts as a fifth of the whole work.

    With a language model of 135 M on a CPU it took 1.5 of 9.5 minutes.
    """
    return 0 if config.rollouts else config.rollout.n / (0.8 if config.rollout.teachers else 1)


def _lines(
    engine: Engine,
    student: Student,
    prepared: Sequence[Prepared],
    prompter: Prompter,
    config: RolloutRun,
    earlier: Lines,
    weights: TeacherWeights,
    scorer: CounterfactualScorer | None,
    bar: Bar,
) -> list[dict[str, Any]]:
    """Sample or restore one batch and score it; one line per rollout."""
    if not prepared:
        return []
    began = time.perf_counter()
    if earlier:
        rollouts = restored_rollouts(student, prepared, earlier)
    else:
        with in_phase("rollout"):
            rollouts = sample_rollouts(student, prepared, prompter, config, 0, engine)
    seconds = (time.perf_counter() - began) / len(rollouts)
    supervised = supervise_all(rollouts, prompter, config)
    if config.rollout.teachers:
        size = min(config.rollout.batch, SCORED_AT_ONCE)
        with in_phase("teachers"), bar.phase("teachers score the answers"):
            scores = score_tokens(student, supervised, weights, config, micro_batch=size)
    else:
        scores = [None] * len(supervised)
    lines = [
        _line(item, row, score, seconds)
        for (item, _), row, score in zip(rollouts, supervised, scores, strict=True)
    ]
    if scorer:
        with in_phase("teachers"), bar.phase("the answers are scored with other references and pictures"):
            found = scorer.score(rollouts, supervised, [row for row in scores if row is not None])
        for line, tokens in zip(lines, found, strict=True):
            line["visual"] = [_short(token.visual) for token in tokens]
            line["answer_support"] = [_short(token.answer) for token in tokens]
            line["image_support"] = [_short(token.image) for token in tokens]
    return lines


def _line(
    item: Prepared, row: Supervised, scored: Sequence[TokenScore] | None, seconds: float
) -> dict[str, Any]:
    rollout, segments, sample = row.rollout, row.segments, item.sample
    scores = [None] * len(rollout.ids) if scored is None else scored
    found = verdict(sample, segments)
    return {
        "row": int(item.key),
        "id": sample.id,
        "draw": rollout.draw,
        "question": sample.question,
        "reference": sample.answer,
        "options": list(sample.options),
        "gradable": gradable(sample),
        "text": rollout.text,
        "description": segments.description,
        "reasoning": segments.reasoning,
        "answer": segments.answer,
        "valid": segments.valid,
        "reason": segments.reason,
        "correct": found is not None and found.verdict == "right",
        "rule": found and found.rule,  # the grader that decided; null if there is no answer
        "conflict": None if sample.prior is None else not sample.prior.agrees,
        "finished": rollout.finished,
        "prompt_tokens": len(rollout.prompt.ids),
        "tokens": len(rollout.ids),
        "seconds": round(seconds, 4),  # sampling time of the batch divided by its rollouts
        "token_ids": list(rollout.ids),
        "kinds": [kind.value for kind in segments.kinds],
        "ends": list(rollout.ends),
        "student_logprob": [score and _short(score.student) for score in scores],
        "teacher": [score and score.teacher for score in scores],
        "teacher_logprob": [score and _short(score.teacher_logprob) for score in scores],
        "kl": [score and _short(score.kl) for score in scores],
        "loss": None if scored is None else loss_sums(segments.kinds, scored),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")  # significant digits: PALR uses tiny differences


def rollout_summary(lines: Sequence[dict[str, Any]], counts: Counter[str]) -> dict[str, Any]:
    """Rates with n and intervals (bootstrapped over rows), lengths, and counts of left-out samples."""
    groups = [str(line["row"]) for line in lines]
    summary: dict[str, Any] = {"rollouts": len(lines), "rows": len(set(groups))}
    for name, key in (("valid_rate", "valid"), ("accuracy", "correct"), ("finished_rate", "finished")):
        estimate = mean_interval([float(line[key]) for line in lines], groups)
        summary[name] = estimate and {
            "mean": estimate.mean,
            "interval": [estimate.low, estimate.high],
            "n": estimate.n,
        }
    tokens = sorted(line["tokens"] for line in lines)
    summary["tokens"] = tokens and {
        "mean": sum(tokens) / len(tokens),
        "median": tokens[len(tokens) // 2],
        "largest": tokens[-1],
    }
    return summary | {"counts": dict(counts)}


# ---------------------------------------------------------------- the page


def _page(
    path: Path,
    lines: Sequence[dict[str, Any]],
    data: Sequence[Sample],
    config: RolloutRun,
    summary: dict[str, Any],
    tokenizer: Any,
) -> None:
    pictures: dict[int, tuple[Any, ...]] = {}
    shown = []
    for line in lines[:SHOWN]:
        if line["row"] not in pictures:
            try:
                pictures[line["row"]] = data[line["row"]].images
            except BadRow:  # the image has become unreadable since it was sampled
                pictures[line["row"]] = ()
        names = tokenizer.convert_ids_to_tokens(line["token_ids"])
        shown.append(_shown(line, pictures[line["row"]], names))
    facts = {
        "model": config.model.path,
        "adapter": config.adapter.path or "none",
        "routing": config.routing.name,
        "data": config.data.path or config.data.name,
        "rollouts": f"{len(lines)}, of which {SHOWN} are shown" if len(lines) > SHOWN else str(len(lines)),
        "sampling": f"temperature {config.rollout.temperature:g}, top-p {config.rollout.top_p:g}",
    }
    facts["verdict"] = summary["readiness"]["line"]
    if "palr" in summary:
        for name in ("description", "reasoning+answer"):
            if found := summary["palr"][name]:
                low, high, n = found["low"], found["high"], found["n"]
                facts[f"PALR, {name}"] = f"{found['mean']:.3f} [{low:.3f}, {high:.3f}], n={n}"
    for name, label in (("valid_rate", "format held"), ("accuracy", "right")):
        if rate := summary[name]:
            low, high = rate["interval"]
            facts[label] = f"{rate['mean']:.2f} [{low:.2f}, {high:.2f}], n={rate['n']}"
    drawn = routing_picture({f"routing={config.routing.name}": config.routing})
    write_page(path, shown, "Rollouts", facts, picture_uri(drawn))


def _shown(line: dict[str, Any], images: tuple[Any, ...], names: Sequence[str | None]) -> ShownRollout:
    """One rollout for the page. `names` are shown for tokens without text (special, part of a character).

    A model may have more tokens than its tokenizer; these have no name.
    """
    text, prefill = line["text"], len(line["ends"]) - len(line["token_ids"])
    pieces = [text[a:b] for a, b in pairwise([0, *line["ends"]])]
    tokens = [ShownToken(piece, None, None, None, None, None) for piece in pieces[:prefill]]
    fields = ["kinds", "student_logprob", "teacher", "teacher_logprob", "kl"]
    fields += [name for name in ("answer_support", "image_support", "visual") if name in line]
    texts = [
        piece or name or f"token {id}"
        for piece, name, id in zip(pieces[prefill:], names, line["token_ids"], strict=True)
    ]
    columns = zip(texts, *(line[name] for name in fields), strict=True)
    tokens += [ShownToken(*values) for values in columns]
    names = ("id", "draw", "question", "reference", "answer", "valid", "reason", "correct", "conflict")
    return ShownRollout(**{name: line[name] for name in names}, images=images, tokens=tuple(tokens))
