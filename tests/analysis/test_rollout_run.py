"""`vigos rollout`: the lines it writes, scores that equal those of a forward pass, and resuming."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_student
from PIL import Image

from vigos_cli.config.compose import job
from vigos_cli.utils.quiet import quieten

TINY_NUMBERS = {"valid", "accuracy", "tokens", "cut_off", "turn_kl", "differ", "no_gradient"}
ARGS = ("limit=3", "rollout.n=2", "rollout.batch=2", "rollout.max_new_tokens=60")


def roll(out, *overrides):
    quieten()
    from vigos_cli.analysis.rollout_run import sample

    return sample(job("rollout", [f"out={out}", *ARGS, *overrides]))


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    out = tmp_path_factory.mktemp("rollout")
    return out, roll(out)


def test_every_row_is_sampled_n_times_and_every_token_has_a_record(lines):
    out, lines = lines
    assert [(line["row"], line["draw"]) for line in lines] == [(r, d) for r in range(3) for d in range(2)]
    assert [json.loads(text) for text in (out / "rollouts.jsonl").read_text().splitlines()] == lines
    for line in lines:
        n = len(line["token_ids"])
        assert n == line["tokens"] > 5
        for column in ("kinds", "student_logprob", "teacher", "teacher_logprob", "kl"):
            assert len(line[column]) == n
        told = dict(zip(line["kinds"], line["teacher"], strict=True))
        if line["valid"]:
            assert told["description"] == "perception" and told["answer"] == "reasoning"
            assert told["delimiters"] is None
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rollouts"] == 6 and summary["accuracy"]["n"] == 6
    assert (out / "rollouts.html").stat().st_size > 10_000


def test_the_summary_has_the_verdict_and_every_measure(lines):
    out, lines = lines
    readiness = json.loads((out / "summary.json").read_text())["readiness"]
    assert readiness["verdict"] in ("start", "change") and readiness["rows"] == 3
    assert readiness["measures"].keys() > TINY_NUMBERS
    for name in TINY_NUMBERS:
        assert readiness["measures"][name].keys() == {"mean", "low", "high", "n"}
    assert readiness["measures"]["valid"]["mean"] == sum(line["valid"] for line in lines) / 6
    assert readiness["measures"]["tokens"]["n"] == 6
    supervised = sum(teacher is not None for line in lines for teacher in line["teacher"])
    assert readiness["measures"]["differ"]["n"] == supervised
    kl = sum(value for line in lines for value in line["kl"] if value is not None)
    assert readiness["measures"]["turn_kl"]["mean"] == pytest.approx(kl / 6, rel=1e-4)
    assert json.dumps(readiness["line"])[1:-1] in (out / "rollouts.html").read_text()


def test_saved_rollouts_are_scored_with_another_clip(lines, tmp_path):
    """The tiny model has one token for each answer to learn, and the clip of the paper cuts it."""
    again = roll(tmp_path, f"rollouts={lines[0]}", "loss.clip=token", "loss.clip_value=1e-6")
    assert [line["token_ids"] for line in again] == [line["token_ids"] for line in lines[1]]
    readiness = json.loads((tmp_path / "summary.json").read_text())["readiness"]
    assert "clip" in [change["what"] for change in readiness["changes"]]


@pytest.mark.slow
def test_without_teachers_rollouts_are_only_sampled_and_graded(lines, tmp_path, monkeypatch):
    from vigos_cli.analysis import rollout_run

    monkeypatch.setattr(rollout_run, "score_tokens", None)  # to call it would fail
    plain = roll(tmp_path, "rollout.teachers=false")
    unscored = ("student_logprob", "teacher", "teacher_logprob", "kl", "loss", "seconds")
    for line, scored in zip(plain, lines[1], strict=True):
        assert {k: v for k, v in line.items() if k not in unscored} == {
            k: v for k, v in scored.items() if k not in unscored
        }
        assert {*line["student_logprob"], *line["teacher"], *line["kl"], line["loss"]} == {None}
    readiness = json.loads((tmp_path / "summary.json").read_text())["readiness"]
    assert readiness["measures"].keys() == {
        *("valid", "valid_finished", "accuracy", "tokens", "cut_off", "leakage")
    }
    assert (tmp_path / "rollouts.html").stat().st_size > 10_000


def test_commands_that_need_teachers_refuse_to_do_without():
    from vigos_cli.utils.errors import ConfigError

    for command, key in (("rollout", "looking=true"), ("distill", "seed=0")):
        with pytest.raises(ConfigError, match=r"rollout\.teachers"):
            job(command, ["out=unused", "rollout.teachers=false", key])


def test_a_token_that_the_tokenizer_lacks_has_its_number_as_name(lines):
    from vigos_cli.analysis.rollout_run import _shown

    line = lines[1][0]
    names = [None] * len(line["token_ids"])
    emptied = line | {"text": "", "ends": [0] * len(line["ends"])}
    texts = [token.text for token in _shown(emptied, (), names).tokens if token.kind is not None]
    assert texts == [f"token {id}" for id in line["token_ids"]]


@pytest.mark.slow
def test_the_command_ends_with_the_table_and_the_verdict(tmp_path, capsys):
    from vigos_cli.cli.commands.rollout import run

    run(job("rollout", [f"out={tmp_path}", *ARGS, "limit=1"]))
    printed = capsys.readouterr().out.splitlines()
    readiness = json.loads((tmp_path / "summary.json").read_text())["readiness"]
    assert printed[-1] == f"verdict: {readiness['line']}"
    table = "\n".join(printed[-25:-1])
    for label in (
        "before training, rows of the data: 1",
        "divergence, reasoning, nats",
        "2 answers",
        "; no clip",
    ):
        assert label in table


def test_the_scores_are_those_of_a_plain_forward_pass(lines):
    """The student reads its own prompt. The untrained adapter is zero, so only the prompts cause the KL."""
    from vigos_cli.config.routing_group import STUDENT
    from vigos_cli.method.prompts import Prompter

    _, lines = lines
    student = make_student()
    config = job("rollout", ["out=unused", *ARGS])
    prompter = Prompter(student.processor, config.prompt, config.routing)
    from vigos_cli.data.load import load_data

    data = load_data(config.data, config.seed, config.limit)
    line = lines[0]
    sample = data[line["row"]]
    images = prompter.encode(sample.images)
    for role, name in ((STUDENT, "student_logprob"), ("perception", "teacher_logprob")):
        prompt = prompter.render(role, images, question=sample.question, reference=sample.answer)
        ids = [*prompt.ids, *line["token_ids"]]
        with torch.no_grad():
            logits = student.base(**student.batch([ids], [prompt])).logits[0]
        logp = logits[len(prompt.ids) - 1 : -1].log_softmax(-1)
        own = logp.gather(1, torch.tensor(line["token_ids"])[:, None])[:, 0].tolist()
        checked = 0
        for mine, theirs, teacher in zip(own, line[name], line["teacher"], strict=True):
            if role is STUDENT or teacher == "perception":
                assert theirs == pytest.approx(mine, abs=1e-3)
                checked += 1
        assert checked > 3


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_lines(lines, tmp_path):
    out, whole = lines
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.json").write_text((out / "config.json").read_text())
    text = (out / "rollouts.jsonl").read_text()
    (again / "rollouts.jsonl").write_text(text[: len(text) // 2])
    resumed = roll(again)

    def timeless(lines):
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]

    assert timeless(resumed) == timeless(whole)


def test_a_row_that_was_interrupted_twice_is_written_once(lines, tmp_path, monkeypatch):
    from vigos_cli.analysis import rollout_run

    out, whole = lines
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.json").write_text((out / "config.json").read_text())
    (again / "rollouts.jsonl").write_text(json.dumps(whole[0]) + "\n")  # one of the two rollouts of row 0
    make, made = rollout_run._lines, []

    def killed(*arguments):
        if made:
            raise KeyboardInterrupt
        made.append(make(*arguments))
        return made[0]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rollout_run, "_lines", killed)
        roll(again)
    assert len((again / "rollouts.jsonl").read_text().splitlines()) == 2
    assert [(line["row"], line["draw"]) for line in roll(again)] == [
        (r, d) for r in range(3) for d in range(2)
    ]


@pytest.mark.slow
def test_what_was_counted_of_rows_stays_in_the_summary_of_a_resumed_run(tmp_path):
    for number, size in enumerate([(20, 20), (84, 84), (20, 40), (900, 1)]):
        Image.new("RGB", size, "grey").save(tmp_path / f"{number}.png")
    rows = [{"question": "Grey?", "answer": "yes", "images": [f"{number}.png"]} for number in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("data=jsonl", f"data.path={tmp_path / 'rows.jsonl'}", "limit=4", "rollout.max_new_tokens=4")

    def counts(out):
        roll(out, *asked, "rollout.teachers=false", "resume=auto")
        return json.loads((out / "summary.json").read_text())["counts"]

    whole, again = tmp_path / "whole", tmp_path / "again"
    assert counts(whole) == {"image_enlarged": 2, "image_strip": 1}
    shutil.copytree(whole, again)
    lines = (whole / "rollouts.jsonl").read_text().splitlines(keepends=True)
    (again / "rollouts.jsonl").write_text("".join(lines[:3]))  # one row, and a part of the next
    assert counts(again) == counts(whole) == {"image_enlarged": 2, "image_strip": 1}


def test_resume_refuses_another_configuration(lines):
    from vigos_cli.utils.errors import ConfigError

    with pytest.raises(ConfigError, match=r"rollout\.temperature"):
        roll(lines[0], "rollout.temperature=0.5")


def test_a_batch_that_was_interrupted_while_it_was_written_is_sampled_again_as_a_whole():
    from vigos_cli.analysis.rollout_run import _whole_batches

    batches, wanted = [(0, 1), (2, 3), (4,)], dict.fromkeys(range(5), 2)

    def rows(*written):
        return [{"row": row} for row in written]

    assert _whole_batches([], batches, wanted) == set()
    assert _whole_batches(rows(0, 0, 1, 1, 2, 2), batches, wanted) == {0, 1}
    assert _whole_batches(rows(0, 0, 1, 1, 2, 2, 3), batches, wanted) == {0, 1}
    assert _whole_batches(rows(0, 0, 1, 1, 2, 2, 3, 3), batches, wanted) == {0, 1, 2, 3}
    assert _whole_batches(rows(1, 1, 2, 2, 3, 3), batches, wanted) == {1, 2, 3}  # row 0 could not be used
