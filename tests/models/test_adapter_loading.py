"""An adapter is loaded completely or refused in one line, never silently evaluated as the base."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import distill_config
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor
from twins import save_twin

from vigos_cli.__main__ import main
from vigos_cli.models.student import Student
from vigos_cli.models.student_loading import load_student
from vigos_cli.training import checkpoint
from vigos_cli.training.learner import make_learner
from vigos_cli.training.loop import resume_learner
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import write_json
from vigos_cli.utils.quiet import quieten

pytestmark = pytest.mark.filterwarnings("error:Found missing adapter keys")

Tensors = dict[str, Tensor]
Q = "base_model.model.model.language_model.layers.1.self_attn.q_proj"
FILE = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def run() -> Any:
    quieten()
    return distill_config("adapter.r=4", "adapter.alpha=8")


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_twin("llava_onevision", tmp_path_factory.mktemp("llava")))


def load(run: Any, path: Path | None = None, **adapter: Any) -> Student:
    adapter["path"] = None if path is None else str(path)
    return load_student(run.model, replace(run.adapter, **adapter), seed=0)


@torch.no_grad()
def trained(student: Any) -> Any:
    """The student (or its net) with weights that change every answer."""
    draw = torch.Generator().manual_seed(1)
    parameters = student.net.parameters() if isinstance(student, Student) else student.parameters()
    for p in parameters:
        if p.requires_grad:
            p.copy_(0.2 * torch.randn(p.shape, generator=draw))
    return student


@torch.no_grad()
def hidden(student: Student) -> Tensor:
    ids = [student.tokenizer("The cube is red. What colour is it?")["input_ids"]]
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(1, len(ids[0]), dtype=torch.long)}
    return student.hidden(inputs)


@pytest.fixture(scope="module")
def good(run: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """The folder of a trained adapter, and the hidden states under it."""
    folder = tmp_path_factory.mktemp("good") / "adapter"
    student = trained(load(run))
    student.net.save_pretrained(str(folder))
    return folder, hidden(student)


def changed(folder: Path, out: Path, change: Callable[[Tensors], Any] | None = None, **config: Any) -> Path:
    """A copy of an adapter with other tensors or other settings."""
    out.mkdir(exist_ok=True)
    tensors = load_file(folder / FILE)
    if change is not None:
        tensors = change(tensors) or tensors
    save_file({name: value.contiguous() for name, value in tensors.items()}, out / FILE)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps(settings | config))
    return out


def refused(load: Callable[[], Any], *words: str) -> None:
    """Assert that `load` raises a UserError of one line that contains these words."""
    with pytest.raises(UserError) as error:
        load()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


# ---------------------------------------------------------------- valid adapters


def test_a_good_adapter_gives_the_same_hidden_states(run: Any, good: Any, capfd: Any):
    folder, expected = good
    student = load(run, folder)
    assert torch.equal(hidden(student), expected)
    with student.weights("initial"):
        assert not torch.allclose(hidden(student), expected, atol=1e-2)
    assert all(p.requires_grad for p in student.adapter.values())
    assert capfd.readouterr().err == ""


def test_a_bfloat16_file_is_loaded_into_float32(run: Any, good: Any, tmp_path: Path):
    saved: Tensors = {}

    def halve(tensors: Tensors) -> Tensors:
        saved.update({name: value.bfloat16() for name, value in tensors.items()})
        return saved

    student = load(run, changed(good[0], tmp_path, halve))
    for name, value in saved.items():
        loaded = student.adapter[name.replace(".weight", ".default.weight")]
        assert loaded.dtype == torch.float32 and torch.equal(loaded, value.float())


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "up_proj"]},
    "dora": {"target_modules": ["q_proj"], "use_dora": True},
    "rslora": {"target_modules": ["q_proj"], "use_rslora": True},
    "ranks": {
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"v_proj": 2},
        "alpha_pattern": {"q_proj": 3},
    },
    "bias": {"target_modules": ["q_proj"], "lora_bias": True},
    "whole modules": {"target_modules": ["q_proj"], "modules_to_save": ["language_model.norm"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "layers": {"target_modules": ["q_proj"], "layers_to_transform": [1, 2], "exclude_modules": ["layers.2"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 7]}},
}


def make(run: Any, out: Path, **shape: Any) -> Tensor:
    """Train an adapter of any LoRA configuration, save it, and return the hidden states under it."""
    student = load(run)
    base: Any = student.net.unload()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vigos_cli.models.student_loading.lora_config", lambda base, adapter: LoraConfig(r=4, **shape)
        )
        patch.setattr("vigos_cli.models.base_cache.take", lambda *key, **more: (base, student.processor))
        student = trained(load(run, vision=True))
    student.net.save_pretrained(str(out), save_embedding_layers=False)
    return hidden(student)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_lora_is_loaded_completely(kind: str, run: Any, tmp_path: Path, capfd: Any):
    expected = make(run, tmp_path, **KINDS[kind])
    capfd.readouterr()
    student = load(run, tmp_path, vision=True)
    assert torch.equal(hidden(student), expected)
    assert capfd.readouterr().err == ""
    names = sorted(load_file(tmp_path / FILE))
    less = changed(tmp_path, tmp_path / "less", drop(names[-1]))
    refused(lambda: load(run, less, vision=True), names[-1], "missing")


# ---------------------------------------------------------------- adapters that do not fit


def drop(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if name not in names}


def put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: change(tensors[name])}


def rename(pattern: str, to: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {re.sub(pattern, to, name): value for name, value in tensors.items()}


def add(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.ones(*shape)}


A, B = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"
EMBEDDING = "base_model.model.model.language_model.embed_tokens.weight"
WIDER: Callable[[Tensors], Tensors] = lambda tensors: {  # noqa: E731
    name: torch.cat([value, value], 1) if "lora_A" in name else torch.cat([value, value])
    for name, value in tensors.items()
}
DIFFERENCES: dict[str, tuple[Callable[[Tensors], Tensors], tuple[str, ...]]] = {
    "a tensor is missing": (drop(B), (B, "missing", "128 x 4")),
    "a module is missing": (drop(A, B), (A, "missing", "4 x 128")),
    "nothing is there": (lambda tensors: {"x": torch.ones(1)}, ("tensor x", "does not begin")),
    "a tensor is unknown": (
        add(f"{Q}.lora_C.weight", 4),
        (f"tensor {Q}.lora_C.weight has no place", "the closest is"),
    ),
    "a module is unknown": (add(B.replace("layers.1", "layers.9"), 128, 4), ("layers.9", "no module")),
    "embeddings": (add(EMBEDDING, 512, 128), (f"tensor {EMBEDDING} has no place",)),
    "another rank": (
        lambda tensors: {n: v[:2] if "lora_A" in n else v[:, :2] for n, v in tensors.items()},
        ("2 x 128 instead of 4 x 128", "rank 2 in the file, 4"),
    ),
    "another rank once": (put(B, lambda value: value[:, :3]), (B, "128 x 3 instead of 128 x 4", "rank 3")),
    "a shape that could be spread": (put(A, lambda value: value[:1]), (A, "1 x 128 instead of 4 x 128")),
    "another width": (WIDER, ("4 x 256 instead of 4 x 128",)),
    "other names": (rename("self_attn", "attention"), ("attention", "no module", "the closest is")),
    "other names of layers": (rename("language_model", "text_model"), ("text_model", "no module")),
    "no prefix": (
        rename(r"base_model\.model\.", ""),
        ("tensor model.language_model.layers.0", "does not begin with base_model.model."),
    ),
    "the adapter's name": (rename("lora_A", "lora_A.default"), ("lora_A.default.weight", "the closest is")),
    "NaN": (put(A, lambda value: value.fill_(float("nan"))), (A, "NaN")),
    "infinite": (
        put(B, lambda value: value.index_fill(0, torch.tensor([3]), -float("inf"))),
        (B, "infinite"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", DIFFERENCES)
def test_tensors_that_do_not_fit_are_refused(fault: str, run: Any, good: Any, tmp_path: Path, capfd: Any):
    change, words = DIFFERENCES[fault]
    folder = changed(good[0], tmp_path, change)
    refused(lambda: load(run, folder), str(folder / FILE), *words)
    assert capfd.readouterr().err == ""


def test_another_rank_in_the_configuration_is_refused(run: Any, good: Any, tmp_path: Path):
    folder = changed(good[0], tmp_path, r=16)
    refused(lambda: load(run, folder), FILE, "rank 4 in the file, 16 in its configuration")


def test_an_adapter_of_another_family_is_refused(run: Any, good: Any, llava: str):
    other = replace(run, model=replace(run.model, path=llava))
    refused(lambda: load(other, good[0]), FILE, "layers.2", "no module of this Llava")


SETTINGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "not LoRA": ({"peft_type": "IA3"}, ("peft_type=IA3",)),
    "no kind": ({"peft_type": None}, ("peft_type=None",)),
    "a pattern without match": ({"target_modules": "nothing"}, ("does not fit",)),
    "names without match": ({"target_modules": ["nothing"]}, ("does not fit",)),
    "a broken pattern": ({"target_modules": "("}, ("does not fit",)),
    "no targets": ({"target_modules": None}, ("does not fit",)),
    "a rank of zero": ({"r": 0}, ("does not fit",)),
    "a setting of another type": ({"layers_to_transform": [1]}, ("damaged",)),
    "biases": ({"bias": "all"}, ("bias=all", "not supported")),
    "an init that changes the base": ({"init_lora_weights": "pissa"}, ("pissa", "not supported")),
}


@pytest.mark.parametrize("fault", SETTINGS)
def test_settings_that_do_not_fit_are_refused(fault: str, run: Any, good: Any, tmp_path: Path, capfd: Any):
    settings, words = SETTINGS[fault]
    refused(lambda: load(run, changed(good[0], tmp_path, **settings)), "adapter_config.json", *words)
    assert capfd.readouterr().err == ""


def test_settings_that_peft_does_not_know_are_reported(run: Any, good: Any, tmp_path: Path, capfd: Any):
    folder = changed(good[0], tmp_path, use_new_thing=True, use_other_thing=False)
    assert torch.equal(hidden(load(run, folder)), good[1])
    (line,) = capfd.readouterr().err.splitlines()
    assert "use_new_thing" in line and "use_other_thing" not in line


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\x80"])
def test_a_damaged_configuration_is_refused(text: str, run: Any, good: Any, tmp_path: Path):
    folder = changed(good[0], tmp_path)
    (folder / "adapter_config.json").write_bytes(text.encode("latin-1"))
    refused(lambda: load(run, folder), str(folder / "adapter_config.json"), "damaged")


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_damaged_file_is_refused(keep: int, run: Any, good: Any, tmp_path: Path):
    folder = changed(good[0], tmp_path)
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[:keep])
    refused(lambda: load(run, folder), str(folder / FILE), "damaged")


def test_missing_files_are_named(run: Any, good: Any, tmp_path: Path):
    folder = changed(good[0], tmp_path)
    (folder / "adapter_config.json").unlink()
    refused(lambda: load(run, folder), "holds no adapter_config.json")
    (folder / FILE).unlink()
    refused(lambda: load(run, folder), f"holds no {FILE}")
    torch.save({}, folder / "adapter_model.bin")
    refused(lambda: load(run, folder), "adapter_model.bin is a pickle")


def test_loaded_values_are_compared_with_the_file(run: Any, good: Any, monkeypatch: pytest.MonkeyPatch):
    """A future PEFT might return copies of the weights; writing to them would not change the model."""
    from vigos_cli.models import adapter_loading

    real = adapter_loading.get_peft_model_state_dict
    copies = lambda *a, **k: {name: value.clone() for name, value in real(*a, **k).items()}  # noqa: E731
    monkeypatch.setattr(adapter_loading, "get_peft_model_state_dict", copies)
    refused(lambda: load(run, good[0]), FILE, "does not have the file's values")


# ---------------------------------------------------------------- older names of modules

LEAVES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS: dict[str, Any] = {
    "leaves": LEAVES,
    "an old pattern": r"model\.layers\..*(" + "|".join(LEAVES) + ")",
    "a pattern that now reaches further": r"model\..*(" + "|".join(LEAVES) + "|qkv|fc1)",
    "a pattern without the tower": r"^(?!visual).*(" + "|".join(LEAVES) + ")",
    "old names in full": [f"model.layers.{i}.self_attn.{leaf}" for i in range(4) for leaf in LEAVES[:4]]
    + [f"model.layers.{i}.mlp.{leaf}" for i in range(4) for leaf in LEAVES[4:]],
    "a regex in the current names": rf"model\.language_model\.layers\..*\.(?:{'|'.join(LEAVES)})",
}
OLD_QWEN = rename(r"\.model\.language_model\.", ".model.")


@pytest.mark.slow
@pytest.mark.parametrize("targets", TARGETS)
def test_a_qwen_adapter_with_names_from_before_transformers_4_52(
    targets: str, run: Any, good: Any, tmp_path: Path, capfd: Any
):
    folder = changed(good[0], tmp_path, OLD_QWEN, target_modules=TARGETS[targets])
    student = load(run, folder)
    assert torch.equal(hidden(student), good[1])
    (line,) = capfd.readouterr().err.splitlines()
    assert str(folder / FILE) in line and "model is read as model.language_model" in line
    student.net.save_pretrained(str(tmp_path / "again"))
    assert torch.equal(hidden(load(run, tmp_path / "again")), good[1]), "saved with the old names"
    assert capfd.readouterr().err == ""
    less = changed(folder, tmp_path / "less", lambda tensors: drop(*OLD_QWEN({A: A, B: B}))(tensors))  # type: ignore[dict-item]
    refused(lambda: load(run, less), A, "missing")
    refused(lambda: load(run, changed(folder, tmp_path / "more", add(A, 4, 128))), "an old and a new name")


@pytest.mark.slow
def test_ranks_and_alphas_under_old_names_are_found(run: Any, tmp_path: Path):
    """A rank that is not found fails on the shape; an alpha that is not found would change the scale."""
    patterns = {
        "rank_pattern": {"language_model.layers.0.self_attn.q_proj": 2},
        "alpha_pattern": {"language_model.layers.1.self_attn.q_proj": 32, r"layers\.2.*v_proj": 5},
    }
    expected = make(run, tmp_path / "new", target_modules=["q_proj", "v_proj"], **patterns)
    old = {
        kind: {key.replace("language_model", "model"): value for key, value in pattern.items()}
        for kind, pattern in patterns.items()
    }
    for more in ({}, {"exclude_modules": r"(?!model\.layers\.).*"}):
        folder = changed(tmp_path / "new", tmp_path / "old", OLD_QWEN, **old, **more)
        assert torch.equal(hidden(load(run, folder)), expected)


def test_the_old_name_of_the_vision_tower_is_found(run: Any, tmp_path: Path, capfd: Any):
    student = trained(load(run, vision=True, targets=["q_proj", "qkv", "fc1"]))
    student.net.save_pretrained(str(tmp_path / "new"))
    old = rename(r"\.model\.(language_model\.|(?=visual\.))", ".model.")
    old_tower = lambda tensors: rename(r"\.model\.model\.visual", ".model.visual")(old(tensors))  # noqa: E731
    folder = changed(tmp_path / "new", tmp_path / "old", old_tower, target_modules=["q_proj", "qkv", "fc1"])
    assert any(".model.visual.blocks.0" in name for name in load_file(folder / FILE))
    capfd.readouterr()
    again = load(run, folder, vision=True)
    assert again.adapter.keys() == student.adapter.keys()
    assert all(torch.equal(again.adapter[name], p) for name, p in student.adapter.items())
    told = "model is read as model.language_model, visual is read as model.visual"
    assert told in ", ".join(sorted(capfd.readouterr().err.strip().split(": ")[-1].split(", ")))
    refused(lambda: load(run, folder), "adapter.vision=true")


@pytest.mark.parametrize(
    "targets", [LEAVES, r"language_model\..*\.(" + "|".join(LEAVES) + ")"], ids=["leaves", "pattern"]
)
def test_a_llava_adapter_with_names_from_before_transformers_4_52(
    targets: Any, run: Any, llava: str, tmp_path: Path, capfd: Any
):
    model = replace(run, model=replace(run.model, path=llava))
    vision = isinstance(targets, list)  # these names also match modules of the vision tower
    student = trained(load(model, vision=vision, targets=LEAVES))
    student.net.save_pretrained(str(tmp_path / "new"))
    capfd.readouterr()

    def old(tensors: Tensors) -> Tensors:
        tensors = rename(r"\.model\.model\.language_model\.", ".model.language_model.model.")(tensors)
        return rename(r"\.model\.model\.vision_tower\.", ".model.vision_tower.vision_model.")(tensors)

    folder = changed(tmp_path / "new", tmp_path / "old", old, target_modules=targets)
    again = load(model, folder, vision=vision)
    assert torch.equal(hidden(again), hidden(student))
    assert again.adapter.keys() == student.adapter.keys()
    assert len(capfd.readouterr().err.splitlines()) == 1


# ---------------------------------------------------------------- checkpoints


def leave_checkpoint(run: Any, student: Student, out: Path, change: Any = None, **config: Any) -> Path:
    adapter = replace(run.adapter, **config)
    write_json(out / "config.json", asdict(replace(run, adapter=adapter)))
    state = student.adapter_state()
    optimizer = make_learner(student, run).optimizer
    for p in student.adapter.values():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return checkpoint.save_checkpoint(
        out / "checkpoints",
        1,
        adapter=change(state) if change else state,
        optimizer=optimizer,
        kept={},
        state={"counts": {}, "seconds": {}},
    )


@pytest.fixture(scope="module")
def student(run: Any, good: Any) -> Student:
    return load(run, good[0])


NAMED = {name: rename(r"\.weight$", ".default.weight")({name: 0}).popitem()[0] for name in (A, B)}  # type: ignore[dict-item]
FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], tuple[str, ...]]] = {
    "missing": (drop(NAMED[B]), (NAMED[B], "missing")),
    "unknown": (add(NAMED[A].replace("lora_A", "lora_C"), 4), ("lora_C", "no place")),
    "rank": (put(NAMED[B], lambda value: value[:, :3].contiguous()), (NAMED[B], "rank 3 in the file, 4")),
    "spread": (put(NAMED[A], lambda value: value[:1].contiguous()), (NAMED[A], "1 x 128 instead of 4 x 128")),
    "NaN": (put(NAMED[A], lambda value: value * float("nan")), (NAMED[A], "NaN")),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_does_not_fit_is_refused(fault: str, run: Any, student: Student, tmp_path: Path):
    change, words = FAULTS[fault]
    place = leave_checkpoint(run, student, tmp_path, change)
    refused(lambda: load(run, place), str(place / "adapter.safetensors"), *words)


@pytest.mark.parametrize("fault", FAULTS)
def test_resume_refuses_a_mismatched_checkpoint(fault: str, run: Any, student: Student, tmp_path: Path):
    change, words = FAULTS[fault]
    place = leave_checkpoint(run, student, tmp_path, change)
    learner = make_learner(load(run), run)
    before = learner.student.adapter_state()
    refused(lambda: resume_learner(learner, tmp_path), str(place / "adapter.safetensors"), *words)
    after = learner.student.adapter_state()
    assert learner.step == 0 and all(torch.equal(after[name], value) for name, value in before.items())


def test_resume_loads_a_matching_checkpoint(run: Any, good: Any, student: Student, tmp_path: Path):
    leave_checkpoint(run, student, tmp_path)
    learner = make_learner(load(run), run)
    resume_learner(learner, tmp_path)
    assert learner.step == 1 and torch.equal(hidden(learner.student), good[1])


def test_an_average_that_does_not_fit_is_refused(run: Any, student: Student, tmp_path: Path):
    """The average is the EMA teacher's weights, which are saved in the same folder as the adapter."""
    place = leave_checkpoint(run, student, tmp_path)
    averaged = replace(run, teacher=replace(run.teacher, weights="ema"))
    state, average = student.adapter_state(), f"ema:{averaged.teacher.ema_rate:g}"

    def leave(tensors: Tensors) -> None:
        save_file({f"{average}/{name}": value for name, value in tensors.items()}, place / checkpoint.KEPT)

    leave(state)
    learner = make_learner(load(run), averaged)
    resume_learner(learner, tmp_path)
    kept = learner.teachers.kept
    assert kept.keys() == {average} and all(torch.equal(kept[average][name], state[name]) for name in state)
    leave(drop(NAMED[B])(state))
    again = make_learner(load(run), averaged)
    refused(lambda: resume_learner(again, tmp_path), "teachers.safetensors", NAMED[B])


@pytest.mark.parametrize("name", ["adapter", "optimizer"])
def test_a_damaged_checkpoint_is_refused(name: str, run: Any, student: Student, tmp_path: Path):
    place = leave_checkpoint(run, student, tmp_path)
    file = place / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    refused(lambda: resume_learner(make_learner(load(run), run), tmp_path), str(file), "damaged")
    if name == "adapter":
        refused(lambda: load(run, place), str(file), "damaged")
    (tmp_path / "config.json").write_text("{")
    refused(lambda: load(run, place), str(tmp_path / "config.json"), "damaged")


def test_a_checkpoint_keeps_the_scale_of_the_initial_adapter(
    run: Any, good: Any, student: Student, tmp_path: Path
):
    """Rank and alpha come from the adapter that the run started from, not from its configuration."""
    place = leave_checkpoint(run, student, tmp_path, alpha=64, path=str(good[0]))
    assert torch.equal(hidden(load(run, place)), good[1])
    place = leave_checkpoint(run, student, tmp_path, path="gone")
    refused(lambda: load(run, place), "adapter.path=gone")


# ---------------------------------------------------------------- the command line


@pytest.mark.slow
def test_eval_with_a_broken_adapter_is_one_line_and_exit_code_1(
    good: Any, tmp_path: Path, monkeypatch, capfd
):
    folder = changed(good[0], tmp_path / "broken", rename("self_attn", "attention"))
    command = ["vigos", "eval", f"adapter.path={folder}", f"out={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", [*command, "bench.tasks.priorworld.rows=1", "bench.samples=0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"vigos: {folder / FILE}: the tensor base_model.model.") and "attention" in line
