"""How often a base is right in every prompt mode, greedy and sampled, on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vigos_cli.config.compose import job
from vigos_cli.config.routing_group import CAPTION, STUDENT
from vigos_cli.data.priorworld.captions import caption, read_caption
from vigos_cli.data.priorworld.dataset import question_rows
from vigos_cli.data.priorworld.evidence import named_things, scene_of
from vigos_cli.data.priorworld.questions import PRIOR_FAMILIES
from vigos_cli.grading.text_equality import same_text
from vigos_cli.pretraining.training_questions import reading_question
from vigos_cli.types import Sample
from vigos_cli.utils import rng
from vigos_cli.utils.stats import mean_interval

ROWS, DRAWS = 60, 5


@dataclass(frozen=True, slots=True)
class Mode:
    """A prompt, and how the answer begins."""

    context: str
    form: str = "structured"
    told: str = ""  # what the reference says: true, wrong, or nothing
    described: bool = False  # the answer begins with a given true description
    reads: bool = False  # the question is about that description; only of questions with a usual answer

    @property
    def describes(self) -> bool:
        """Whether the model writes a description of its own."""
        return self.form == "structured" and not self.described


MODES = {
    "caption (perception teacher)": Mode(CAPTION),
    "structured student": Mode(STUDENT),
    "plain student": Mode(STUDENT, "think"),
    "reasoning teacher": Mode("reasoning", "think", "true"),
    "reasoning teacher, true description before": Mode("reasoning", told="true", described=True),
    "reference teacher": Mode("fallback", told="true"),
    "reasoning teacher, wrong reference": Mode("reasoning", "think", "wrong"),
    "reference teacher, wrong reference": Mode("fallback", told="wrong"),
    "reader of a true description": Mode(STUDENT, described=True, reads=True),
}
COLUMNS = (
    "format",
    "answer, agrees",
    "answer, conflicts",
    "answer, no prior",
    "follows reference",
    "asked look told, agrees",
    "asked look told, conflicts",
    "other looks told",
    "places told",
)
Report = dict[str, dict[str, dict[str, Any]]]  # mode -> greedy or sampled -> column -> mean, interval, n


def wrong_reference(sample: Sample, samples: Sequence[Sample]) -> str:
    """Another answer of the same family."""
    others = sorted({s.answer for s in samples if s.family == sample.family} - {sample.answer})
    return others[rng.key("wrong", sample.id) % len(others)]


def told(description: str, sample: Sample) -> dict[str, list[float]]:
    """What a description says truly, by what was asked."""
    assert sample.scene is not None
    look = read_caption(description)
    found: dict[str, list[float]] = {}
    things: Any = sample.scene["things"]
    for kind, *truth in things:
        said = look.get(kind, [None] * 4)
        for i, family in enumerate(PRIOR_FAMILIES):
            asked = sample.prior is not None and (kind, family) == (sample.scene["asked"], sample.family)
            when = "agrees" if sample.prior and sample.prior.agrees else "conflicts"
            name = f"asked look told, {when}" if asked else "other looks told"
            found.setdefault(name, []).append(float(said[i] == truth[i]))
        found.setdefault("places told", []).append(float(list(said[2:]) == truth[2:]))
    return found


def question_kind(sample: Sample) -> str:
    """What the picture says about the usual answer of the question."""
    if sample.prior is None:
        return "no prior"
    return "agrees" if sample.prior.agrees else "conflicts"


def column_values(
    sample: Sample, mode: Mode, segments: Any, text: str, reference: str
) -> dict[str, list[float]]:
    """What one answer says about each column."""
    if mode.context == CAPTION:
        return {"format": [float(text.rstrip().endswith("</description>"))], **told(text, sample)}
    observed = {
        "format": [float(segments.valid)],
        f"answer, {question_kind(sample)}": [float(same_text(segments.answer, sample.answer))],
    }
    if reference:
        observed["follows reference"] = [float(same_text(segments.answer, reference))]
    if mode.describes:
        observed |= told(segments.description, sample)
    return observed


def measure_modes(student: Any, overrides: Sequence[str]) -> Report:
    """Every mode, greedy and sampled, by column: mean, interval, n."""
    from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
    from vigos_cli.method.prompts import Prompter
    from vigos_cli.method.segments import parse_rollout

    everything = question_rows("validation", ROWS)
    report: Report = {}
    for name, mode in MODES.items():
        config: Any = job("distill", [*overrides, "out=unused"])
        config.routing.student.format = mode.form
        prompter = Prompter(student.processor, config.prompt, config.routing)
        samples = {s.id: s for s in everything if s.prior is not None or not mode.reads}
        references = {
            s.id: {"true": s.answer, "wrong": wrong_reference(s, everything), "": ""}[mode.told]
            for s in samples.values()
        }
        prompts = {id: _prompt(mode, sample, references[id], prompter) for id, sample in samples.items()}
        for how, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            draws = range(DRAWS if temperature else 1)
            asked = [Request(id, prompt, k) for id, prompt in prompts.items() for k in draws]
            values: dict[str, list[float]] = {column: [] for column in COLUMNS}
            groups: dict[str, list[str]] = {column: [] for column in COLUMNS}
            sampling = Sampling(96, temperature=temperature)
            for rollout in roll_out(student, SamplingJob(asked, sampling, key=("card", name), batch=256)):
                sample = samples[rollout.sample_id]
                segments = parse_rollout(rollout, student=mode.form)
                found = column_values(sample, mode, segments, rollout.text, references[sample.id])
                for column, several in found.items():
                    values[column] += several
                    groups[column] += [sample.group] * len(several)
            report.setdefault(name, {})[how] = shares(values, groups)
    return report


def shares(values: dict[str, list[float]], groups: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Mean, interval and n of each column that has values; the answers of a group are one cluster."""
    estimates = {column: mean_interval(values[column], groups[column]) for column in values}
    return {
        column: {"mean": e.mean, "interval": [e.low, e.high], "n": e.n}
        for column, e in estimates.items()
        if e
    }


def _prompt(mode: Mode, sample: Sample, reference: str, prompter: Any) -> Any:
    """The prompt of a mode for one sample."""
    question = sample.question
    if mode.reads:
        question = reading_question(named_things(sample)[0], sample.family).text
    images = prompter.encode(sample.images)
    prompt = prompter.render(mode.context, images, question=question, reference=reference)
    return behind_true_description(prompt, sample, prompter) if mode.described else prompt


def behind_true_description(prompt: Any, sample: Sample, prompter: Any) -> Any:
    """The prompt with the true description and `<think>` as the head of the answer."""
    head = tuple(prompter.encode_text([(f" {caption(scene_of(sample))} </description> <think>", False)]))
    types = (*prompt.mm_token_types, *[0] * len(head))
    return replace(prompt, ids=(*prompt.ids, *head), prefill=(*prompt.prefill, *head), mm_token_types=types)
