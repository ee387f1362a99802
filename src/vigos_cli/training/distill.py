"""A whole distillation: measure, learn, measure again, and leave everything a reader of the run needs.

Leaves in `config.out`: adapter/ (PEFT), checkpoints/, metrics.jsonl, summary.json, curves.png, data.json (by
which a resumed run notices that its data changed), and every answer of the evaluations: PriorWorld's in
before.jsonl and responses.jsonl, those of other benchmarks as `vigos eval` would in before/NAME and
after/NAME.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vigos_cli.config.provenance import CHANGES, claim, commit, same_run, versions
from vigos_cli.config.schema import DistillRun
from vigos_cli.data.check import check
from vigos_cli.data.fingerprint import claim_data
from vigos_cli.data.load import TableData, load_data
from vigos_cli.evaluation.training_evaluation import TrainingEvaluation
from vigos_cli.generation.engine import engine_of
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.routing import trains
from vigos_cli.models import base_cache
from vigos_cli.models.adapter_folder import save_adapter, settle_prompts, write_card
from vigos_cli.models.memory import peak_gib
from vigos_cli.models.student import load_student, pick_device
from vigos_cli.reporting.report import draw_curves, print_before_and_after
from vigos_cli.supervision.batches import Batches
from vigos_cli.training.clipping import ClipWatch, closing_note, progress_note, zero_gradient_rate
from vigos_cli.training.dry_run import dry_run
from vigos_cli.training.preflight import EmptySteps, notes
from vigos_cli.training.tracking import Tracker
from vigos_cli.training.trainer import Learner, make_learner, resume, total_steps, train
from vigos_cli.types import Response
from vigos_cli.utils import group
from vigos_cli.utils.files import read_lines, write_json, write_lines
from vigos_cli.utils.progress import Bar


def distill(config: DistillRun) -> dict[str, Any] | None:
    """Run it; return the summary (None on processes other than the first)."""
    out, began = Path(config.out), time.perf_counter()
    settle_prompts(config)
    if (finished := _finished(out, config)) is not None:
        print(f"{out} is finished already: nothing to do")
        return finished
    if config.plan:
        from vigos_cli.models.plan import print_plan

        print_plan(config)
        return None
    group.start(pick_device(config.model.device))
    first = group.rank() == 0
    out.mkdir(parents=True, exist_ok=True)

    student = load_student(config.model, config.adapter, seed=config.seed)
    prompter = Prompter(student.processor, config.prompt, config.routing)
    data = load_data(config.data, config.seed, config.limit)
    report = check(data) if first and isinstance(data, TableData) else None
    if report:
        print("\n".join(report.lines()))
    if first and not config.trainer.dry_run:
        claim_data(out, data)
    if first and (said := notes(config, len(data))):
        print("\n".join(said))
    learner = make_learner(student, config)
    if config.trainer.dry_run:
        return dry_run(learner, data, prompter, config)
    with ExitStack() as stack:  # closes the engine and the files however the run ends
        learner.engine = stack.enter_context(closing(engine_of(config, student)))
        around = TrainingEvaluation(learner.engine, prompter, config)
        resume(learner, out)
        if first:
            claim(out, config, step=learner.step)
        hash_at_start = student.frozen_hash()
        learner.seconds["load"] += time.perf_counter() - began

        before, answers = _before(out, learner, around)
        tracker = None
        if first:
            tracker = stack.enter_context(
                Tracker(config.tracking, out, asdict(config), from_step=learner.step)
            )
            if answers:
                tracker.evaluation("before", 0, before, around.samples, answers)
        if trains(config.routing):
            batches = Batches(data, prompter, config, ahead=student.device.type == "cuda")
            stack.callback(batches.close)
            _learn(learner, batches, prompter, config, around, tracker)
        facts = {"steps": learner.step, "adapter_modules": sum("lora_A" in name for name in student.adapter)}
        if first:  # before the closing evaluation, which may take hours and may fail
            save_adapter(student, out / "adapter", config, facts)

        with learner.timed("evaluate"):
            two_pass = config.routing.completion == "two_pass"
            after, responses = around.run(out / "after", two_pass=two_pass)
        hash_at_end = student.frozen_hash()
        assert hash_at_start == hash_at_end, "the frozen weights changed during the run"
        summary = None
        if tracker:
            tracker.evaluation("after", learner.step, after, around.samples, responses)
            write_lines(out / "responses.jsonl", [asdict(response) for response in responses])
            summary = _summary(learner, config, before, after, tracker) | {
                **facts,
                "data": report and report.summary(),
                "frozen_hash": {"start": hash_at_start, "end": hash_at_end},
            }
            _leave(out, learner, config, summary, tracker)
    base_cache.keep(student.release(), student.processor, config.model, config.adapter)
    return summary


def _learn(
    learner: Learner,
    batches: Batches,
    prompter: Prompter,
    config: DistillRun,
    around: TrainingEvaluation,
    tracker: Tracker | None,
) -> None:
    """Train to the last step, with a line of metrics.jsonl and of the progress bar for each."""
    out, steps = Path(config.out), total_steps(config, len(batches.data))
    watch, empty = ClipWatch(config.loss, tracker.lines if tracker else ()), EmptySteps(steps)
    with Bar("distill", steps, learner.step, quiet=tracker is None) as bar:

        def log(line: dict[str, Any]) -> None:
            bar.advance(progress_note(line))
            if tracker:
                tracker.log(line)
                watch.warn(line)
            empty.see(line)

        def measure() -> dict[str, Any]:
            return around.run(out / f"step-{learner.step}", samples=0, again=True)[0]

        train(learner, batches, prompter, config, log=log, evaluate=measure)


def _summary(
    learner: Learner, config: DistillRun, before: dict[str, Any], after: dict[str, Any], tracker: Tracker
) -> dict[str, Any]:
    """Build `summary.json`: results, versions, configuration."""
    student = learner.student
    return {
        "before": before,
        "after": after,
        **_rates(tracker.lines),
        "zero_gradient_rate": zero_gradient_rate(tracker.lines),
        "counts": dict(learner.counts),
        "quantised_modules": student.quantised_modules,
        "trainable_parameters": sum(p.numel() for p in student.adapter.values()),
        "commit": commit(),
        "versions": versions(),
        "seeds": {"run": config.seed, "bench": config.bench.seed},
        "processes": group.size(),
        "device": str(student.device),
        "engine": (learner.engine and learner.engine.facts()) or {"name": "hf"},
        "seconds": {phase: round(value, 2) for phase, value in learner.seconds.items()},
        "peak_gib": peak_gib(student.device),
        "changes": read_lines(Path(config.out) / CHANGES),  # of the configuration, on the way
        "config": asdict(config),
    }


def _leave(
    out: Path, learner: Learner, config: DistillRun, summary: dict[str, Any], tracker: Tracker
) -> None:
    """The adapter's card with its figures, the curves, the summary, and the table on the terminal."""
    title = f"{config.routing.name}, loss {config.loss.name}, seed {config.seed}, {learner.step} steps"
    evaluations = {0: summary["before"], learner.step: summary["after"]}
    evaluations |= {line["step"]: line["eval"] for line in tracker.lines if "eval" in line}
    write_card(out / "adapter", config, summary)
    draw_curves(tracker.lines, evaluations, out / "curves.png", title)
    write_json(out / "summary.json", summary)  # last: its presence says that the run is finished
    print_before_and_after(summary["before"], summary["after"], title)
    if note := closing_note(config.loss, summary["zero_gradient_rate"]):
        print(note)
    print(f"adapter and figures in {out}")


def _finished(out: Path, config: DistillRun) -> dict[str, Any] | None:
    if config.resume != "auto":
        return None
    if (out / "config.json").exists():
        same_run(json.loads((out / "config.json").read_text()), config)
    summary = out / "summary.json"
    return json.loads(summary.read_text()) if summary.exists() else None


def _before(out: Path, learner: Learner, around: TrainingEvaluation) -> tuple[dict[str, Any], list[Response]]:
    """The untrained student (the adapter starts at zero), measured once even if the run is resumed.

    The responses are empty where they were measured before.
    """
    path = out / "before.json"
    known = group.gather(json.loads(path.read_text()) if path.exists() else None)[0]
    if known is not None:
        return known, []
    with learner.timed("evaluate"):
        report, responses = around.run(out / "before")
    if group.rank() == 0:
        write_lines(out / "before.jsonl", [asdict(response) for response in responses])
        write_json(path, report)
    return report, responses


def _rates(lines: list[dict[str, Any]]) -> dict[str, float | None]:
    """Rates over all rollouts of the run."""
    rollouts = sum(line["rollouts"] for line in lines)
    names = ("valid_rate", "fallback_rate")
    if not rollouts:
        return dict.fromkeys(names)
    return {name: sum(line.get(name, 0) * line["rollouts"] for line in lines) / rollouts for name in names}
