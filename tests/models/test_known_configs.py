"""The shipped configurations have the published sizes, and `plan=true` works without the hub."""

from __future__ import annotations

from functools import partial
from math import prod
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import distill_config, no_hub
from PIL import Image
from transformers import AutoConfig
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from twins import FAMILIES, save_twin

from vigos_cli.cli.explain import options
from vigos_cli.config.compose import job
from vigos_cli.method.prompts import Prompter
from vigos_cli.models import plan_report, planned_config
from vigos_cli.models.memory_plan import estimate_memory, shape_of
from vigos_cli.models.peak_memory import GIB
from vigos_cli.models.picture_size import picture_size
from vigos_cli.models.plan_report import print_plan
from vigos_cli.models.planned_config import known_config
from vigos_cli.models.pretrained import empty_model, load_processor
from vigos_cli.utils.errors import UserError

# The published number of parameters, and whether it is known exactly. Exact: the count that the hub shows for
# the weights, as public repositories quote it. Not exact: the rounded number on the model's card. For Qwen3.5
# the hub's count less the weights for predicting several tokens, which transformers does not load.
PUBLISHED = {
    "qwen2vl": (2_208_985_600, "exact"),
    "qwen2vl_7b": (8_291_375_616, "exact"),
    "qwen25vl_3b": (3_754_622_976, "exact"),
    "qwen25vl_7b": (8_292_166_656, "exact"),
    "qwen3vl_2b": (2_127_532_032, "exact"),
    "qwen3vl_4b": (4_437_815_808, "exact"),
    "qwen3vl_8b": (8_767_123_696, "exact"),
    "qwen35_2b": (2_274_069_824 - 60_828_160, "exact"),
    "qwen35_4b": (4_659_865_088 - 120_599_552, "exact"),
    "smolvlm2": (2_246_784_880, "exact"),
    "llava_onevision": (0.9e9, "rounded"),
}
REAL = sorted(set(options("model")) - {"tiny", "custom"})


def config_of(option: str):
    return job("distill", [f"model={option}", "plan=true", "out=unused"])


@pytest.mark.parametrize("option", REAL)
def test_a_shipped_configuration_has_the_published_number_of_parameters(option):
    model = empty_model(known_config(config_of(option).model.path))
    total = sum(parameter.numel() for parameter in model.parameters())
    published, precision = PUBLISHED[option]
    assert total == published if precision == "exact" else round(total, -8) == published


@pytest.mark.slow
@pytest.mark.parametrize("option", REAL)
def test_the_plan_of_every_model_needs_no_hub_and_fits_24_gb(option, monkeypatch, capsys):
    monkeypatch.setattr(planned_config, "fetch", no_hub)
    run, shapes = config_of(option), []
    monkeypatch.setattr(plan_report, "shape_of", lambda run: shapes.append(shape_of(run)) or shapes[-1])
    assert print_plan(run)
    shown = capsys.readouterr().out
    assert f"{run.model.path} could not be read from the hub" in shown and "fits;" in shown
    (shape,) = shapes  # building the model takes most of the time
    assert 4 < estimate_memory(run, shape).peak / GIB < 22


@pytest.mark.slow
def test_the_configuration_of_the_hub_is_preferred(monkeypatch, capsys):
    fetched = known_config("Qwen/Qwen2-VL-7B-Instruct")
    monkeypatch.setattr(planned_config, "fetch", lambda *_: fetched)
    shape = shape_of(config_of("qwen2vl"))
    assert shape.hidden == 3584 and shape.note == ""


def test_a_model_without_a_shipped_configuration_is_an_error(monkeypatch):
    monkeypatch.setattr(planned_config, "fetch", no_hub)
    with pytest.raises(UserError, match="hub does not answer"):
        shape_of(job("distill", ["model=custom", "model.path=me/mine", "out=unused"]))


@pytest.mark.parametrize(
    ("option", "tokens", "patches"),
    [
        ("qwen2vl", 768, 4 * 768),
        ("qwen3vl_4b", 768, 4 * 768),
        ("smolvlm2", 10 * 81 + 25, 10 * 27**2),  # nine tiles and the whole picture, with 25 marks
        ("llava_onevision", 81 * 82 + 27**2, 10 * 27**2),  # nine tiles in three rows and the whole picture
    ],
)
def test_the_pictures_of_the_real_models(option, tokens, patches):
    model = config_of(option).model
    size = picture_size(known_config(model.path), model.max_pixels)
    assert (size.tokens, size.patches) == (tokens, patches)


@pytest.mark.parametrize("edge", [300, 700, 1001, 1500, 2304])
def test_pictures_of_llava_onevision_are_thinned_out_as_by_its_processor(edge):
    settings: Any = known_config("llava-hf/llava-onevision-qwen2-0.5b-ov-hf")
    tile = settings.vision_config.image_size
    own: Any = SimpleNamespace(
        image_processor=settings, num_image_tokens=27**2, vision_aspect_ratio="anyres_max_9"
    )
    own._get_unpadded_features = partial(LlavaOnevisionProcessor._get_unpadded_features, own)
    expected = LlavaOnevisionProcessor._get_number_of_features(own, edge, edge, tile, tile)
    assert picture_size(settings, edge**2).tokens == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("units", [1, 2, 3])
def test_the_size_of_a_picture_equals_that_of_the_processor(name, units, tmp_path_factory):
    """Marks of tiles are not counted: the tokenizers of the small models cut them differently."""
    side = units * (28 if name in ("qwen2vl", "qwen25vl", "llava_onevision") else 32)
    folder = tmp_path_factory.getbasetemp() / f"twin-{name}"
    if not folder.exists():
        save_twin(name, folder)
    bound = "null" if name == "llava_onevision" else side**2
    run = distill_config(f"model.path={folder}", f"model.max_pixels={bound}")
    settings = AutoConfig.from_pretrained(folder)
    expected = picture_size(settings, side**2)
    processor = load_processor(run.model)
    images = Prompter(processor, run.prompt, run.routing).encode([Image.new("RGB", (side, side), "red")])
    assert images.first
    slot = processor.tokenizer.convert_tokens_to_ids(FAMILIES[name].image_token)
    shown = images.first.pieces[0].count(slot) or images.first.pieces[1].count(slot)
    marks = 0 if name != "smolvlm" else 3 if units == 1 else units * (2 * units + 1) + 4
    assert shown == expected.tokens - marks
    pixels = images.features["pixel_values"]
    assert prod(pixels.shape) == expected.patches * expected.values
