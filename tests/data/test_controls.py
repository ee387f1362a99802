"""The pictures that each diagnostic shows, and the prompts that a model gets with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import distill_config
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vigos_cli.config.compose import job
from vigos_cli.data.controls import noise_like, same_picture, swapped, with_control_images
from vigos_cli.data.priorworld import question_rows
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.evaluation.item_responses import PreparedItem, answer, describe, prepare_item
from vigos_cli.generation.engine import InProcess
from vigos_cli.method.prompts import Prompter
from vigos_cli.method.segments import DESCRIPTION_END
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, UserError


def picture(shade: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, (shade, 0, 255 - shade))


def item(name: str, *shades: int, group: str = "") -> Sample:
    return Sample(name, "what?", "that", tuple(picture(shade) for shade in shades), group=group)


# ---- pictures


def test_blind_removes_all_pictures_and_nothing_else():
    given = [item("a", 1, 2), item("b", 3)]
    assert list(with_control_images(given, "blind")) == [replace(sample, images=()) for sample in given]
    assert list(with_control_images(given, "none")) == given


@pytest.mark.parametrize("diagnostic", ["blank", "noise"])
def test_controls_keep_the_number_and_size_of_pictures(diagnostic):
    small = replace(item("a", 5), images=(picture(5), picture(6, (10, 50))))
    (shown,) = with_control_images([small], diagnostic)
    assert [image.size for image in shown.images] == [(40, 30), (28, 140)]  # the sizes that the model sees
    for image in shown.images:
        assert (np.asarray(image).std() == 0) == (diagnostic == "blank")
    assert shown.question == small.question


def test_noise_differs_between_samples_and_is_reproducible():
    one, two = (list(with_control_images([item("a", 1, 1), item("b", 1)], "noise", seed)) for seed in (0, 0))
    assert [[i.tobytes() for i in s.images] for s in one] == [[i.tobytes() for i in s.images] for s in two]
    pictures = [image for sample in one for image in sample.images]
    (other,) = with_control_images([item("a", 1)], "noise", 1)
    pictures += other.images
    assert len({image.tobytes() for image in pictures}) == 4
    assert abs(np.asarray(noise_like(picture(1, (200, 200)))).mean() - 127.5) < 1


def test_a_swap_shows_the_next_samples_pictures_and_wraps_around():
    shown = list(swapped([item("a", 1), item("b", 2, 3), item("c"), item("d", 4)]))
    shades = {s.id: [image.getpixel((0, 0))[0] for image in s.images] for s in shown}  # type: ignore[index]
    assert shades == {"a": [2], "b": [4, 4], "c": [], "d": [1]}
    assert [s.answer for s in shown] == ["that"] * 4


def test_a_swap_skips_samples_with_the_same_picture_or_group():
    shown = list(swapped([item("a", 1, group="x"), item("b", 2, group="x"), item("c", 1), item("d", 7)]))
    shades = {s.id: s.images[0].getpixel((0, 0))[0] for s in shown}  # type: ignore[index]
    assert shades == {"a": 7, "b": 1, "c": 7, "d": 1}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9))
def test_a_swap_uses_the_next_unrelated_sample(rows):
    samples = [replace(item(str(i), shade), group=f"g{group}") for i, (group, shade) in enumerate(rows)]
    expected = []
    for i, (group, shade) in enumerate(rows):
        others = [*rows[i + 1 :], *rows[:i]]
        expected.append(next((other[1] for other in others if other[0] != group and other[1] != shade), None))
    if None in expected:
        with pytest.raises(UserError, match="no other item has another picture"):
            list(swapped(samples))
        return
    shown = list(swapped(samples))
    assert [s.id for s in shown] == [s.id for s in samples]
    assert [s.images[0].getpixel((0, 0))[0] for s in shown] == expected  # type: ignore[index]


def test_a_swap_fails_if_all_items_have_the_same_picture():
    with pytest.raises(UserError, match="item b: no other item has another picture"):
        list(swapped([item("b", 1), item("c", 1)]))


# ---- asking a model


CONFIG = distill_config("bench.tasks.priorworld.rows=1", "bench.samples=0")


def prompter(tiny) -> Prompter:
    return Prompter(tiny.processor, CONFIG.prompt, CONFIG.routing)


def first_item(tiny, diagnostic: str) -> PreparedItem:
    (sample,) = with_control_images(question_rows("heldout", 1)[:1], diagnostic)
    return prepare_item(prompter(tiny), sample, sample.question)


def test_a_blind_prompt_differs_only_in_the_picture(tiny):
    plain, blind = (first_item(tiny, name) for name in ("none", "blind"))
    assert not blind.prompt.features and plain.prompt.features
    slots = {*tiny.banned_ids, *tiny.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])}
    assert not slots & set(blind.prompt.ids) and slots & set(plain.prompt.ids)
    assert [i for i in plain.prompt.ids if i not in slots] == list(blind.prompt.ids)


@pytest.mark.slow
def test_description_only_shows_the_models_own_description_and_no_picture(tiny):
    item, engine = first_item(tiny, "none"), InProcess(tiny)
    (greedy,) = answer(engine, prompter(tiny), [item], CONFIG.routing, CONFIG.bench)
    (asked,) = describe(engine, prompter(tiny), [item], [item.sample.question], CONFIG.bench)
    prompt, blind = asked.prompt, first_item(tiny, "blind").prompt
    assert not prompt.features
    head = greedy.text[: greedy.text.index(DESCRIPTION_END) + len(DESCRIPTION_END)]
    assert tiny.tokenizer.decode(prompt.prefill) == head
    assert prompt.ids[: len(blind.ids)] == blind.ids and len(prompt.ids) > len(blind.ids)
    (answered,) = answer(engine, prompter(tiny), [asked], CONFIG.routing, CONFIG.bench)
    assert answered.text.startswith(head) and answered.description == greedy.description


def run(folder: Path, out: str, *overrides: str):
    few = ("bench.max_new_tokens=48", "bench.tasks.priorworld.rows=2", f"out={folder / out}")
    return evaluate(job("eval", [*few, *overrides]))["priorworld"]  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_diagnostic_run_is_labelled_and_compared_with_the_plain_run(tmp_path):
    plain = run(tmp_path, "plain", "bench.samples=0")
    blank = run(tmp_path, "blank", "bench.samples=1", "diagnostic=blank", f"compare=[{tmp_path / 'plain'}]")
    assert blank["diagnostic"] == "blank" and "diagnostic" not in plain and "against" not in plain
    (other,) = [d for d in blank["against"]["differences"] if d["benchmark"] == "priorworld"]
    assert (other["answers"], other["items"], other["first"]) == ("greedy", 2, plain["other"])
    assert other["difference"] == blank["other"] - plain["other"]
    assert other["low"] <= other["difference"] <= other["high"] and 0 <= other["unchanged"] <= 1
    assert json.loads((tmp_path / "blank" / "scores.json").read_text()) == blank
    assert blank["leakage"]["n"] == 8 and blank["sampled"]["leakage"]["n"] == 8
    assert blank["leakage"]["mean"] < plain["leakage"]["mean"]


@pytest.mark.slow
def test_diagnostics_work_on_any_benchmark_and_resume(tmp_path):
    for i in range(3):
        picture(80 * i).save(tmp_path / f"{i}.png")
    images = [["0.png", "2.png"], ["1.png"], ["2.png"]]
    rows = [{"id": f"r{i}", "problem": "Colour?", "answer": "red", "images": images[i]} for i in range(3)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = ("bench=plain", f"bench.path={tmp_path / 'items.jsonl'}", "bench.samples=1")
    said: dict[str, str] = {}
    for name in ("none", "blind", "swap", "description_only"):
        out = tmp_path / name
        few = [*shared, "bench.max_new_tokens=16", f"diagnostic={name}", f"out={out}"]
        whole = evaluate(job("eval", few))  # type: ignore[arg-type]
        said[name] = (out / "responses.jsonl").read_text()
        if name in ("none", "blind"):
            continue
        (out / "responses.jsonl").write_text(said[name][: len(said[name]) // 2])
        assert evaluate(job("eval", [*few, "resume=auto"])) == whole  # type: ignore[arg-type]
        assert set((out / "responses.jsonl").read_text().splitlines()) == set(said[name].splitlines())
    assert len(set(said.values())) == 4


def test_a_missing_picture_is_still_an_error(tmp_path):
    (tmp_path / "items.jsonl").write_text('{"id": "a", "problem": "?", "answer": "x", "image": "no.png"}\n')
    path = f"bench.path={tmp_path / 'items.jsonl'}"
    with pytest.raises(UserError, match="an item is never asked without its picture"):
        evaluate(job("eval", ["bench=plain", path, f"out={tmp_path / 'o'}"]))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("diagnostic=blimd",), "did you mean blind"),
        (("diagnostic=blind", "responses=a.jsonl"), "needs a model: leave out responses="),
        (("diagnostic=description_only", "routing=opsd"), "set routing.student.format=structured"),
        (
            ("diagnostic=description_only", "routing=two_pass"),
            "not work with routing.student.writes=caption",
        ),
        (("diagnostic=blind", "compare=[nowhere]"), "there is no verdicts.jsonl in nowhere"),
    ],
)
def test_impossible_settings_are_refused_before_a_model_is_loaded(overrides, says, tmp_path, monkeypatch):
    monkeypatch.setattr("vigos_cli.evaluation.asker.load_student", None)
    with pytest.raises(ConfigError, match=says):
        evaluate(job("eval", [*overrides, f"out={tmp_path / 'o'}"]))  # type: ignore[arg-type]


def test_priorworlds_pictures_of_one_question_are_not_swapped_for_each_other():
    samples = question_rows("validation", 2)
    for before, after in zip(samples, swapped(samples), strict=True):
        donor = next(s for s in samples if any(same_picture(after.images[0], image) for image in s.images))
        assert donor.group != before.group
