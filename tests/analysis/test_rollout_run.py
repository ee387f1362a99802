"""`vigos rollout`: the lines it writes, scores that equal those of a forward pass, and resuming."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_student

from vigos_cli.config.compose import job
from vigos_cli.utils.quiet import quieten

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


def test_the_scores_are_those_of_a_plain_forward_pass(lines):
    """The student reads its own prompt. The untrained adapter is zero, so only the prompts cause the KL."""
    from vigos_cli.method.prompts import Prompter
    from vigos_cli.types import Role

    _, lines = lines
    student = make_student()
    config = job("rollout", ["out=unused", *ARGS])
    prompter = Prompter(student.processor, config.prompt, config.routing)
    from vigos_cli.data.load import load_data

    data = load_data(config.data, config.seed, config.limit)
    line = lines[0]
    sample = data[line["row"]]
    images = prompter.encode(sample.images)
    for role, name in ((Role.STUDENT, "student_logprob"), (Role.PERCEPTION, "teacher_logprob")):
        prompt = prompter.render(role, images, question=sample.question, reference=sample.answer)
        ids = [*prompt.ids, *line["token_ids"]]
        with torch.no_grad():
            logits = student.base(**student.batch([ids], [prompt])).logits[0]
        logp = logits[len(prompt.ids) - 1 : -1].log_softmax(-1)
        own = logp.gather(1, torch.tensor(line["token_ids"])[:, None])[:, 0].tolist()
        checked = 0
        for mine, theirs, teacher in zip(own, line[name], line["teacher"], strict=True):
            if role is Role.STUDENT or teacher == "perception":
                assert theirs == pytest.approx(mine, abs=1e-3)
                checked += 1
        assert checked > 3


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


def test_resume_refuses_another_configuration(lines):
    from vigos_cli.utils.errors import ConfigError

    with pytest.raises(ConfigError, match=r"rollout\.temperature"):
        roll(lines[0], "rollout.temperature=0.5")
