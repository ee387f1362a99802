"""All model families with vigos' functions: small random models, and real sizes on the meta device."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from conftest import distill_config, no_hub
from peft.tuners.tuners_utils import check_target_module_exists
from twins import FAMILIES, picture, save_twin

from vigos_cli.cli.explain import options
from vigos_cli.config.compose import job
from vigos_cli.config.paths import experiments_dir
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import CARDS
from vigos_cli.data.image_marks import read_marks
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, as_rollout, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.models import planned_config
from vigos_cli.models.adapter_layers import language_model, lora_config
from vigos_cli.models.memory_plan import estimate_memory, shape_of
from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.planned_config import known_config
from vigos_cli.models.pretrained import empty_model, load_processor
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.supervision import rollouts
from vigos_cli.supervision.batches import Batches
from vigos_cli.supervision.contexts import Context
from vigos_cli.training import step
from vigos_cli.training.learner import make_learner
from vigos_cli.training.step import train_step
from vigos_cli.types import Prompt
from vigos_cli.utils.errors import UserError

each = pytest.mark.parametrize("name", FAMILIES)
SMALL = ("adapter.r=4", "trainer.batch=4", "trainer.lr=1e-2", "rollout.max_new_tokens=8")
VALID = " A red cube. </description> <think> The cube is red. </think> \\boxed{red}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    return cache(lambda name: save_twin(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def config(folder: Callable[[str], Any]) -> Callable[..., Any]:
    """The configuration of `vigos distill model.path=FOLDER`; composed once, because that is slow."""
    composed = cache(lambda *more: distill_config("model.path=FOLDER", *SMALL, *more))

    def config(name: str, *more: str) -> Any:
        run = composed(*more)
        return replace(run, model=replace(run.model, path=str(folder(name))))

    return config


@pytest.fixture(scope="module")
def loaded(config: Callable[..., Any]) -> Callable[[str], Student]:
    """A student that the tests share. Tests must not change it."""
    return cache(lambda name: load(config(name)))


def load(run: Any) -> Student:
    return load_student(run.model, run.adapter, seed=0)


def prompter(student: Student, run: Any) -> Prompter:
    return Prompter(student.processor, run.prompt, run.routing)


# Several shapes, so that rows differ in tiles, tokens and patches; also rows with two pictures and with none.
ROWS = (
    (picture(84, 84, 1),),
    (picture(40, 120, 2),),
    (picture(84, 56, 3), picture(56, 56, 4)),
    (picture(130, 40, 5),),
    (),
)


def prompts(student: Student, run: Any, rows: Any = ROWS) -> list[Prompt]:
    made = prompter(student, run)
    return [made.render(STUDENT, made.encode(row), question=f"What {i}?") for i, row in enumerate(rows)]


# ---------------------------------------------------------------- one pass of the vision tower


@pytest.mark.slow
@each
def test_the_second_reader_of_the_same_pictures_gets_the_same_bits(name, loaded, config):
    student = loaded(name)
    asked = prompts(student, config(name), ROWS[:3])
    batch = student.batch([prompt.ids for prompt in asked], asked)
    tower, runs = student.base.get_encoder(modality="image"), []
    counted = tower.register_forward_pre_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        plain = student.hidden(batch)
        once = len(runs)
        for _ in range(3):
            with student.pictures.of(student.base, asked):
                assert student.hidden(batch).equal(plain)
    counted.remove()
    assert len(runs) == 2 * once


# ---------------------------------------------------------------- prompts


@pytest.mark.slow
@each
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_prompt_equals_that_of_apply_chat_template(name, count, loaded, config):
    run, student = config(name), loaded(name)
    made = prompter(student, run)
    pictures = (*ROWS[3], *ROWS[0])[:count]
    ours = made.render(STUDENT, made.encode(pictures), question="What is it?")
    text = made.instructions[STUDENT].replace("{question}", "What is it?")
    slots = [{"type": "image", "image": image} for image in pictures]
    theirs = student.processor.apply_chat_template(
        [{"role": "user", "content": [*slots, {"type": "text", "text": text}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        enable_thinking=False,
    )
    body = len(ours.ids) - len(ours.prefill)
    assert list(ours.ids[:body]) == theirs.pop("input_ids")[0].tolist()
    assert student.tokenizer.decode(ours.ids[body:]) == "<description>"
    types = theirs.pop("mm_token_type_ids", None)
    assert list(ours.mm_token_types[:body]) == (types[0].tolist() if types is not None else [])
    theirs.pop("attention_mask")
    assert set(ours.features) == set(theirs) and bool(count) == bool(ours.features)
    for key, value in theirs.items():
        assert torch.equal(ours.features[key], torch.as_tensor(value)), key


@each
@pytest.mark.parametrize(
    "question", ["Is <image> more than <image>?", "<image> or <image>", "A<image><image>"]
)
def test_images_stand_at_their_marks_for_every_context(name, question, loaded, config):
    """The prompt equals that of the chat template, except where a template moves all images to the start."""
    run, student = config(name), loaded(name)
    made, opsd = prompter(student, run), prompter(student, config(name, "routing=opsd"))
    pictures = (*ROWS[3], *ROWS[0])
    question, places = read_marks(question, 2)
    images = made.encode(pictures, places)
    slots = [{"type": "image", "image": image} for image in pictures]
    slot_ids = set(student.banned_ids)
    for own, context in ((made, STUDENT), (made, "reasoning"), (made, "fallback"), (opsd, "privileged")):
        ours = own.render(context, images, question=question, reference="r")
        body = ours.ids[: len(ours.ids) - len(ours.prefill)]
        text = own.instructions[context].replace("{question}", question).replace("{reference}", "r")
        first, middle, last = text.split("<image>")
        content = [first, slots[0], middle, slots[1], last]
        content = [{"type": "text", "text": c} if isinstance(c, str) else c for c in content if c]
        theirs = student.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            enable_thinking=False,
        )
        if name == "llava_onevision":
            shown = student.tokenizer.decode([i for i in body if i not in slot_ids])
            assert shown.endswith(f"{first}{middle}{last}<|im_end|><|im_start|>assistant\n")
            at = student.tokenizer.decode(body[: body.index(min(slot_ids & set(body)))])
            assert at == (f"<|im_start|>user {first}" if first else "<|im_start|>user")
        else:
            assert list(body) == theirs["input_ids"][0].tolist()
        assert sum(i in slot_ids for i in body) == sum(i in slot_ids for i in theirs["input_ids"][0].tolist())
        for key in ours.features:
            assert torch.equal(ours.features[key], torch.as_tensor(theirs[key])), key
        assert len(ours.mm_token_types) in (0, len(ours.ids))
        assert student.hidden(student.batch([ours.ids], [ours])).isfinite().all()
    alone = made.render("perception", images, question=question, reference="r")
    assert alone.ids == made.render("perception", made.encode(pictures)).ids


@each
def test_without_images_the_places_are_left_out(name, loaded, config):
    made = prompter(loaded(name), config(name))
    blind = made.render(STUDENT, made.encode((), (3,)), question="Is <image> red?")
    assert blind.ids == made.render(STUDENT, made.encode(()), question="Is  red?").ids


@each
def test_data_cannot_add_image_slots_or_turns(name, loaded, config):
    run, student, family = config(name), loaded(name), FAMILIES[name]
    made = prompter(student, run)
    images = made.encode(ROWS[0])
    added = [*family.special, *family.plain]
    hostile = "".join(added) + " ".join(added) + family.image_token[:4] + family.image_token
    at_marks, place = made.encode(ROWS[0], [len(hostile)]), f"{hostile}<image>{hostile}"
    special = {i for i, token in student.tokenizer.added_tokens_decoder.items()}
    assert {student.tokenizer.convert_tokens_to_ids(token) for token in added} == special
    for context in (STUDENT, "reasoning", "fallback"):
        tame = made.render(context, images, question="q", reference="r")
        wild = made.render(context, images, question=hostile, reference=hostile)
        assert [i for i in wild.ids if i in special] == [i for i in tame.ids if i in special]
        assert student.tokenizer.decode(wild.ids).count(hostile) == (1 if context is STUDENT else 2)
        between = made.render(context, at_marks, question=place, reference=hostile)
        assert sum(i in special for i in between.ids) == sum(i in special for i in tame.ids)
        for prompt in (wild, between):
            assert student.hidden(student.batch([prompt.ids], [prompt])).isfinite().all()


def test_an_open_think_tag_of_the_template_is_removed(loaded, config):
    """Qwen3.5 has a switch for this; without a switch the prompt is cut before an open `<think>`."""
    student, run = loaded("qwen35"), config("qwen35")
    assert prompter(student, run).template(1)[1].endswith("assistant\n<think>\n\n</think>\n\n")
    processor = load_processor(run.model)
    template = FAMILIES["qwen3vl"].template
    processor.chat_template = template.replace("assistant\n{% endif", "a\n<think>\n{% endif")
    made = Prompter(processor, run.prompt, run.routing)
    assert made.template(1)[1].endswith("<|im_start|>a\n")


def test_token_types_are_passed_under_their_older_name(loaded, config, monkeypatch):
    """Gemma 3 uses this name; the name is read from the signature of the model's `forward`."""
    student, run = loaded("qwen2vl"), config("qwen2vl")

    class Older:
        tokenizer = student.processor.tokenizer
        apply_chat_template = student.processor.apply_chat_template

        def __call__(self, **inputs: Any) -> dict[str, Any]:
            out = dict(student.processor(**inputs))
            return {name.removeprefix("mm_"): value for name, value in out.items()}

    made = [prompter(student, run), Prompter(Older(), run.prompt, run.routing)]
    new, old = (p.render(STUDENT, p.encode(ROWS[0]), question="q") for p in made)
    assert old.mm_token_types == new.mm_token_types and any(old.mm_token_types)
    assert set(old.features) == {"pixel_values", "image_grid_thw"}
    monkeypatch.setattr(type(student.base), "forward", lambda self, input_ids, token_type_ids: None)
    names = set(student.batch([old.ids], [old]))
    assert names - set(old.features) == {"input_ids", "attention_mask", "token_type_ids"}


# ---------------------------------------------------------------- rows in a batch and alone


@each
def test_padding_does_not_change_the_hidden_states(name, loaded, config):
    """This also holds if rows have different numbers of tiles, several images, or none."""
    student, run = loaded(name), config(name)
    rows = prompts(student, run)
    alone = [student.hidden(student.batch([row.ids], [row]))[0] for row in rows]
    assert len({len(row.ids) for row in rows}) > 3
    with torch.no_grad():
        together = student.hidden(student.batch([row.ids for row in rows], rows))
        for row, one, many in zip(rows, alone, together, strict=True):
            torch.testing.assert_close(many[: len(row.ids)], one, atol=2e-4, rtol=1e-3)


@each
def test_the_picture_changes_the_hidden_states(name, loaded, config):
    student, run = loaded(name), config(name)
    first, second = prompts(student, run, [(picture(84, 84, 1),), (picture(84, 84, 2),)])
    second = replace(second, ids=first.ids)
    with torch.no_grad():
        a, b = (student.hidden(student.batch([row.ids], [row]))[0, -1] for row in (first, second))
    assert float((a - b).abs().max()) > 1e-3


@pytest.mark.slow
@each
def test_greedy_answers_do_not_depend_on_the_batch(name, loaded, config):
    student, run = loaded(name), config(name)
    asked = [Request(str(i), prompt) for i, prompt in enumerate(prompts(student, run))]
    sampling = Sampling(12, temperature=0)
    one, three, five = (roll_out(student, SamplingJob(asked, sampling, key=(0,), batch=n)) for n in (1, 3, 5))
    assert [r.ids for r in one] == [r.ids for r in three] == [r.ids for r in five]
    assert len({r.ids for r in one}) > 1, "the answers depend on the pictures"
    wild = roll_out(student, SamplingJob(asked[:2], Sampling(24, temperature=50.0), key=(0,), batch=2))
    slots = {student.tokenizer.convert_tokens_to_ids(token) for token in FAMILIES[name].slots}
    assert slots == set(student.banned_ids) and slots.isdisjoint(i for r in wild for i in r.ids)


@each
def test_pictures_are_converted_to_the_precision_of_the_weights(name, config):
    student = load(run := config(name, "model.dtype=bfloat16"))
    asked = [Request(str(i), prompt) for i, prompt in enumerate(prompts(student, run)[:2])]
    rollouts = roll_out(student, SamplingJob(asked, Sampling(3, temperature=0), key=(0,), batch=2))
    assert [len(rollout.ids) for rollout in rollouts] == [3, 3] or any(r.finished for r in rollouts)


# ---------------------------------------------------------------- training


def some_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every second rollout by a valid one, because random weights sample no valid turn."""

    def sample(student: Student, prepared: Any, *rest: Any) -> Any:
        drawn = rollouts.sample_rollouts(student, prepared, *rest)
        turn = (*student.tokenizer(VALID, add_special_tokens=False)["input_ids"], min(student.stop_ids))
        for i in range(0, len(drawn), 2):
            item, rollout = drawn[i]
            drawn[i] = (item, as_rollout(student, Request(rollout.sample_id, rollout.prompt), turn))
        return drawn

    monkeypatch.setattr(step, "sample_rollouts", sample)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "adapter"),
    [*((name, "lora") for name in FAMILIES), *((name, "qlora") for name in ("qwen3vl", "qwen35", "smolvlm"))],
)
def test_two_steps_then_save_and_reload(name, adapter, config, monkeypatch, tmp_path):
    """With all three teachers, checkpointed activations and two rows in a micro-batch."""
    some_valid(monkeypatch)
    run = config(name, f"adapter={adapter}", "trainer.gradient_checkpointing=true", "trainer.micro_batch=2")
    student = load(run)
    assert student.quantised_modules == (0 if adapter == "lora" else linear_layers(student))
    frozen, start = student.frozen_hash(), student.adapter_state()
    learner, made = make_learner(student, run), prompter(student, run)
    batches = Batches(PriorWorld(size=16), made, run)
    for _ in range(2):
        line = train_step(learner, batches, made, run)
        assert {key for key in line if key.startswith("loss/")} == {
            "loss/perception",
            "loss/reasoning",
            "loss/fallback",
        }
        assert math.isfinite(line["loss"]) and line["loss"] > 0 and line["grad_norm"] > 0
        assert line["valid_rate"] == 0.5
    assert student.frozen_hash() == frozen
    moved = [key for key, p in student.adapter.items() if not torch.equal(start[key], p.cpu())]
    assert len(moved) == len(student.adapter) == 2 * FAMILIES[name].targets

    student.net.save_pretrained(str(tmp_path / "adapter"), safe_serialization=True)
    again = load(config(name, f"adapter={adapter}", f"adapter.path={tmp_path / 'adapter'}"))
    rows = prompts(student, run)[:3]
    with torch.no_grad():
        before, after = (s.hidden(s.batch([r.ids for r in rows], rows)) for s in (student, again))
        with student.weights("initial"):
            base = student.hidden(student.batch([r.ids for r in rows], rows))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, base, atol=1e-3), "the adapter changes the model"


def linear_layers(student: Student) -> int:
    """The names of the language model's linear layers, which 4-bit loading replaces."""
    inside = student.base.get_submodule(language_model(student.base))
    return sum(isinstance(m, torch.nn.Linear) for n, m in inside.named_modules() if "lora" not in n)


@each
def test_every_teacher_sees_all_pictures(name, loaded, config):
    student, run = loaded(name), config(name)
    made = prompter(student, run)
    images = made.encode(ROWS[2])
    slot = student.tokenizer.convert_tokens_to_ids(FAMILIES[name].image_token)
    counts = set()
    for context in (STUDENT, "perception", "reasoning", "fallback"):
        prompt = made.render(context, images, question="q", reference="r")
        turn = (*prompt.ids, *student.tokenizer(VALID, add_special_tokens=False)["input_ids"])
        reading = Context(prompt, turn, ())
        assert student.hidden(student.batch([reading.ids], [reading.prompt])).isfinite().all()
        counts.add(reading.ids.count(slot))
    assert len(counts) == 1 and counts.pop() >= 2


# ---------------------------------------------------------------- adapted layers, and unsupported models


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2vl", "smolvlm", "llava_onevision"])
def test_an_adapter_includes_the_vision_tower_only_if_configured(name, config, tmp_path):
    student = load(config(name, "adapter.targets=[q_proj,k_proj,fc1,linear_1,proj,qkv,up_proj]"))
    inside = f"base_model.model.{language_model(student.base)}."
    assert student.adapter and all(key.startswith(inside) for key in student.adapter)
    asked = load(config(name, "adapter.targets=[q_proj,fc1,proj,qkv]", "adapter.vision=true"))
    assert any(not key.startswith(inside) for key in asked.adapter)
    asked.net.save_pretrained(str(tmp_path), safe_serialization=True)
    with pytest.raises(UserError, match=r"adapter\.vision=true"):
        load(config(name, f"adapter.path={tmp_path}"))


@pytest.mark.parametrize(
    "after",
    [lambda x: 30 * torch.tanh(x / 30), lambda x: x * 0.0625, lambda x: x + 7.0, lambda x: x.clamp(max=20)],
    ids=["softcap", "scale", "shift", "clamp"],
)
def test_a_model_whose_logits_are_not_a_linear_head_is_refused(after, config, monkeypatch):
    from transformers import Qwen2VLForConditionalGeneration as Model

    forward = Model.forward

    def more(self: Any, *args: Any, **kwargs: Any) -> Any:
        out: Any = forward(self, *args, **kwargs)
        out.logits = after(out.logits)
        return out

    more.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(Model, "forward", more)
    with pytest.raises(UserError, match="bias-free linear layer"):
        load(config("qwen2vl"))


def test_a_head_with_a_bias_is_refused(config, monkeypatch):
    from transformers import Qwen2VLForConditionalGeneration as Model

    start = Model.__init__

    def biased(self: Any, config: Any) -> None:
        start(self, config)
        self.lm_head.bias = torch.nn.Parameter(torch.zeros(self.lm_head.out_features))

    monkeypatch.setattr(Model, "__init__", biased)
    with pytest.raises(UserError, match="bias-free linear layer"):
        load(config("qwen2vl"))


def tokens(run: Any, size: tuple[int, int]) -> int:
    """The number of prompt tokens before the message, with one image."""
    images = Prompter(load_processor(run.model), run.prompt, run.routing).encode([picture(*size)])
    assert images.first
    return len(images.first.pieces[0])


def test_max_pixels_limits_every_processor(config):
    for name in ("qwen2vl", "qwen25vl", "qwen3vl", "smolvlm"):
        free, bounded = config(name), config(name, "model.max_pixels=4200")
        assert tokens(bounded, (160, 160)) < tokens(free, (160, 160)), name
    size = load_processor(config("smolvlm", "model.max_pixels=4200").model).image_processor.size
    assert size["longest_edge"] == 64, "max_pixels=4200 must become two tiles of 32"
    assert load_processor(config("smolvlm", "model.max_pixels=10").model).image_processor.size[
        "longest_edge"
    ] == (32)


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("llava_onevision", "model.max_pixels=4200"),
    ],
)
def test_max_pixels_is_refused_if_the_processor_has_no_limit(name, override, config):
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_processor(config(name, override).model)


def test_a_missing_package_of_a_processor_is_named(config, monkeypatch):
    from transformers.models.smolvlm import processing_smolvlm

    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(UserError, match="num2words"):
        load_processor(config("smolvlm").model)


# ---------------------------------------------------------------- real sizes


# Linear layers of the language model that LoRA adapts by default.
LAYERS = {
    "qwen2vl": 28 * 7,
    "qwen2vl_7b": 28 * 7,
    "qwen25vl_3b": 36 * 7,
    "qwen25vl_7b": 28 * 7,
    "qwen3vl_2b": 28 * 7,
    "qwen3vl_4b": 36 * 7,
    "qwen3vl_8b": 36 * 7,
    "qwen35_2b": 24 * 3 + 6 * 4 + 18 * 3,
    "qwen35_4b": 32 * 3 + 8 * 4 + 24 * 3,
    "smolvlm2": 24 * 7,
    "llava_onevision": 24 * 7,
}


@cache
def of_option(name: str) -> Any:
    return job("distill", [f"model={name}", "out=unused"])


@pytest.mark.slow
@pytest.mark.parametrize("option", LAYERS)
def test_lora_targets_of_the_real_architectures(option):
    model = empty_model(known_config(of_option(option).model.path))
    lora = lora_config(model, of_option(option).adapter)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    targeted = [name for name in layers if check_target_module_exists(lora, name)]
    assert len(targeted) == LAYERS[option]
    assert all(name.startswith(f"{language_model(model)}.layers.") for name in targeted)
    tower = {id(module) for module in model.get_encoder(modality="image").modules()}
    assert sum(id(m) in tower for m in layers.values()) > 20, "the vision tower has linear layers"
    assert not any(id(layers[name]) in tower for name in targeted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "option"),
    [("gpu24_2b", "qwen2vl"), ("gpu24_3b", "qwen25vl_3b"), ("gpu24_7b", "qwen25vl_7b"), ("gpu16", "qwen2vl")],
)
def test_the_recipes_fit_their_cards_according_to_the_plan(experiment, option, monkeypatch):
    monkeypatch.setattr(planned_config, "fetch", no_hub)
    run = job("distill", [f"+experiment={experiment}", "out=unused"])
    assert (run.model.name, run.data.name, run.adapter.name) == (option, "vision_sr1", "qlora")
    peak = estimate_memory(run, shape_of(run)).peak / GIB
    assert peak < 0.95 * min(CARDS[card] for card in CARDS_OF[run.trainer.name])
    said = (experiments_dir() / f"{experiment}.yaml").read_text()
    assert f"{peak:.1f} GiB by `plan=true`" in said


CARDS_OF = {"gpu24": ("l4", "a10", "rtx3090", "rtx4090"), "gpu16": ("t4", "rtx4080")}


def test_an_unknown_target_is_an_error_that_lists_the_possible_ones(config):
    with pytest.raises(UserError, match="down_proj"):
        load(config("smolvlm", "adapter.targets=[c_attn]"))


@pytest.mark.slow
def test_every_model_option_names_a_checkpoint():
    for name in set(options("model")) - {"tiny", "custom"}:
        run = of_option(name)
        assert run.model.path.count("/") == 1 and run.adapter.quantise == "nf4", name
