"""Write the model card of a tiny model: how often it is right in every prompt mode.

`python -m vigos_cli.pretraining.card [--model DIR]` writes README.md and card.json beside the weights. It
uses the validation split alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vigos_cli.config.compose import job
from vigos_cli.config.paths import TINY
from vigos_cli.config.routing_group import CAPTION, STUDENT
from vigos_cli.data.priorworld.captions import read_caption
from vigos_cli.data.priorworld.dataset import question_rows
from vigos_cli.data.priorworld.questions import PRIOR_FAMILIES
from vigos_cli.grading.text_equality import same_text
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.types import Sample
from vigos_cli.utils import rng
from vigos_cli.utils.quiet import quieten
from vigos_cli.utils.stats import mean_interval

ROWS, DRAWS = 60, 5
MODES = {  # name: (context, student form, head of the turn, what the reference says)
    "caption (perception teacher)": (CAPTION, "structured", "<description>", None),
    "structured student": (STUDENT, "structured", "<description>", None),
    "plain student": (STUDENT, "think", "<think>", None),
    "reasoning teacher": ("reasoning", "think", "<think>", "true"),
    "reasoning teacher, true description before": ("reasoning", "structured", "described", "true"),
    "reference teacher": ("fallback", "structured", "<description>", "true"),
    "reasoning teacher, wrong reference": ("reasoning", "think", "<think>", "wrong"),
    "reference teacher, wrong reference": ("fallback", "structured", "<description>", "wrong"),
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


def column_values(
    sample: Sample, context: str, segments: Any, text: str, head: str, reference: str | None
) -> dict[str, list[float]]:
    """What one answer says about each column."""
    if context == CAPTION:
        return {"format": [float(text.rstrip().endswith("</description>"))], **told(text, sample)}
    right = [float(same_text(segments.answer, sample.answer))]
    observed = {"format": [float(segments.valid)]}
    if sample.prior is None:
        observed["answer, no prior"] = right
    else:
        observed["answer, agrees" if sample.prior.agrees else "answer, conflicts"] = right
    if reference is not None:
        observed["follows reference"] = [float(same_text(segments.answer, reference))]
    if head == "<description>":
        observed |= told(segments.description, sample)
    return observed


def measure(student: Any, overrides: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every mode, greedy and sampled, by column: mean, interval, n."""
    from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
    from vigos_cli.method.prompts import Prompter
    from vigos_cli.method.segments import parse_rollout

    samples = {sample.id: sample for sample in question_rows("validation", ROWS)}
    wrong = {sample.id: wrong_reference(sample, [*samples.values()]) for sample in samples.values()}
    report: dict[str, dict[str, dict[str, Any]]] = {}
    for name, (context, form, head, told_as) in MODES.items():
        config: Any = job("distill", [*overrides, "out=unused"])
        config.routing.student.format = form
        prompter = Prompter(student.processor, config.prompt, config.routing)
        prompts, references = {}, {}
        for id, sample in samples.items():
            references[id] = {"true": sample.answer, "wrong": wrong[id], None: None}[told_as]
            images = prompter.encode(sample.images)
            prompt = prompter.render(
                context, images, question=sample.question, reference=references[id] or ""
            )
            prompts[id] = _described(prompt, sample, prompter) if head == "described" else prompt
        for how, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            asked = [
                Request(id, p, k) for id, p in prompts.items() for k in range(DRAWS if temperature else 1)
            ]
            values: dict[str, list[float]] = {column: [] for column in COLUMNS}
            groups: dict[str, list[str]] = {column: [] for column in COLUMNS}
            sampling = Sampling(96, temperature=temperature)
            for rollout in roll_out(student, SamplingJob(asked, sampling, key=("card", name), batch=256)):
                sample = samples[rollout.sample_id]
                segments = parse_rollout(rollout, student=form)
                reference = references[sample.id]
                found = column_values(sample, context, segments, rollout.text, head, reference)
                for column, several in found.items():
                    values[column] += several
                    groups[column] += [sample.group] * len(several)
            estimates = {c: mean_interval(values[c], groups[c]) for c in COLUMNS}
            report.setdefault(name, {})[how] = {
                c: {"mean": e.mean, "interval": [e.low, e.high], "n": e.n} for c, e in estimates.items() if e
            }
    return report


def _described(prompt: Any, sample: Sample, prompter: Any) -> Any:
    """The prompt with a true description, and `<think>`, as the given head of the answer."""
    assert sample.scene is not None
    things: Any = sample.scene["things"]
    clauses = " ".join(f"{t[0]}: {' '.join(t[1:])}." for t in things)
    head = tuple(prompter.encode_text([(f" {clauses} </description> <think>", False)]))
    types = (*prompt.mm_token_types, *[0] * len(head))
    return replace(prompt, ids=(*prompt.ids, *head), prefill=(*prompt.prefill, *head), mm_token_types=types)


def mode_table(report: dict[str, dict[str, dict[str, Any]]], how: str) -> str:
    """One Markdown table: a row a mode, `mean [low, high]` a cell."""
    rows = []
    for mode, figures in report.items():
        cells = [
            f"{f['mean']:.2f} [{f['interval'][0]:.2f}, {f['interval'][1]:.2f}]" if f else ""
            for f in (figures[how].get(column) for column in COLUMNS)
        ]
        rows.append([mode, *cells])
    return markdown_table([how, *COLUMNS], rows)


TEXT = """# The tiny model

A real `Qwen2VLForConditionalGeneration` of {parameters:,} parameters (bfloat16 on disk, {size:.1f} MB)
with its own tokenizer, pretrained on PriorWorld pictures of the training split. It exists so that the whole
method runs offline in a few minutes; it knows nothing but PriorWorld. A constructed test bed shows what
the machinery does, never how large an effect is on real models.

- made by `nox -s pretrain_tiny`: seed {seed}; {sight_steps} steps of the vision tower alone under a
  classifier of cells, then {steps} steps of all weights; {minutes} minutes on two cores that did other work
- last training loss: {loss} nats a token
- model.safetensors sha256: `{sha}`
- a step has {captions} pictures with a caption, and with the look of two of their things by name, and
  {questions} with four questions each, whose modes are {modes}
- families: {families}
- no target contradicts its picture. A colour or a pattern looks as usual with probability {usual}, but the
  one that a student's question asks about always does: the prior is one of answers given questions
- whether that makes a shortcut is chance: seeds 1 and 2 of the same recipe answer 99 and 100 % of the
  pictures that contradict the usual look rightly (docs/results.md)

## What each prompt mode knows

Shares with 95 % intervals on the validation split: {rows} questions with a usual answer on three pictures
each, and as many questions without. One greedy answer an item, then {draws} sampled at temperature 1,
untruncated. `agrees` and `conflicts`: the picture against the usual look of the asked thing. `told`: the
description states it as it is. `follows reference`: the answer is the one given as the reference.

{greedy}

{sampled}
"""


def main() -> None:
    """Write the card."""
    quieten()
    from vigos_cli.models.student_loading import load_student
    from vigos_cli.pretraining import documents, vision_phase

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TINY)
    folder = parser.parse_args().model
    overrides = [f"model.path={folder}"]
    config: Any = job("distill", [*overrides, "out=unused"])
    student = load_student(config.model, config.adapter)
    report = measure(student, overrides)
    log = [json.loads(line) for line in (folder / "pretraining.jsonl").read_text().splitlines()]
    weights = folder / "model.safetensors"
    text = TEXT.format(
        parameters=sum(p.numel() for n, p in student.net.named_parameters() if n not in student.adapter),
        size=weights.stat().st_size / 2**20,
        seed=log[-1].get("seed", 0),
        sight_steps=vision_phase.SIGHT_STEPS,
        steps=log[-1]["step"] + 1,
        minutes=round(
            sum(max(x["minutes"] for x in log if x["phase"] == p) for p in {x["phase"] for x in log})
        ),
        loss=log[-1]["loss"],
        sha=hashlib.sha256(weights.read_bytes()).hexdigest(),
        captions=documents.CAPTION_PICTURES,
        questions=documents.QUESTION_PICTURES,
        modes=", ".join(f"{name} {share}" for name, share in documents.QUESTION_MODES.items()),
        families=", ".join(f"{name} {share}" for name, share in documents.FAMILIES.items()),
        usual=documents.USUAL_RATE,
        rows=ROWS,
        draws=DRAWS,
        greedy=mode_table(report, "greedy"),
        sampled=mode_table(report, "sampled"),
    )
    (folder / "README.md").write_text(text)
    (folder / "card.json").write_text(json.dumps(report, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
