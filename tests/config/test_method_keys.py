"""What a routing states and what the loss decides; keys of earlier versions are refused with a hint."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import yaml
from conftest import distill_config
from hydra.errors import HydraException

from vigos_cli.cli.mistakes import check_known, explain
from vigos_cli.config.compose import job
from vigos_cli.config.ignored_keys import ignored_keys
from vigos_cli.config.removed_keys import REMOVED
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.method.losses import DivergenceSpec
from vigos_cli.method.routing import rule_spec
from vigos_cli.utils.errors import ConfigError

# ---- what a routing states, and what the loss decides


def read(overrides: Sequence[str]) -> dict[str, DivergenceSpec]:
    """The divergence of each rule of a composed routing, by part and name."""
    run = distill_config(*overrides)
    rules = supervision_rules(run.routing)
    return {f"{rule.part}/{rule.by}": rule_spec(rule, run.loss) for rule in rules}


@pytest.mark.slow
def test_a_model_recipe_and_the_loss_decide_only_what_a_routing_leaves_open():
    recipe = distill_config("model=tiny").loss
    assert (recipe.clip, recipe.temperature) == ("none", 1.0)
    found = read(["model=tiny", "routing=opsd_original", "loss=reverse_kl"])["all/privileged"]
    assert (found.divergence, found.clip, found.clip_value) == ("forward_kl", "entry", 0.05)
    found = read(["model=tiny", "routing=vcsd", "loss=jsd", "loss.beta=0.9"])["all/vcsd"]
    assert (found.divergence, found.clip, found.temperature, found.beta) == ("forward_kl", "none", 2, 0.9)
    assert {spec.clip for spec in read(["model=tiny"]).values()} == {"none"}
    assert {spec.clip for spec in read(["model=tiny", "loss.clip=entry"]).values()} == {"entry"}


@pytest.mark.parametrize(("loss", "name"), [("reverse_kl", "reverse_kl"), ("jsd", "jsd")])
def test_the_loss_acts_on_every_part_that_a_routing_leaves_open(loss, name):
    found = read([f"loss={loss}", "loss.beta=0.3", "loss.temperature=2", "loss.clip=entry"])
    chosen = distill_config(f"loss={loss}").loss
    parts = {"description/perception", "reasoning/reasoning", "answer/reasoning", "invalid/fallback"}
    assert found.keys() == parts and chosen.divergence == name
    assert {part: spec.divergence for part, spec in found.items()} == {
        part: chosen.invalid if part == "invalid/fallback" else name for part in parts
    }
    assert {(spec.beta, spec.temperature, spec.clip) for spec in found.values()} == {(0.3, 2, "entry")}
    # vigos_code states a limit at two edges, and nothing else
    assert {spec.divergence for spec in read(["routing=vigos_code", f"loss={loss}"]).values()} == {
        name,
        chosen.invalid,
    }


IGNORED = {
    ("routing=vcsd", "loss.clip=none"): "loss.clip: routing=vcsd states it; set routing.supervise.all.clip",
    ("routing=vcsd", "loss.divergence=jsd"): "set routing.supervise.all.divergence",
    ("routing=opd_v", "loss.top_k=5"): "set routing.supervise.all.top_k",
    ("routing=no_reference", "loss.invalid_weight=3"): (
        "set routing.supervise.invalid.0.weight and routing.supervise.invalid.1.weight"
    ),
    ("routing=vgs", "loss.clip=token"): "set routing.supervise.all.0.clip and routing.supervise.all.1.clip",
    ("routing=sft", "loss.clip=none"): None,  # no teacher reads it at all
    ("routing=vcsd", "loss.beta=0.9"): None,  # left open
    ("routing=vcsd", "loss.chunk=7"): None,
    ("routing=vigos", "loss.clip=none"): None,
}


@pytest.mark.slow
@pytest.mark.parametrize("words", IGNORED, ids=" ".join)
def test_an_override_that_the_routing_states_itself_is_found(words):
    routing, override = words
    found = ignored_keys(distill_config(*words), [routing, override])
    expected = IGNORED[words]
    assert len(found) == (expected is not None) and (expected or "") in "".join(found)
    assert ignored_keys(distill_config(*words), [routing]) == []


@pytest.mark.slow
def test_rows_of_a_micro_batch_beside_its_tokens_are_found():
    tokens, rows = "trainer.micro_tokens=8192", "trainer.micro_batch=4"
    found = ignored_keys(distill_config(tokens, rows), [rows, tokens])
    assert found == ["trainer.micro_batch: trainer.micro_tokens=8192 takes its place; leave out one of them"]
    assert ignored_keys(distill_config(tokens), [tokens]) == []  # an option's own rows are no mistake
    assert ignored_keys(distill_config("trainer=paper", rows), ["trainer=paper", rows]) == []
    assert ignored_keys(distill_config(rows, "trainer.micro_tokens=null"), [rows]) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words, line in IGNORED.items() if line])
def test_the_key_that_the_line_names_can_be_set(words):
    (line,) = ignored_keys(distill_config(*words), words)
    value = words[1].partition("=")[2]
    keys = line.partition("; set ")[2].split(" and ")
    run = distill_config(words[0], *(f"{key}={value}" for key in keys))
    name = keys[0].rpartition(".")[2]
    assert {str(getattr(rule, name)) for rule in supervision_rules(run.routing)} >= {value}


# ---- keys of earlier versions

METHOD = [key for key in REMOVED if key.split(".")[0] in ("routing", "loss", "teacher", "prompt")]
NEW = {  # what the line for an old key says to write
    "routing.student": "routing.student.format=structured or think",
    "routing.description": "routing.supervise.description=NAME",
    "routing.reasoning": "routing.supervise.reasoning=NAME",
    "routing.answer": "routing.supervise.answer=NAME",
    "routing.delimiters": "routing.supervise.delimiters=NAME",
    "routing.end": "routing.supervise.end=NAME",
    "routing.invalid": "routing.supervise.invalid=NAME",
    "routing.spans": "routing.student.spans=paper or code",
    "routing.reasoning_sees_description": "routing.teachers.reasoning.prefix=turn (true) or think (false)",
    "routing.perception_sees_prefill": "routing.teachers.perception.prefix=turn (true) or no_prefill (false)",
    "routing.reference_text": "routing.teachers.NAME.told=[question,answer] or [question,solution]",
    "routing.perception_image": "routing.teachers.perception.sees=image or noise",
    "routing.completion": "routing.student.writes=rollout, reference or caption",
    "loss.segment": "loss.divergence=NAME",
    "loss.reference": "loss.invalid=NAME",
    "loss.reference_weight": "loss.invalid_weight=NUMBER",
    "teacher.ema_decay": "teacher.ema_rate=RATE, the share of the new student: 1 minus the decay",
    "prompt.plain": "prompt.think=TEXT",
    "prompt.prefill_plain": "prompt.prefill_think=TEXT",
}


def test_every_old_key_of_the_method_is_in_the_table():
    assert list(NEW) == METHOD


@pytest.mark.parametrize("key", NEW)
def test_an_old_key_on_the_command_line_is_refused_with_its_new_form(key):
    for command in ("distill", "ablate"):
        with pytest.raises(ConfigError) as caught:
            check_known(command, ["seed=1", f"{key}=x"])
        said = str(caught.value)
        assert said.startswith(f"{key}=x: ") and NEW[key] in said and "\n" not in said


@pytest.mark.slow
@pytest.mark.parametrize("key", NEW)
def test_an_old_key_in_a_file_is_refused_with_its_new_form(key, tmp_path):
    group, _, leaf = key.partition(".")
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text(f"name: mine\n{leaf}: 1\n")
    words = [f"hydra.searchpath=[file://{tmp_path}]", f"{group}=mine"]
    with pytest.raises(HydraException) as caught:
        job("distill", words)
    said = explain(caught.value, "distill", words)
    assert said and said.startswith(f"the key {key} ") and NEW[key] in said and "\n" not in said


def test_a_description_that_the_student_does_not_write_cannot_be_trained():
    """An evaluation may ask for the other form of the same student."""
    with pytest.raises(ConfigError, match=r"set routing\.supervise\.description=none too"):
        job("distill", ["out=unused", "routing.student.format=think"])
    assert job("eval", ["out=unused", "routing.student.format=think"]).routing.student.format == "think"


def test_a_file_that_is_not_yaml_is_one_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nteachers: {a: {sees: image}\n")
    with file.open() as stream, pytest.raises(yaml.MarkedYAMLError) as caught:
        yaml.safe_load(stream)
    said = explain(caught.value, "distill", [])
    assert said == f"{file}, line 3, column 1: not YAML (expected ',' or '}}', but got '<stream end>')"


def test_a_profile_of_a_routing_that_takes_no_step_is_found():
    found = ignored_keys(distill_config("routing=two_pass", "trainer.profile=true"), ["trainer.profile=true"])
    assert found == ["trainer.profile: routing=two_pass takes no training step that could be recorded"]
    assert ignored_keys(distill_config("trainer.profile=true"), ["trainer.profile=true"]) == []
    assert ignored_keys(distill_config("routing=two_pass"), []) == []
