"""Rows without pictures are asked to think without a description, beside rows with pictures."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import distill_config, make_student

from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.method.instructions import without_description
from vigos_cli.method.prompts import Prompter
from vigos_cli.supervision.batches import Batches, prepare
from vigos_cli.supervision.contexts import supervise_all
from vigos_cli.supervision.rollouts import sample_rollouts
from vigos_cli.training.distill import distill
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step
from vigos_cli.types import Kind

KEEP = "data.text_only=keep"


def mixed(size: int = 4) -> list:
    """Samples of PriorWorld; every second one has lost its picture."""
    samples = [PriorWorld(size=size)[i] for i in range(size)]
    return [replace(one, images=()) if i % 2 else one for i, one in enumerate(samples)]


TOLD = {"vigos": {"reasoning", "fallback"}, "opsd": {"privileged"}}  # the teachers that are told something


@pytest.mark.slow
@pytest.mark.parametrize("routing", TOLD)
def test_a_row_without_a_picture_has_the_think_prompts_for_every_context(tiny, routing):
    config = distill_config(KEEP, f"routing={routing}")
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    form = replace(config.routing.student, format="think")
    plain = Prompter(tiny.processor, config.prompt, replace(config.routing, student=form))
    counts: Counter[str] = Counter()
    prepared = prepare(mixed(), enumerate(range(4)), prompter, config, counts)
    assert counts == {"text_only": 2} and len(prepared) == 4
    rows = supervise_all(sample_rollouts(tiny, prepared, prompter, config, 0), prompter, config)
    for item, row in zip(prepared, rows, strict=True):
        own = prompter if item.sample.images else plain
        asked = {"question": item.sample.question, "reference": item.reference}
        assert row.rollout.prompt.ids == own.render(STUDENT, item.images, **asked).ids
        assert (
            "<think>" in row.rollout.text and tiny.tokenizer.decode(own.prefills[STUDENT]) in row.rollout.text
        )
        if not item.sample.images:
            assert Kind.DESCRIPTION not in row.segments.kinds and "perception" not in row.contexts
            told = config.prompt.reasoning.replace("{question}", asked["question"])
            told = told.replace("{reference}", asked["reference"])
            assert TOLD[routing] == {name for name, one in config.routing.teachers.items() if one.told}
            for teacher in TOLD[routing]:
                prompt = prompter.without_pictures.render(teacher, item.images, **asked)
                text = tiny.tokenizer.decode(prompt.ids)
                assert told in text and text.endswith("<think>")
    assert any(row.segments.valid for row in rows[1::2])
    assert any(row.terms for row in rows[1::2])


@pytest.mark.parametrize("valid", [True, False])
def test_a_teacher_that_sees_only_the_picture_is_left_out(tiny, valid):
    changes = ("routing.supervise.reasoning=[perception,reasoning]", "routing.supervise.invalid=perception")
    config = distill_config(KEEP, *changes, f"rollout.max_new_tokens={60 if valid else 3}")
    text = without_description(config.routing)
    assert (text.student.format, text.supervise.description) == ("think", None)
    assert config.routing.supervise.description == "perception"
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    prepared = prepare(mixed(), enumerate(range(4)), prompter, config, Counter())
    rows = supervise_all(sample_rollouts(tiny, prepared, prompter, config, 0), prompter, config)
    assert any(row.segments.valid for row in rows[1::2]) == valid
    for item, row in zip(prepared, rows, strict=True):
        whole = {"perception", "reasoning"} if row.segments.valid else {"perception"}
        left = whole if item.sample.images else whole - {"perception"}
        assert {term.by for term in row.terms} == left == row.contexts.keys() - {STUDENT}


@pytest.mark.slow
def test_a_step_learns_from_both_kinds_of_rows():
    config = distill_config(KEEP, "trainer.batch=6", "rollout.max_new_tokens=60", "trainer.micro_batch=4")
    student = make_student()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    learner = make_learner(student, config)
    line = train_step(learner, Batches(mixed(6), prompter, config), prompter, config)
    assert line["rollouts"] == 6 and learner.counts["text_only"] == 3
    assert line["supervised_tokens"] > 0


def rows_file(folder: Path) -> Path:
    """Two rows with a picture, and two without."""
    PriorWorld(size=1)[0].images[0].save(folder / "a.png")
    rows = [
        {"question": f"What colour is the {kind}?", "answer": "red"}
        for kind in ("hat", "cup", "fish", "tree")
    ]
    rows = [row | ({"image": "a.png"} if i < 2 else {}) for i, row in enumerate(rows)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False])
def test_a_run_on_a_mixed_file_counts_its_rows_without_pictures(tmp_path, capsys, keep):
    small = (
        "trainer.batch=4",
        "trainer.steps=2",
        "bench.tasks.priorworld.rows=1",
        "rollout.max_new_tokens=30",
    )
    data = ("data=jsonl", "bench=priorworld", f"data.path={rows_file(tmp_path)}", *([KEEP] if keep else []))
    summary = distill(distill_config(*data, *small, f"out={tmp_path / 'out'}"))
    assert summary
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "rollouts" in line]
    said = capsys.readouterr().out
    assert ("data: text_only 2" in said, "missing_image 2: row 2, 3" in said) == (keep, not keep)
    assert [line["rollouts"] for line in steps] == [4, 4] if keep else [2, 2]
