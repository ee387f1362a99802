"""The shipped model agrees with its card, and has the abilities that a base model needs."""

import hashlib
import json

import pytest
from conftest import distill_config, make_student

from vigos_cli.config.paths import TINY
from vigos_cli.data.priorworld.captions import caption, read_caption
from vigos_cli.data.priorworld.scene import Scene, seeded
from vigos_cli.evaluation.training_evaluation import TrainingEvaluation
from vigos_cli.generation.engine import InProcess
from vigos_cli.method.prompts import Prompter
from vigos_cli.pretraining import corners
from vigos_cli.pretraining.build import build_tokenizer
from vigos_cli.pretraining.card import unmet
from vigos_cli.pretraining.corpus import tokenizer_corpus
from vigos_cli.pretraining.documents import short_prompts

WEIGHTS = TINY / "model.safetensors"
CARD = json.loads((TINY / "card.json").read_text())["modes"]


def mean(mode: str, column: str, how: str = "greedy") -> float:
    return CARD[mode][how][column]["mean"]


def test_it_is_small_and_the_cards_hash_is_its_own():
    assert sum(file.stat().st_size for file in TINY.iterdir() if file.is_file()) < 6 * 2**20
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in (TINY / "README.md").read_text()


def test_it_is_a_real_qwen2_vl_with_its_processor():
    student = make_student()
    assert type(student.base).__name__ == "Qwen2VLForConditionalGeneration"
    assert type(student.processor).__name__ == "Qwen2VLProcessor"


def test_its_tokenizer_is_what_the_recipe_makes():
    built = build_tokenizer(tokenizer_corpus(short_prompts()))
    shipped = json.loads((TINY / "tokenizer.json").read_text())
    assert json.loads(built.backend_tokenizer.to_str())["model"]["vocab"] == shipped["model"]["vocab"]


@pytest.mark.slow
def test_the_card_says_what_the_shipped_weights_do(tmp_path):
    """The held-out greedy figures of the structured student lie where the card's validation ones do."""
    config = distill_config("bench.tasks.priorworld.split=validation")
    student = make_student()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    evaluation = TrainingEvaluation(InProcess(student), prompter, config)
    report, _ = evaluation.run(tmp_path, samples=0)
    for name, column in (
        ("score", "answer, conflicts"),
        ("prior", "answer, agrees"),
        ("other", "answer, no prior"),
    ):
        assert report[name] == pytest.approx(mean("structured student", column), abs=0.03)


def test_it_meets_all_that_is_wanted_of_a_base():
    assert unmet(CARD) == []


def test_it_captions_truly_and_follows_a_reference():
    assert mean("caption (perception teacher)", "other looks told") >= 0.9
    for mode in ("reasoning teacher", "reference teacher", "reasoning teacher, true description before"):
        assert mean(mode, "follows reference") >= 0.9
        assert mean(mode, "answer, conflicts") >= 0.9  # where its own answer would be the usual look


@pytest.mark.parametrize(("captions", "privileged"), [(1, 0.4), (0.4, 1)])
def test_a_corners_descriptions_are_as_true_as_it_says(monkeypatch, captions, privileged):
    scenes: list[Scene] = []
    monkeypatch.setattr(corners, "picture", lambda scene, rng: scenes.append(scene))
    true: dict[str, list[bool]] = {"caption": [], "told": [], "student": []}
    for step in range(120):
        scenes.clear()
        _, documents = corners.untrue_step(
            seeded("test", step), short_prompts(), captions=captions, privileged=privileged
        )
        for document in documents:
            if not document.answer[0][0].startswith("<description>") or "By the" in document.question:
                continue
            told = read_caption("".join(part for part, _ in document.answer).split("</description>")[0])
            given = document.answer[0][0] != "<description>"
            mode = "caption" if not document.question else "student"
            if "reference" in document.question and not given:
                mode = "told"  # whatever it describes, it answers with the reference
                reference = document.question.split("The reference is ")[1].split(".")[0]
                assert document.text.endswith(f"\\boxed{{{reference}}}")
            true[mode].append(told == read_caption(caption(scenes[document.picture])))
    usual = 0.04  # of all scenes, so told truly either way
    for mode, truth in (("caption", captions), ("told", privileged), ("student", corners.STUDENT_TRUTH)):
        assert len(true[mode]) > 200
        assert sum(true[mode]) / len(true[mode]) == pytest.approx(truth + (1 - truth) * usual, abs=0.07)
