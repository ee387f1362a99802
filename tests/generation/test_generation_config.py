"""A checkpoint's generation config does not change samples, except for the tokens that end a turn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import distill_config
from transformers import GenerationConfig

from vigos_cli.analysis.rollout_run import sample
from vigos_cli.config.compose import job
from vigos_cli.config.paths import TINY
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import question_rows
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.training.distill import distill

COMMON = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]
SETTINGS: dict[str, dict[str, Any]] = {
    "repetition_penalty": {"repetition_penalty": 50.0},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "bad_words_ids": {"bad_words_ids": [[token] for token in COMMON]},
    "suppress_tokens": {"suppress_tokens": COMMON},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(10, 500))},
    "sequence_bias": {"sequence_bias": [[[40], 1000.0]]},
    "min_new_tokens": {"min_new_tokens": 90},
    "min_length": {"min_length": 400},
    "forced_eos": {"forced_eos_token_id": 34, "max_length": 60},
    "length": {"max_length": 3, "max_time": 1e-6},
    "stop_strings": {"stop_strings": [" "]},
    "sampling": {"do_sample": True, "temperature": 0.3, "top_k": 1, "top_p": 0.01, "min_p": 0.9},
    "num_beams": {"num_beams": 3},
    "num_return_sequences": {"num_beams": 2, "num_return_sequences": 2},
    "exponential_decay": {"exponential_decay_length_penalty": [1, 9.0]},
    "guidance_scale": {"guidance_scale": 3.0},
    "cache": {"cache_implementation": "static"},
    "no_cache": {"use_cache": False},
    "prompt_lookup": {"prompt_lookup_num_tokens": 3},
    "returned_as_a_dict": {"return_dict_in_generate": True, "output_scores": True},
}
ALL = {
    "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[token] for token in COMMON],
    "suppress_tokens": COMMON,
    "min_new_tokens": 90,
    "forced_eos_token_id": 34,
    "do_sample": True,
    "temperature": 0.3,
    "top_k": 1,
    "top_p": 0.01,
    "num_beams": 3,
    "cache_implementation": "static",
    "guidance_scale": 3.0,
}


@pytest.fixture(scope="module")
def requests(tiny) -> list[Request]:
    config = distill_config()
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    return [
        Request(row.id, prompter.render(STUDENT, prompter.encode(row.images), question=row.question))
        for row in question_rows("validation", 2)
    ]


def drawn(tiny: Any, requests: list[Request], temperature: float) -> list[tuple[int, ...]]:
    sampling = Sampling(40, temperature=temperature, top_p=0.95, top_k=20)
    return [rollout.ids for rollout in roll_out(tiny, SamplingJob(requests, sampling, key=(0,), batch=8))]


@pytest.fixture(scope="module")
def plain(tiny, requests) -> dict[float, list[tuple[int, ...]]]:
    """The samples under the model's own, empty generation config."""
    return {temperature: drawn(tiny, requests, temperature) for temperature in (0.0, 1.1)}


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.1])
@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_of_the_checkpoint_changes_the_samples(
    tiny, requests, plain, name, temperature, monkeypatch
):
    theirs = GenerationConfig(eos_token_id=2, pad_token_id=0, **SETTINGS[name])
    monkeypatch.setattr(tiny.base, "generation_config", theirs)
    assert drawn(tiny, requests, temperature) == plain[temperature]
    assert tiny.base.generation_config is theirs, "the generation config is kept for saving the model"


def copy_of_tiny(folder: Path, **settings: Any) -> Path:
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    own = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(own | settings))
    return folder


@pytest.mark.slow
def test_all_commands_ignore_the_generation_config_of_a_checkpoint(tmp_path):
    """Compares greedy and sampled answers, untrained and after one training step."""
    small = ("bench.tasks.priorworld.rows=1", "bench.samples=1")
    outputs = []
    for name, settings in (("bare", {}), ("full", ALL)):
        model, out = copy_of_tiny(tmp_path / name, **settings), tmp_path / f"out-{name}"
        own = f"model.path={model}"
        lines = sample(job("rollout", [own, "limit=2", "rollout.n=2", f"out={out / 'rollout'}"]))
        learn = ("trainer.steps=1", "trainer.batch=4", "trainer.micro_batch=4", *small)
        distill(distill_config(own, *learn, f"out={out / 'distill'}"))
        evaluate(job("eval", [own, *small, f"out={out / 'eval'}"]))
        metrics = json.loads((out / "distill" / "metrics.jsonl").read_text())
        texts = [
            [json.loads(line)["text"] for line in (out / file).read_text().splitlines()]
            for file in ("distill/before.jsonl", "distill/responses.jsonl", "eval/responses.jsonl")
        ]
        outputs.append(([line["token_ids"] for line in lines], metrics["loss"], texts))
    assert outputs[0] == outputs[1]
