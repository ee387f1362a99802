"""How often the teachers of every routing answer rightly in their own contexts.

A base was trained in a few prompt modes. A teacher that reads something else (a crop, a cue, a demonstration)
may fail because it has never read that, which says nothing about the method that uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigos_cli.ablation.teacher_card import teacher_context
from vigos_cli.config.compose import job
from vigos_cli.config.routing_checks import used_teachers
from vigos_cli.data.priorworld.dataset import question_rows
from vigos_cli.grading.text_equality import same_text
from vigos_cli.pretraining.mode_accuracy import ROWS, behind_true_description, question_kind, shares
from vigos_cli.types import Sample

ROUTINGS = (
    "vigos",
    "opsd",
    "opsd_structured",
    "opsd_original",
    "other_answer",
    "op2sd",
    "sdft",
    "vicur",
    "vision_opd",
    "opd_v",
    "s2vopd",
    "vcsd",
    "purified_opsd",
    "sdpo",
    "u_opsd",
)
KINDS = ("agrees", "conflicts", "no prior")


def measure_teachers(student: Any, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Greedy answers of every teacher that is asked a question, on the validation split.

    One entry a teacher: routing, teacher, what it reads, and mean, interval and n by the kind of question.
    """
    from vigos_cli.method.prompts import Prompter

    samples = question_rows("validation", ROWS)
    report = []
    for name in ROUTINGS:
        config: Any = job("distill", [*overrides, f"routing={name}", "rollout.n=8", "out=unused"])
        prompter = Prompter(student.processor, config.prompt, config.routing)
        for teacher in used_teachers(config.routing):
            if config.routing.teachers[teacher].told:  # the perception teacher is told nothing
                report.append(
                    {
                        "routing": name,
                        "teacher": teacher,
                        "context": teacher_context(config.routing, teacher),
                        "answers": measure_teacher(student, samples, teacher, prompter, config),
                    }
                )
    return report


def measure_teacher(
    student: Any, samples: Sequence[Sample], teacher: str, prompter: Any, config: Any
) -> dict[str, dict[str, Any]]:
    """The share of right answers of one teacher, by the kind of the question.

    Where the student describes, teachers read its description before they think; here it is a true one.
    """
    from collections import Counter

    from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
    from vigos_cli.method.segments import parse_rollout
    from vigos_cli.supervision.batches import prepare
    from vigos_cli.supervision.contexts import TeacherPrompts

    requests = []
    for item in prepare(samples, list(enumerate(range(len(samples)))), prompter, config, Counter()):
        prompt = TeacherPrompts(item, prompter, config, right_siblings(item.sample), {}).prompt(teacher)
        if prompt is not None:
            if config.routing.student.format == "structured":
                prompt = behind_true_description(prompt, item.sample, prompter)
            requests.append(Request(item.sample.id, prompt))
    by_id = {sample.id: sample for sample in samples}
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    groups: dict[str, list[str]] = {kind: [] for kind in KINDS}
    job = SamplingJob(requests, Sampling(96, temperature=0.0), key=("teachers",), batch=256)
    for rollout in roll_out(student, job):
        sample = by_id[rollout.sample_id]
        segments = parse_rollout(rollout, student=config.routing.student.format)
        values[question_kind(sample)].append(float(same_text(segments.answer, sample.answer)))
        groups[question_kind(sample)].append(sample.group)
    return shares(values, groups)


def right_siblings(sample: Sample) -> Any:
    """Rollouts of the same prompt that are right, made of the worked solution."""
    from vigos_cli.supervision.siblings import Group

    right = f"<think> {sample.solution} </think> \\boxed{{{sample.answer}}}"
    return Group(others={"right": (right,), "majority": (right,)})
