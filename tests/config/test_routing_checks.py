"""Each mistake in a routing file of a person's own is one line that names the key and what to write."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from vigos_cli.__main__ import main
from vigos_cli.config.compose import job
from vigos_cli.config.paths import config_dir
from vigos_cli.config.routing_checks import check_routing, used_teachers
from vigos_cli.config.schema import PromptConfig, RoutingConfig
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.method.instructions import check_instructions
from vigos_cli.utils.errors import ConfigError

GOOD = """
name: mine
student: {format: structured, sees: image}
teachers:
  seeing: {sees: image}
  told: {sees: image, told: [question, answer], prompt: reasoning}
targets:
  both: {base: seeing, plus: told, minus: seeing}
supervise: {description: seeing, reasoning: told, invalid: {by: both, divergence: forward_kl}}
"""


def option(group: str, name: str) -> dict[str, Any]:
    return yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8"))


def read(change: str) -> RoutingConfig:
    """The routing of GOOD with some keys changed, as Hydra merges them."""
    merged = OmegaConf.merge(
        OmegaConf.structured(RoutingConfig), yaml.safe_load(GOOD), yaml.safe_load(change)
    )
    routing = OmegaConf.to_object(merged)
    assert isinstance(routing, RoutingConfig)
    return routing


def check(routing: RoutingConfig) -> None:
    """The checks of a routing before a model is loaded."""
    check_routing(routing)
    prompt = OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(PromptConfig), option("prompt", "vigos"))
    )
    assert isinstance(prompt, PromptConfig)
    check_instructions(routing, prompt)


def test_the_routing_that_the_mistakes_change_has_none():
    check(read("{}"))
    assert used_teachers(read("{}")) == ("seeing", "told")


TERM = "supervise: {{reasoning: {{by: told, {}}}}}"
TARGET = "targets: {{both: {{{}}}}}"
TEACHER = "teachers: {{seeing: {{{}}}}}"

MISTAKES = {
    # what a teacher is told, and its template
    TEACHER.format("prompt: reasoning"): "routing.teachers.seeing.told=[], but its prompt reasoning contains "
    "{question}: add the question to told",
    TEACHER.format(
        "prompt: reference_alone"
    ): "told=[], but its prompt reference_alone contains {reference}: add the reference to told",
    TEACHER.format("told: [question], prompt: cue"): "its prompt cue contains {reference}",
    TEACHER.format("told: [question, answer], prompt: think"): "told=['question', 'answer'], but its prompt "
    "think does not contain {reference}",
    TEACHER.format("told: [answer], prompt: reasoning"): "its prompt reasoning contains {question}",
    TEACHER.format("told: [question, answer], prompt: reasonin"): "routing.teachers.seeing.prompt=reasonin: "
    "did you mean reasoning?",
    TEACHER.format("told: [questoin]"): "routing.teachers.seeing.told: questoin: did you mean question?",
    TEACHER.format("told: [{sibling: rihgt}]"): "WHICH is right, wrong, majority",
    TEACHER.format("told: [{sibling: right, choose: last}]"): "choose among question",
    TEACHER.format("told: [{row: next, column: answer}]"): "choose among question",
    TEACHER.format("told: [{row: other}]"): "choose among question",
    TEACHER.format("sees: none"): "routing.teachers.seeing is shown nothing and told nothing",
    # what a context sees
    TEACHER.format("sees: blakc"): "routing.teachers.seeing.sees=blakc: did you mean black?",
    "student: {sees: imag}": "routing.student.sees=imag: did you mean image?",
    TEACHER.format("sees: {colum: crop}"): "routing.teachers.seeing.sees={'colum': 'crop'}: choose one of",
    TEACHER.format("sees: {column: [crop]}"): "routing.teachers.seeing.sees.column=['crop']: write the name",
    TEACHER.format("sees: {row: next}"): "routing.teachers.seeing.sees.row=next: only other is possible",
    TEACHER.format("sees: {mask: imag}"): "routing.teachers.seeing.sees.mask=imag: did you mean image?",
    TEACHER.format("sees: {mask: image, area: 2}"): "sees.area=2: must be a number between 0 and 1",
    TEACHER.format("sees: {mask: image, seed: x}"): "sees.seed=x: must be a whole number",
    TEACHER.format("sees: {one_of: [[0.7, black], [0.6, noise]]}"): "the shares add up to more than 1",
    TEACHER.format("sees: {one_of: [[1.5, black]]}"): "with shares between 0 and 1",
    TEACHER.format("sees: {one_of: [black]}"): "must be a list of [share, word]",
    TEACHER.format("sees: {one_of: [[0.5, blakc]]}"): "sees.one_of: blakc: did you mean black?",
    # the other keys of a teacher
    TEACHER.format("prefix: thnk"): "routing.teachers.seeing.prefix=thnk: did you mean think?",
    TEACHER.format("missing: ignore"): "routing.teachers.seeing.missing=ignore: choose one of error, skip",
    TEACHER.format("weights: {ema: 1.5}"): "routing.teachers.seeing.weights={'ema': 1.5}: choose initial",
    TEACHER.format("weights: {ema: x}"): "routing.teachers.seeing.weights={'ema': 'x'}: choose initial",
    TEACHER.format("weights: {every: 0}"): "routing.teachers.seeing.weights={'every': 0}: choose initial",
    TEACHER.format("weights: {evry: 4}"): "routing.teachers.seeing.weights={'evry': 4}: choose initial",
    "teachers: {tokens: {told: [question]}}": "routing.teachers.tokens: this name has a meaning of its own",
    "teachers: {student: {told: [question]}}": "routing.teachers.student: this name has a meaning of its own",
    # targets
    TARGET.format("minus: seing"): "routing.targets.both.minus=seing: did you mean seeing?",
    TARGET.format("base: ''"): "routing.targets.both.base is missing: name one of seeing, told",
    TARGET.format("plus: both"): "routing.targets.both.plus=both: defined are seeing, told",
    TARGET.format("support: {of: tld, share: 0.1}"): "targets.both.support.of=tld: did you mean told?",
    TARGET.format("support: {of: told}"): "routing.targets.both.support={'of': 'told'}: write {of: NAME",
    TARGET.format("support: {of: told, share: 2}"): "support.share=2: must be a number between 0 and 1",
    TARGET.format("support: {of: told, share: x}"): "support.share=x: must be a number between 0 and 1",
    TARGET.format("support: {of: [told], share: 0.1}"): "routing.targets.both.support.of=['told']: ",
    TARGET.format("temperature: later"): "targets.both.temperature=later: choose one of before, after",
    TARGET.format("tanh: 0"): "routing.targets.both.tanh=0.0: must be greater than 0",
    "targets: {told: {base: told, plus: told, minus: told}}": "routing.targets.told: this name is taken",
    # who supervises what
    "supervise: {answer: tld}": "routing.supervise.answer=tld: did you mean told?",
    "supervise: {answer: [told, seing]}": "routing.supervise.answer=seing: did you mean seeing?",
    "supervise: {answer: [told, {by: told, weight: 2}]}": "routing.supervise.answer names told twice",
    "supervise: {answer: {told: 2}}": "routing.supervise.answer={'told': 2}: write none, the name of a",
    "supervise: {answer: {weight: 2}}": "routing.supervise.answer={'weight': 2}: `by` is missing",
    TEACHER.format("weights: ema"): "weights=ema: choose initial, live, {ema: RATE}",
    "supervise: {answer: 3}": "routing.supervise.answer=3: write none, the name of a teacher",
    "supervise: {all: told}": "routing.supervise.all covers every part: leave out routing.supervise.d",
    "student: {writes: reference}": "routing.student.writes=reference imitates the reference: leave out",
    "student: {writes: refrence}": "routing.student.writes=refrence: did you mean reference?",
    "student: {spans: papr}": "routing.student.spans=papr: did you mean paper?",
    "student: {format: structurd}": "routing.student.format=structurd: did you mean structured?",
    # the keys of a term
    TERM.format("wieght: 2"): "routing.supervise.reasoning.wieght: did you mean weight?",
    TERM.format("divergence: jds"): "routing.supervise.reasoning.divergence=jds: did you mean jsd?",
    TERM.format("clip: tokn"): "routing.supervise.reasoning.clip=tokn: did you mean token?",
    TERM.format("tail: buckt"): "routing.supervise.reasoning.tail=buckt: did you mean bucket?",
    TERM.format("top_k_of: studnt"): "routing.supervise.reasoning.top_k_of=studnt: did you mean student?",
    TERM.format("divide_by: al"): "routing.supervise.reasoning.divide_by=al: did you mean all?",
    TERM.format("weight: -1"): "routing.supervise.reasoning.weight=-1: must be a number, at least 0",
    TERM.format("weight: .inf"): "routing.supervise.reasoning.weight=inf: must be a number, at least 0",
    TERM.format("weight: true"): "routing.supervise.reasoning.weight=True: must be a number, at least 0",
    TERM.format("clip_value: 0"): "routing.supervise.reasoning.clip_value=0: must be a number greater than 0",
    TERM.format("edge_clip: 0"): "routing.supervise.reasoning.edge_clip=0: must be a number greater than 0",
    TERM.format("temperature: cold"): "routing.supervise.reasoning.temperature=cold: must be a number",
    TERM.format("beta: 1.5"): "routing.supervise.reasoning.beta=1.5: must be a number between 0 and 1",
    TERM.format("alpha: -1"): "routing.supervise.reasoning.alpha=-1: must be a number between 0 and 1",
    TERM.format(
        "top_k: 1.5"
    ): "routing.supervise.reasoning.top_k=1.5: must be a whole number of at least 1, or all",
    TERM.format("advantage: true"): "routing.supervise.reasoning.advantage=True: must be a number",
    TERM.format("token_weight: 3"): "routing.supervise.reasoning.token_weight=3: write {plus: NAME, minus",
    TERM.format("token_weight: {plus: told}"): "token_weight={'plus': 'told'}: write {plus: NAME, minus",
    TERM.format("token_weight: {plus: told, minus: seing}"): "token_weight.minus=seing: did you mean seeing?",
    TERM.format("token_weight: {plus: told, minus: [seeing]}"): "token_weight.minus=['seeing']: ",
    TERM.format("select: {skip_frist: 3}"): "routing.supervise.reasoning.select={'skip_frist': 3}: write",
    TERM.format("select: 3"): "routing.supervise.reasoning.select=3: write {skip_first: N}",
    TERM.format("select: {skip_first: x}"): "routing.supervise.reasoning.select={'skip_first': 'x'}: write",
    TERM.format("select: {skip_first: 3, lowest_log_p: 0.2}"): "{skip_first: N}, {lowest_log_p: SHARE} or",
    TERM.format("select: {lowest_log_p: 1.2}"): "routing.supervise.reasoning.select={'lowest_log_p': 1.2}",
    TERM.format("select: {lowest_log_p: x}"): "routing.supervise.reasoning.select={'lowest_log_p': 'x'}",
    TERM.format("select: {above_quantile: 0.5, of: told}"): "{above_quantile: Q, of: [NAME, NAME]}",
    TERM.format("select: {above_quantile: 0.5, of: [told, seing]}"): "select.of=seing: did you mean seeing?",
    # which rollouts
    "rollouts: {supervise: with_sibling}": "routing.rollouts.supervise=with_sibling: no teacher is told a",
    "rollouts: {supervise: some}": "routing.rollouts.supervise=some: choose all, with_sibling",
    "rollouts: {supervise: {disagreeing: 0}}": "with K at least 1",
    "rollouts: {supervise: {disagreeing: x}}": "with K at least 1",
    "rollouts: {supervise: {disagreeing: 1, choose: last}}": "WHICH among first, shortest, longest",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_is_one_line(change):
    with pytest.raises(ConfigError) as caught:
        check(read(change))
    assert MISTAKES[change] in str(caught.value) and "\n" not in str(caught.value)


ALLOWED = [
    TEACHER.format("sees: {mask: {column: crop}, area: 0.33, seed: 0}"),
    TEACHER.format("sees: {one_of: [[0.3, downscale], [0.7, blur]]}"),
    TEACHER.format("sees: none, told: [solution]"),
    TEACHER.format("told: [question, {row: other, column: solution}, {column: hint}], prompt: cue"),
    TEACHER.format("told: [question, {sibling: wrong, choose: longest}], prompt: sibling, missing: skip"),
    TEACHER.format("weights: {every: 10}"),
    TEACHER.format("weights: {ema: 1}"),
    TEACHER.format("weights: some/checkpoint"),
    "supervise: {reasoning: none, answer: [told, seeing, tokens, constant]}",
    "supervise: {description: none, reasoning: none, invalid: none, all: {by: both, divergence: jsd}}",
    TERM.format("weight: 0, top_k: 1, beta: 1, clip: scale, edge_clip: 0.05"),
    TERM.format("select: {skip_first: 0}"),
    TERM.format("select: {lowest_log_p: 1}"),
    TERM.format("select: {above_quantile: 0, of: [told, told]}, token_weight: {plus: told, minus: seeing}"),
    "rollouts: {supervise: {disagreeing: 2, choose: shortest}}",
]


@pytest.mark.parametrize("change", ALLOWED)
def test_what_the_page_allows_is_accepted(change):
    routing = read(change)
    check(routing)
    assert supervision_rules(routing)


# ---- through the command line


@pytest.fixture
def vigos(monkeypatch, capsys, tmp_path):
    """Call `vigos distill` with a routing file of one's own; returns the exit code and the output."""
    # An earlier test of this process may have left a log handler whose stream is closed.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.chdir(tmp_path)

    def call(text: str, *words: str) -> SimpleNamespace:
        folder = tmp_path / "mine" / "routing"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(
            sys, "argv", ["vigos", "distill", "--config-dir", "mine", "routing=mine", "out=run", *words]
        )
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=stopped.value.code, out=out, err=err)

    return call


SIBLING = """
student: {format: think}
teachers: {hinted: {told: [question, {sibling: right}], prompt: sibling, missing: skip}}
supervise: {all: hinted}
"""
ON_VIGOS = "defaults: [vigos, _self_]\nname: mine\n"
LINES = {
    "the student is told the reference": (
        ON_VIGOS + "student: {told: [answer]}",
        "routing.student.told: the student is never told a reference; only routing.teachers.NAME.told exists",
    ),
    "the student has a template": (
        ON_VIGOS + "student: {prompt: reference}",
        "routing.student.prompt: the student's instruction is prompt.structured or prompt.think",
    ),
    "one rollout": (SIBLING, "compares the rollouts of one prompt, and there is one: set rollout.n=8"),
    "an undefined name": (ON_VIGOS + "supervise: {answer: resoning}", "did you mean reasoning?"),
    "a wrong key of a teacher": (
        ON_VIGOS + "teachers: {reasoning: {tld: [answer]}}",
        "routing.teachers.reasoning.tld: there is no such key; did you mean routing.teachers.*.told?",
    ),
    "a wrong part": (
        ON_VIGOS + "supervise: {anwser: reasoning}",
        "routing.supervise.anwser: there is no such key; did you mean routing.supervise.answer?",
    ),
    "no mapping": (
        ON_VIGOS + "supervise: reasoning",
        "routing.supervise=reasoning: must be a mapping of keys to values",
    ),
    "a teacher that is no mapping": (
        ON_VIGOS + "teachers: {reasoning: live}",
        "routing.teachers.NAME=live: must be a mapping of keys to values",
    ),
    "a new teacher that is no mapping": (
        ON_VIGOS + "teachers: {another: live}",
        "routing.teachers.another=live: must be a mapping of keys to values",
    ),
    "no list": (
        ON_VIGOS + "teachers: {reasoning: {told: answer}}",
        "routing.teachers.reasoning.told: must be a list, in square brackets",
    ),
    "the old form of a student": (
        ON_VIGOS + "student: plain",
        "write routing.student.format=structured or think",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", LINES)
def test_a_mistake_in_a_file_ends_the_command_with_one_line(mistake, vigos, tmp_path):
    text, said = LINES[mistake]
    result = vigos(text)
    assert result.code == 2 and said in result.err
    assert len(result.err.strip().splitlines()) == 1 and result.err.startswith("vigos: ")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_sibling_needs_several_rollouts_of_a_prompt():
    words = ["routing=sdpo", "trainer.batch=16"]
    with pytest.raises(ConfigError, match=r"set rollout\.n=8"):
        job("distill", words)
    assert job("distill", [*words, "rollout.n=8"]).rollout.n == 8
    with pytest.raises(ConfigError, match=r"set rollout\.n=8"):
        job("rollout", words[:1])
    assert job("eval", words[:1]).rollout.n == 1  # an evaluation has no teachers


TEMPLATES = {
    "teachers: {reasoning: {prompt: resoning}}": "routing.teachers.reasoning.prompt=resoning: did you mean",
    "teachers: {reasoning: {told: [question]}}": "but its prompt reasoning contains {reference}",
    "targets: {t: {base: fallback, plus: reasoning, minus: fallback, support: {of: reasoning, share: 0.5}}}\n"
    "supervise: {answer: {by: t, divergence: reverse_kl}}": "routing.supervise.answer: ",
    "teachers: {reasoning: {told: [question, {column: hint}]}}": "hint",
}


@pytest.mark.slow
@pytest.mark.parametrize("change", TEMPLATES)
def test_a_mistake_that_is_seen_later_ends_the_command_before_a_model_is_loaded(change, vigos, tmp_path):
    result = vigos(ON_VIGOS + change, "hydra/job_logging=none", "hydra/hydra_logging=none")
    assert result.code == 2 and TEMPLATES[change] in result.err
    assert "Traceback" not in result.err and len(result.err.strip().splitlines()) == 1
    assert not list(Path(tmp_path).rglob("metrics.jsonl"))
