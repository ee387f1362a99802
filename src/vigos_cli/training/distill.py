"""A whole distillation run: load, measure, train, measure again, and write the results.

It writes to `config.out`: adapter/ (PEFT, of the last step), best/ (of the step with the best score),
checkpoints/, metrics.jsonl, summary.json, curves.png, data.json (with which a resumed run detects that its
data changed), contamination.json and contamination.jsonl (training rows that are also in a benchmark; see
`benchmark_overlap`), and every answer of the evaluations: those to PriorWorld in before.jsonl and
responses.jsonl, those to other benchmarks in before/NAME and after/NAME, as `vigos eval` writes them.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vigos_cli.config.provenance import claim, same_run
from vigos_cli.config.run_folder import has_results
from vigos_cli.config.schema import DistillRun
from vigos_cli.config.supervision_terms import trains
from vigos_cli.data.check import check
from vigos_cli.data.fingerprint import claim_data
from vigos_cli.data.holdout import Holdout
from vigos_cli.data.load import TableData, load_data
from vigos_cli.evaluation.run_comparison import compare_runs, difference_row
from vigos_cli.evaluation.training_evaluation import TrainingEvaluation
from vigos_cli.generation.engine import engine_of
from vigos_cli.generation.vllm_command import check_room
from vigos_cli.method.prompts import Prompter
from vigos_cli.models import base_cache
from vigos_cli.models.adapter_folder import adapter_modules, save_adapter, settle_prompts
from vigos_cli.models.pretrained import pick_device
from vigos_cli.models.student_loading import load_student
from vigos_cli.reporting.measures import evaluations
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.told import needed_columns
from vigos_cli.training.benchmark_overlap import without_benchmark_rows
from vigos_cli.training.best_adapter import settle_best
from vigos_cli.training.clipping import ClipWatch, progress_note
from vigos_cli.training.collapse import closed_note, stop_note
from vigos_cli.training.dry_run import dry_run
from vigos_cli.training.held_rows import hold_back
from vigos_cli.training.learner import Learner, make_learner
from vigos_cli.training.loop import resume_learner, train
from vigos_cli.training.preflight import EmptySteps, notes
from vigos_cli.training.sampler_gap import GapWatch
from vigos_cli.training.schedule import total_steps
from vigos_cli.training.summary import summarise_run, write_results
from vigos_cli.training.tracking import Tracker
from vigos_cli.types import Response, Sample
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.files import write_json, write_lines
from vigos_cli.utils.folder_writer import only_writer
from vigos_cli.utils.progress import Bar


def distill(config: DistillRun) -> dict[str, Any] | None:
    """Run a distillation and return its summary; None on other processes than the first, and for a dry run.

    `plan=true` only prints the estimate of memory, and returns None.
    """
    out, began = Path(config.out), time.perf_counter()
    settle_prompts(config)
    process_group.start(pick_device(config.model.device))
    # As the first process sees it: one that had another answer would leave the others waiting.
    if (finished := process_group.gather(_finished(out, config))[0]) is not None:
        if process_group.rank() == 0:
            print(closed_note(out, finished))
        return finished
    if config.plan:
        from vigos_cli.models.plan_report import print_plan

        if process_group.rank() == 0:
            print_plan(config)
        return None

    out.mkdir(parents=True, exist_ok=True)
    process_group.check_shared(out)
    with nullcontext() if config.trainer.dry_run else only_writer(out):
        return _run(out, config, began)


def _run(out: Path, config: DistillRun, began: float) -> dict[str, Any] | None:
    """Everything from loading the model to the results."""
    check_room(config)
    sharded = config.trainer.shard == "fsdp2" and process_group.size() > 1
    student = load_student(config.model, config.adapter, seed=config.seed, sharded=sharded)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    data, held, data_facts = _load_data(out, config)
    learner = make_learner(student, config)
    if config.trainer.dry_run:
        return dry_run(learner, data, prompter, config)

    with ExitStack() as stack:  # closes the engine and the files however the run ends
        learner.engine = stack.enter_context(closing(engine_of(config, student)))
        around = TrainingEvaluation(learner.engine, prompter, config, held)
        resume_learner(learner, out)
        if process_group.rank() == 0:
            claim(out, config, step=learner.step)
        hash_at_start = student.frozen_hash()
        learner.seconds["load"] += time.perf_counter() - began

        before, answers = _measure_before(out, learner, around)
        tracker, why = None, None
        if process_group.rank() == 0:
            tracker = Tracker(config.tracking, out, asdict(config), from_step=learner.step)
            stack.enter_context(tracker)
            if answers:
                tracker.evaluation("before", 0, before, around.samples, answers)
        if trains(config.routing):
            batches = Batches(data, prompter, config, ahead=student.device.type == "cuda")
            stack.callback(batches.close)
            why = _train(learner, batches, prompter, config, around, tracker, before)
        facts: dict[str, Any] = {"steps": learner.step, "adapter_modules": adapter_modules(student)}
        if tracker:  # before the final evaluation, which may take hours and may fail
            save_adapter(student, out / "adapter", config, facts)

        after, responses = _measure_after(out, learner, around, config)
        frozen_hash = {"start": hash_at_start, "end": student.frozen_hash()}
        assert frozen_hash["end"] == hash_at_start, "the frozen weights changed during the run"
        summary = None
        if tracker:
            tracker.evaluation("after", learner.step, after, around.samples, responses)
            write_lines(out / "responses.jsonl", [asdict(response) for response in responses])
            facts |= {**data_facts, "frozen_hash": frozen_hash, "differences": _differences(out, after)}
            facts["evaluation_share"] = _evaluation_share(learner.seconds)
            facts |= {"stopped": "collapse" if why else None, "stopped_because": why}
            facts["best"] = settle_best(student, config, evaluations(before, tracker.lines), facts, after)
            summary = summarise_run(learner, config, tracker.lines, before, after, facts)
            write_results(config, tracker.lines, summary)
    base_cache.keep(student.release(), student.processor, config.model, config.adapter, sharded=sharded)
    return summary


def _finished(out: Path, config: DistillRun) -> dict[str, Any] | None:
    """The summary of a run that resume=auto finds finished. Raises ConfigError if it is another run.

    A run that was stopped because its model collapsed is not finished with trainer.stop_on_collapse=false.
    """
    if config.resume != "auto":
        return None
    if (out / "config.json").exists() and has_results(out):
        same_run(json.loads((out / "config.json").read_text()), config)
    if not (file := out / "summary.json").exists():
        return None
    summary = json.loads(file.read_text())
    return summary if config.trainer.stop_on_collapse or not summary.get("stopped") else None


def _load_data(out: Path, config: DistillRun) -> tuple[Sequence[Sample], Holdout | None, dict[str, Any]]:
    """The training data, the rows held back, and what was found about them; the first process prints it."""
    data, held, found = (
        load_data(config.data, config.seed, config.limit, needed_columns(config.routing)),
        None,
        {},
    )
    first = process_group.rank() == 0
    if len({*(sizes := process_group.gather(len(data)))}) > 1:
        raise ConfigError(f"data: the processes read {sizes} rows: all machines need the same data")
    if first:
        text_only = config.data.text_only == "keep"
        report = check(data, text_only=text_only) if isinstance(data, TableData) else None
        for line in report.lines() if report else []:
            print(line)
        found["data"] = report and report.summary()
    if not config.trainer.dry_run:
        if first:
            claim_data(out, data)
        held = hold_back(out, data, config)
        data, found["contamination"] = without_benchmark_rows(out, data, config, held)
    for line in notes(config, len(data), held) if first else []:
        print(line)
    return data, held, found


def _measure_before(
    out: Path, learner: Learner, around: TrainingEvaluation
) -> tuple[dict[str, Any], list[Response]]:
    """Measure the untrained student (the adapter starts at zero); a resumed run reads the figures again.

    The responses are empty if the figures were read.
    """
    path = out / "before.json"
    known = process_group.gather(json.loads(path.read_text()) if path.exists() else None)[0]
    if known is not None:
        return known, []
    with learner.timed("evaluate"):
        report, responses = around.run(out / "before")
    if process_group.rank() == 0:
        write_lines(out / "before.jsonl", [asdict(response) for response in responses])
        write_json(path, report)
    return report, responses


def _train(
    learner: Learner,
    batches: Batches,
    prompter: Prompter,
    config: DistillRun,
    around: TrainingEvaluation,
    tracker: Tracker | None,
    before: dict[str, Any],
) -> str | None:
    """Train to the last step; after each step write its line of metrics.jsonl and move the progress bar.

    Returns why the run was stopped early; None if it was not.
    """
    out, steps = Path(config.out), total_steps(config, len(batches.data))
    lines = tracker.lines if tracker else ()
    watch, gap, empty = ClipWatch(config.loss, lines), GapWatch(config, lines), EmptySteps(steps)
    if tracker and learner.step < steps and not config.trainer.stop_on_collapse:
        # The run may have been stopped at this step; the results of that end are no longer those of its end.
        shutil.rmtree(out / "after", ignore_errors=True)
        (out / "summary.json").unlink(missing_ok=True)
    with Bar("distill", steps, learner.step, quiet=tracker is None) as bar:

        def log(line: dict[str, Any]) -> None:
            bar.advance(progress_note(line))
            if tracker:
                tracker.log(line)
                watch.warn(line)
                gap.warn(line)
            empty.see(line)

        def measure() -> dict[str, Any]:
            return around.run(out / f"step-{learner.step}", samples=0, again=True)[0]

        why = train(learner, batches, prompter, config, log=log, evaluate=measure, before=before, lines=lines)
    if why and tracker:
        print(stop_note(learner.step, steps, why), file=sys.stderr)
    return why


def _measure_after(
    out: Path, learner: Learner, around: TrainingEvaluation, config: DistillRun
) -> tuple[dict[str, Any], list[Response]]:
    with learner.timed("evaluate"):
        return around.run(out / "after", two_pass=config.routing.student.writes == "caption")


def _differences(out: Path, after: dict[str, Any]) -> list[dict[str, Any]]:
    """The paired differences from before to after, on each benchmark that rules grade, but PriorWorld."""
    if "benches" not in after:
        return []
    try:
        return [difference_row(one) for one in compare_runs([str(out / "before"), str(out / "after")])]
    except UserError:  # nothing can be compared: only a judge grades, or the run began under an older version
        return []


def _evaluation_share(seconds: Mapping[str, float]) -> float | None:
    """The share of the run's time that its evaluations took; None if nothing was measured."""
    whole = sum(value for phase, value in seconds.items() if phase != "loss")  # "loss" is a part of "learn"
    return seconds.get("evaluate", 0.0) / whole if whole else None
