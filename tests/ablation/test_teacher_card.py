"""An arm whose teacher was never trained to read its context is marked, and no other arm is."""

import csv
import json

import pytest
from sweeps import SHARES, cell, make

from vigos_cli.ablation.arms import read_sweep
from vigos_cli.ablation.sweep_report import write_report
from vigos_cli.ablation.teacher_card import NOTE, imitated, teacher_context, tells_answer, untrained_teachers
from vigos_cli.config.paths import TINY
from vigos_cli.pretraining.teacher_accuracy import ROUTINGS


def card(folder, routing: str, teacher: str, **shares: float) -> None:
    """Write a card with one teacher's accuracy by the kind of question."""
    config = cell(f"routing={routing}", "rollout.n=8").config
    answers = {kind.replace("_", " "): {"mean": share} for kind, share in shares.items()}
    entry = {"context": teacher_context(config.routing, teacher), "answers": answers}
    (folder / "card.json").write_text(json.dumps({"teachers": [entry]}))


def found(folder, *overrides: str) -> list[str]:
    from dataclasses import asdict

    return untrained_teachers(asdict(cell(*overrides, f"model.path={folder}").config))


def test_a_teacher_that_is_told_the_answer_must_know_it_whatever_the_picture_shows(tmp_path):
    card(tmp_path, "opsd", "privileged", agrees=1.0, conflicts=0.5, no_prior=1.0)
    assert found(tmp_path, "routing=opsd") == ["privileged answers 50% rightly"]
    card(tmp_path, "opsd", "privileged", agrees=1.0, conflicts=0.9, no_prior=1.0)
    assert found(tmp_path, "routing=opsd") == []


def test_a_teacher_that_is_not_told_may_answer_from_the_usual_look(tmp_path):
    card(tmp_path, "vcsd", "image", agrees=1.0, conflicts=0.0, no_prior=0.95)
    assert found(tmp_path, "routing=vcsd") == []
    card(tmp_path, "vcsd", "image", agrees=1.0, conflicts=0.0, no_prior=0.6)
    assert found(tmp_path, "routing=vcsd") == ["image answers 60% rightly"]


def test_a_control_that_is_told_another_answer_is_not_judged(tmp_path):
    card(tmp_path, "other_answer", "reasoning", agrees=0.0, conflicts=0.0, no_prior=0.0)
    assert found(tmp_path, "routing=other_answer") == []


def test_only_the_same_context_counts(tmp_path):
    card(tmp_path, "opsd", "privileged", agrees=0.0, conflicts=0.0, no_prior=0.0)
    assert found(tmp_path, "routing=opsd")
    assert not found(tmp_path, "routing=opsd_structured")  # the student writes a description
    assert not found(tmp_path, "routing=opsd", "routing.teachers.privileged.told=[question,solution]")


def test_a_folder_without_a_card_marks_nothing(tmp_path):
    assert found(tmp_path, "routing=opsd") == []
    (tmp_path / "card.json").write_text("{}")
    assert found(tmp_path, "routing=opsd") == []


@pytest.mark.parametrize(
    ("routing", "teachers"),
    [
        ("vigos", ("perception", "reasoning", "fallback")),
        ("purified_opsd", ("plain", "both")),  # the target moves away from `alone`
        ("vcsd", ("image",)),
        ("opd_v", ("crop",)),  # `masked` only weights the tokens
        ("opsa", ()),
        ("sft", ()),
    ],
)
def test_the_imitated_teachers(routing, teachers):
    assert imitated(cell(f"routing={routing}").config.routing) == teachers


def test_what_tells_the_answer():
    for told in ("answer", "solution", {"sibling": "right"}, {"column": "demonstration"}):
        assert tells_answer(["question", told])
    for told in (
        {"column": "cue"},
        {"row": "other", "column": "answer"},
        {"row": "other", "column": "solution"},
    ):
        assert not tells_answer(["question", told])


def test_the_shipped_card_has_every_teacher_that_is_imitated_and_asked_a_question():
    known = [entry["context"] for entry in json.loads((TINY / "card.json").read_text())["teachers"]]
    for name in ROUTINGS:
        routing = cell(f"routing={name}", "rollout.n=8").config.routing
        for teacher in imitated(routing):
            context = json.loads(json.dumps(teacher_context(routing, teacher)))
            assert context in known or not context["told"]


@pytest.mark.slow
def test_with_several_bases_the_base_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
    known = {"one": 0.2, "two": 1.0, "three": 0.4}
    for name, share in known.items():
        (tmp_path / name).mkdir()
        card(tmp_path / name, "opsd", "privileged", agrees=share, conflicts=share, no_prior=share)
    sweep = tmp_path / "sweep"
    cells = [
        cell("routing=opsd", f"model.path={tmp_path / name}", f"seed={s}") for name in known for s in (1, 2)
    ]
    make(sweep, [(one, SHARES) for one in cells])
    marked = read_sweep(sweep, repeat_over=["model.path"]).arms[-1].untrained
    assert marked == [
        f"privileged answers 20% rightly ({tmp_path / 'one'})",
        f"privileged answers 40% rightly ({tmp_path / 'three'})",
    ]
    write_report(sweep, repeat_over=["model.path"])  # each cell has its own base in cells.csv
    with (sweep / "cells.csv").open(encoding="utf-8") as file:
        named = [(line["model.path"], line["seed"]) for line in csv.DictReader(file)]
    assert named == [(str(tmp_path / name), seed) for name in known for seed in ("1", "2")]


@pytest.mark.slow
def test_the_report_marks_the_arm(tmp_path, monkeypatch):
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
    base = tmp_path / "base"
    base.mkdir()
    card(base, "opsd", "privileged", agrees=0.2, conflicts=0.1, no_prior=0.4)
    sweep = tmp_path / "sweep"
    make(sweep, [(cell(f"routing={r}", f"model.path={base}"), SHARES) for r in ("vigos", "opsd")])
    titles = [arm.title for arm in read_sweep(sweep).arms]
    assert titles[-2:] == ["vigos", f"opsd ({NOTE})"]
    write_report(sweep)
    for file in ("report.md", "report.html"):
        text = (sweep / file).read_text()
        assert text.count(f"opsd ({NOTE})") >= 2 and f"vigos ({NOTE})" not in text
        assert "rm opsd: privileged answers 10% rightly" in text  # the name of an arm keeps its first letter
