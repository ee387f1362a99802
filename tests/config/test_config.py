"""The configuration: every option and experiment composes, and wrong values are refused."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import get_args, get_type_hints

import pytest
import yaml
from omegaconf import OmegaConf

from vigos_cli.cli.explain import comments, defaults, options, reference
from vigos_cli.cli.mistakes import groups, keys
from vigos_cli.config import compose as composing
from vigos_cli.config import schema
from vigos_cli.config.compose import job, register
from vigos_cli.config.paths import config_dir, experiments_dir
from vigos_cli.config.run_digest import digest
from vigos_cli.config.schema import CHOICES, COMMANDS, AnyRun, DistillRun
from vigos_cli.method.routing import routing_table
from vigos_cli.types import Kind
from vigos_cli.utils.errors import ConfigError

NEEDS = {
    "data=jsonl": "data.path=x.jsonl",
    "data=hub": "data.path=a/b",
    "model=custom": "model.path=a/b",
    "judge=openai": "judge.model=m",
    "routing=sdpo": "rollout.n=8",
    "routing=u_opsd": "rollout.n=8",
}
OPTIONS = [f"{group}={name}" for group in groups("distill") for name in options(group)]
ASKED = [*(f"judge={name}" for name in options("judge")), "rollout=openai"]  # only for `vigos eval`


def compose(command: str, *overrides: str) -> DistillRun:
    run = job(command, list(overrides))
    assert isinstance(run, COMMANDS[command])
    return run  # pyright: ignore[reportReturnType]


@pytest.mark.slow
@pytest.mark.parametrize("option", dict.fromkeys([*OPTIONS, *ASKED]))
def test_every_option_composes_and_its_name_is_its_file_name(option):
    needs = [NEEDS[option]] if option in NEEDS else []
    run = compose("eval" if option in ASKED else "distill", option, *needs)
    group, _, name = option.partition("=")
    if hasattr(getattr(run, group), "name"):
        assert getattr(run, group).name == name


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("model", ["tiny", "qwen2vl_7b"])
def test_every_command_accepts_a_model_with_its_recipe(command, model):
    run = compose(command, f"model={model}", "seed=3", "out=here")
    assert (run.model.name, run.seed, run.out) == (model, 3, "here")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", options("experiment"))
@pytest.mark.parametrize("command", ["distill", "eval"])
def test_every_experiment_composes(command, experiment):
    compose(command, f"+experiment={experiment}")


PRIORWORLD_ONLY = {"conflict_share", "map", "untrue", "wrong_references"}  # their keys are of that data
RECIPES = {name for name in options("experiment") if name.startswith(("gpu16", "gpu24_"))}  # one run each


@pytest.mark.slow
@pytest.mark.parametrize("experiment", sorted(set(options("experiment")) - PRIORWORLD_ONLY - RECIPES))
def test_every_experiment_composes_with_the_papers_own_set_up(experiment):
    run = compose("ablate", *papers_own(experiment), f"+experiment={experiment}")
    assert (run.model.name, run.data.name, run.loss.clip) == ("qwen25vl_3b", "vision_sr1", "token")
    assert {"vilp_f", "vilp_p"} <= run.bench.tasks.keys() and "priorworld" not in run.bench.tasks


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["authors_code", "divergences", "privilege", "rollout"])
def test_arms_are_distinct_under_the_papers_own_set_up(experiment):
    fixed, (arms,) = split_off_arms(said(experiment))
    keys = [digest(job("ablate", [*fixed, f"+experiment={experiment}", f"+arm={arm}"])) for arm in arms]
    assert len(set(keys)) == len(arms) > 1


def split_off_arms(words: list[str]) -> tuple[list[str], list[list[str]]]:
    """Separate the values of `+arm` from the other overrides."""
    swept = [word.removeprefix("+arm=").split(",") for word in words if word.startswith("+arm=")]
    return [word for word in words if not word.startswith("+arm=")], swept


def papers_own(experiment: str) -> list[str]:
    """The overrides of the paper's own set-up, with the first value of each list."""
    return [word.split(",")[0] for word in said(experiment)]


def said(experiment: str) -> list[str]:
    """The overrides of the paper's own set-up in the first comment of an experiment."""
    head = (experiments_dir() / f"{experiment}.yaml").read_text().replace("\\\n#", "")
    return shlex.split(head.split("The paper's own set-up: ")[1].splitlines()[0])


BARE = str.maketrans("", "", "' ")  # a list as it is typed: [question,answer]


@pytest.mark.slow
@pytest.mark.parametrize("arm", options("arm"))
def test_every_arms_settings_override_the_models_recipe(arm):
    run = compose("ablate", f"+arm={arm}")
    assert isinstance(run, schema.AblateRun) and run.label == arm
    for setting in filter(None, options("arm")[arm].split(" ")):
        key, _, value = setting.partition("=")
        node = OmegaConf.select(OmegaConf.structured(run), key if "." in key else f"{key}.name")
        assert str(node).lower().translate(BARE) == value.lower()


def test_arms_with_the_same_name_have_the_same_settings():
    found: dict[str, dict] = {}
    for file in experiments_dir().glob("*.yaml"):
        for name, overrides in yaml.safe_load(file.read_text()).get("arms", {}).items():
            assert found.setdefault(name, overrides) == overrides, f"{file.name}: {name}"


SWEEPS = {
    name: yaml.safe_load((experiments_dir() / f"{name}.yaml").read_text()) for name in options("experiment")
}


@pytest.mark.parametrize("name", sorted(SWEEPS.keys() - RECIPES))
def test_every_sweep_names_existing_keys_and_options(name):
    sweep = SWEEPS[name]["hydra"]["sweeper"]["params"]
    for key, values in sweep.items():
        for value in str(values).split(","):
            if key in groups("distill"):
                assert value in options(key)
            else:
                assert key in keys(DistillRun)


def test_a_real_model_brings_its_suitable_options():
    run = compose("distill", "model=qwen2vl", "loss=reverse_kl")
    assert (run.adapter.name, run.adapter.quantise, run.adapter.r) == ("qlora", "nf4", 64)
    assert (run.data.name, run.data.columns["question"]) == ("vision_sr1", "problem")
    assert (run.prompt.name, run.trainer.name, run.loss.divergence) == ("vigos", "gpu24", "reverse_kl")
    assert run.loss.clip == "token"


def test_request_options_of_a_judge_can_be_added_and_removed():
    changes = ["+judge.options.seed=5", "~judge.options.max_tokens", "judge.options.temperature=1"]
    run = job("eval", ["judge=openai", "judge.model=m", *changes])
    assert run.judge.options == {"temperature": 1, "seed": 5}
    assert (run.judge.url, run.judge.key_env) == ("https://api.openai.com/v1", "OPENAI_API_KEY")


@pytest.mark.slow
def test_the_command_line_overrides_the_options_of_a_model():
    run = compose(
        "distill", "model=qwen2vl", "adapter=lora", "data=priorworld", "trainer=paper", "prompt=short"
    )
    assert (run.adapter.name, run.data.name, run.trainer.name, run.prompt.name) == (
        "lora",
        "priorworld",
        "paper",
        "short",
    )
    run = compose(
        "distill", "model=qwen2vl", "adapter.r=8", "rollout.max_new_tokens=7", "model.max_pixels=null"
    )
    assert (run.adapter.r, run.rollout.max_new_tokens, run.model.max_pixels) == (8, 7, None)
    assert compose("distill", "loss.clip=entry", "rollout.max_new_tokens=9").loss.clip == "entry"


def test_the_default_is_the_embedded_model():
    run = compose("distill")
    assert (run.model.path, run.prompt.name, run.trainer.name) == ("builtin:tiny", "short", "minute")
    assert run.out.startswith("outputs/distill/")


def test_benchmark_options_merge(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "other.yaml").write_text("tasks: {other: {rows: 3}}\n")
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    run = compose("distill", searched, "bench=[priorworld,other]")
    assert run.bench.tasks["priorworld"].split == "heldout"
    assert run.bench.tasks["other"].rows == 3


def test_the_command_line_overrides_the_model_of_an_experiment(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: qwen2vl\n  - override /loss: jsd\nseed: 7\n"
    )
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    run = compose("distill", searched, "+experiment=mine", "trainer=minute")
    assert (run.adapter.name, run.loss.name, run.trainer.name, run.seed) == ("qlora", "jsd", "minute", 7)


PREFIXES = {"teachers.perception.prefix", "teachers.reasoning.prefix"}
DIFFERS: dict[str, set[str]] = {  # from routing=vigos
    "vigos": set(),
    "vigos_code": {"student.spans", *PREFIXES, "supervise.description", "supervise.reasoning"},
    "no_perception": {"supervise.description"},
    "no_reasoning": {"supervise.reasoning", "supervise.answer"},
    "no_reference": {"supervise.invalid"},
    "other_answer": {"teachers.reasoning.told", "teachers.fallback.told"},
    "noise_image": {"teachers.perception.sees"},
}


def flat(values: dict, prefix: str = "") -> dict:
    """A routing as dotted keys; lists and terms stay whole."""
    found = {}
    for key, value in values.items():
        inside = isinstance(value, dict) and prefix.count(".") < 2 and not prefix.startswith("supervise")
        found |= flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERS)
def test_a_routing_differs_from_vigos_only_where_it_says(name):
    base, other = (flat(asdict(compose("distill", f"routing={one}").routing)) for one in ("vigos", name))
    changed = {key for key in base.keys() | other.keys() if base.get(key) != other.get(key)}
    assert changed - {"name"} == DIFFERS[name]


@pytest.mark.slow
def test_the_same_prompt_is_all_that_opsd_structured_changes():
    base, other = (flat(asdict(compose("distill", f"routing={one}").routing)) for one in OPSD)
    assert {key for key in base if base[key] != other[key]} == {"name", "student.format"}
    assert base.keys() == other.keys() and other["supervise.all"] == "privileged"


OPSD = ("opsd", "opsd_structured")


def test_opsd_has_one_teacher_and_the_controls_none():
    opsd = compose("distill", "routing=opsd").routing
    table = routing_table(opsd)
    assert set(table) == set(Kind) and set(table.values()) == {("privileged",)}
    assert opsd.student.format == "think" and set(opsd.teachers) == {"privileged"}
    two_pass = compose("distill", "routing=two_pass").routing
    assert not any(routing_table(two_pass).values()) and not two_pass.teachers
    assert two_pass.student.writes == "caption"
    sft = compose("distill", "routing=sft").routing
    table = routing_table(sft)
    assert sft.student.writes == "reference" and not sft.teachers
    assert table[Kind.ANSWER] == table[Kind.END] == ("tokens",) and table[Kind.DESCRIPTION] == ()


@pytest.mark.slow
def test_losses_have_the_same_clip():
    runs = [compose("distill", "model=qwen2vl", f"loss={name}").loss for name in options("loss")]
    assert {(run.clip, run.clip_value) for run in runs} == {("token", 0.05)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "limit=-1",
        "limit=0",
        "seed=-1",
        "resume=yes",
        "trainer.steps=0",
        "trainer.batch=0",
        "trainer.micro_batch=-2",
        "trainer.micro_tokens=0",
        "trainer.lr=0",
        "trainer.schedule=lin",
        "trainer.checkpoint_every=0",
        "rollout.top_p=1.5",
        "rollout.temperature=0",
        "rollout.max_new_tokens=0",
        "adapter.r=0",
        "adapter.dropout=1",
        "adapter.quantise=nf3",
        "loss.clip=tokens",
        "loss.beta=2",
        "loss.invalid_weight=-1",
        "teacher.ema_rate=1.1",
        "data.conflict=-0.1",
        "data.wrong_reference=1.5",
        "data=jsonl",
        "model=custom",
        "bench.samples=-1",
        "bench.tasks.priorworld.rows=0",
        "routing.supervise.invalid=[perception,resoning]",
        "routing.supervise.answer=teacher",
    ],
)
def test_values_out_of_range_are_refused(override):
    with pytest.raises(ConfigError) as caught:
        compose("distill", override)
    message = str(caught.value)
    assert "\n" not in message
    if "data=" not in override and "model=" not in override:
        assert override.split("=")[0].split(".")[-1] in message


def test_added_keys_are_checked_by_the_schema():
    with pytest.raises(Exception, match="foo"):
        compose("distill", "+foo=1")
    with pytest.raises(Exception, match="foo"):
        compose("distill", "++trainer.foo=1")


def test_choices_name_existing_keys_and_contain_their_defaults():
    for key, words in CHOICES.items():
        value = OmegaConf.select(OmegaConf.structured(AnyRun), key)
        assert value in words, key


def schemas(kind: type) -> Iterator[type]:
    """A schema, and those of its keys that are mappings with fixed keys."""
    yield kind
    for inner in get_type_hints(kind).values():
        for one in (inner, *get_args(inner)[1:]):
            if is_dataclass(one):
                yield from schemas(one)  # pyright: ignore[reportArgumentType]


def test_every_key_has_a_comment():
    every = set(schemas(AnyRun))
    assert {schema.BenchTask, schema.StudentContext, schema.TeacherContext, schema.TargetConfig} < every
    for group in every:
        hints, notes = get_type_hints(group), comments(group)
        assert all(notes[f.name] for f in fields(group) if not is_dataclass(hints[f.name])), group


def test_the_generated_reference_is_current():
    written = (config_dir() / "README.md").read_text(encoding="utf-8")
    assert written == reference(), "run: python -m vigos_cli.cli.explain > conf/README.md"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_defaults_that_help_shows_are_those_that_hydra_composes(command):
    composed = composing.compose(command, [])
    chosen, values = defaults(command)
    assert chosen == {group: composed.hydra.runtime.choices[group] for group in groups(command)}
    plain = OmegaConf.to_container(composed)
    assert isinstance(plain, dict) and values == {key: plain[key] for key in values}
    assert values.keys() | chosen.keys() == {f.name for f in fields(COMMANDS[command])}


def test_option_files_are_short_and_have_a_comment():
    for file in config_dir().glob("*/*.yaml"):
        text = file.read_text()
        if file.parent.name != "prompt":  # a published method also names its source and what it leaves open
            limit = 30 if file.parent.name == "routing" else 16
            assert len(text.splitlines()) <= limit, file
        assert options(file.parent.name)[file.stem], f"{file}: no comment"


def test_registering_twice_is_harmless():
    register()
    register()
    compose("rollout")
