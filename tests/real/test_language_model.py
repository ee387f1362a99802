"""Every command with a real language model: SmolLM2-135M inside a Qwen2-VL (see `smollm_vl`).

The order of the tests is that of a user's day. Each prints the time and the memory of its commands.
"""

from __future__ import annotations

import json
import multiprocessing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.plan import PIXELS, measure
from runs import adapter, same, steps_logged
from smollm_vl import gguf, load_smollm
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

pytestmark = pytest.mark.slow
FLOAT32, NF4 = ("adapter=lora",), ("adapter=qlora",)
ADAMW = "trainer.optimizer=adamw"  # the recipe's 8-bit AdamW with pages is for GPUs
FEW = (ADAMW, "trainer.batch=2", "trainer.micro_batch=1", "bench.tasks.priorworld.rows=1", "bench.samples=0")
# A question without a picture, with a tag of the format, so that the text is not only English.
CHAT = "Tell me about <description> tags and the capital of France."


def read(path: Path) -> Any:
    """The lines of a .jsonl file, or the content of a .json file."""
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def test_on_text_the_model_is_the_published_one(smollm):
    """All logits are equal, and so is a greedy answer with its cache."""
    published, tokenizer = load_smollm(gguf() or Path())
    ours: Any = AutoModelForImageTextToText.from_pretrained(smollm, dtype=torch.float32).eval()
    message = [{"role": "user", "content": CHAT}]
    ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert AutoTokenizer.from_pretrained(smollm)(CHAT)["input_ids"] == tokenizer(CHAT)["input_ids"]
    with torch.no_grad():
        apart = (published(ids).logits - ours(input_ids=ids).logits[..., : len(tokenizer)]).abs().max()
    assert float(apart) < 1e-4
    answers = [
        model.generate(ids, max_new_tokens=24, do_sample=False).tolist() for model in (published, ours)
    ]
    assert answers[0] == answers[1]
    assert "Paris" in tokenizer.decode(answers[0][0]) or len(answers[0][0]) > ids.shape[1] + 8


PLANNED = {
    "checkpointed": ("trainer.gradient_checkpointing=true",),
    "activations kept": ("trainer.gradient_checkpointing=false",),
}


def with_large_pictures(model: Path, folder: Path) -> Path:
    """The model with pictures of the size that the plan assumes; those of PriorWorld are much smaller."""
    folder.mkdir()
    for file in (*model.glob("*.safetensors"), model / "config.json", model / "generation_config.json"):
        (folder / file.name).symlink_to(file)
    processor: Any = AutoProcessor.from_pretrained(model)
    processor.image_processor.size["shortest_edge"] = PIXELS
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", PLANNED)
def test_the_plan_agrees_with_measured_memory(smollm, tmp_path, monkeypatch, case):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # glibc then gives freed memory back
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    model = with_large_pictures(smollm, tmp_path / "model")
    settings = ["model=custom", f"model.path={model}", "data=priorworld", *FLOAT32, ADAMW, *PLANNED[case]]
    settings += [f"model.max_pixels={PIXELS}", "trainer.batch=4", "trainer.micro_batch=4", "rollout.batch=4"]
    settings += ["bench.batch=4", "rollout.max_new_tokens=32", "bench.max_new_tokens=8", "out=unused"]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(settings, results))
    process.start()
    found = results.get(timeout=1800)
    process.join()
    for phase, (measured, planned, seconds) in found.items():
        ratio = planned / measured
        print(
            f"\n  {case}, {phase}: measured {measured / 2**30:.2f} GiB, planned {planned / 2**30:.2f}", end=""
        )
        print(f" ({ratio:.2f}), {seconds:.0f} s", flush=True)
    wrong = {phase: planned / measured for phase, (measured, planned, _) in found.items()}
    assert {phase: ratio for phase, ratio in wrong.items() if not 0.9 <= ratio <= 1.5} == {}


def test_rollout_says_that_this_model_does_not_keep_the_format(vigos, tmp_path, answer_tokens):
    out = tmp_path / "look"
    ended = vigos("rollout", *FLOAT32, "limit=6", f"rollout.max_new_tokens={answer_tokens}", f"out={out}")
    lines, summary = read(out / "rollouts.jsonl"), read(out / "summary.json")
    tokenizer = AutoTokenizer.from_pretrained(vigos_model(summary))
    for line in lines:
        assert line["text"].endswith(tokenizer.decode(line["token_ids"], skip_special_tokens=True)[-40:])
        assert all(a <= b for a, b in pairwise(line["ends"])) and line["ends"][-1] == len(line["text"])
        assert line["finished"] == (line["token_ids"][-1] == tokenizer.convert_tokens_to_ids("<|im_end|>"))
        assert len(line["kl"]) == line["tokens"] <= answer_tokens
    longest = max(line["tokens"] for line in lines)
    assert longest > min(answer_tokens, 256) / 2
    readiness = summary["readiness"]
    assert readiness["verdict"] == "change" and summary["valid_rate"]["mean"] < 0.5
    named = {change["what"] for change in readiness["changes"]}
    assert ("prompt" in named) == any(line["finished"] for line in lines)
    assert ("rollout.max_new_tokens" in named) == (
        sum(not line["finished"] for line in lines) > 0.2 * len(lines)
    )
    assert readiness["line"] in " ".join(ended.out.split())
    assert ended.out.index("verdict:") < 60 * 110, "the answers push the verdict off the screen"
    assert "tokens/s" in ended.err
    page = (out / "rollouts.html").read_text()
    assert page.count("not_finished") + page.count("no_") >= 1 and len(page) < 3_000_000


def vigos_model(summary: dict[str, Any]) -> str:
    """The folder of the model that a run used."""
    return summary["config"]["model"]["path"]


def test_distil_on_4_bit_weights_with_long_rollouts(vigos, tmp_path, answer_tokens):
    out = tmp_path / "nf4"
    limits = (f"rollout.max_new_tokens={answer_tokens}", "bench.max_new_tokens=16", "trainer.steps=1")
    vigos("distill", *NF4, *FEW, *limits, "loss.clip=none", f"out={out}")
    summary, (line,) = read(out / "summary.json"), read(out / "metrics.jsonl")
    assert summary["quantised_modules"] == 30 * 7
    assert line["tokens_per_rollout"] > 20  # those of the tiny model have about 15
    assert line["supervised_tokens"] > 0 and 0 < line["loss"] < 20 and line["grad_norm"] > 0
    assert line["fallback_rate"] == 1 - line["valid_rate"]
    assert any(value.abs().sum() > 0 for name, value in adapter(out).items() if "lora_B" in name)


@pytest.fixture(scope="module")
def trained(vigos, tmp_path_factory, answer_tokens):
    """An uninterrupted run in float32, strong enough to change answers."""
    out = tmp_path_factory.mktemp("trained") / "run"
    vigos("distill", *float32_run(answer_tokens), f"out={out}")
    return out


def float32_run(answer_tokens: int) -> list[str]:
    """Two steps with rollouts of up to `answer_tokens`, with a checkpoint after each."""
    limits = (f"rollout.max_new_tokens={answer_tokens}", "bench.max_new_tokens=16", "trainer.steps=2")
    strong = ("trainer.lr=2e-3", "trainer.checkpoint_every=1", "loss.clip=none")
    return [*FLOAT32, *FEW, *limits, *strong]


def test_a_run_that_was_killed_and_resumed_has_the_same_bytes(vigos, trained, tmp_path, answer_tokens):
    out = tmp_path / "killed"
    settings = (*float32_run(answer_tokens), f"out={out}", "resume=auto")
    killed = vigos("distill", *settings, check=False, kill_when=lambda: steps_logged(out) == 1)
    assert killed.status == -9 and not (out / "adapter").exists()
    vigos("distill", *settings)
    assert same(adapter(out), adapter(trained))
    assert steps_logged(out) == 2
    timed = ("seconds", "tokens_per_second", "peak")
    resumed, whole = (read(folder / "metrics.jsonl") for folder in (out, trained))
    for one, other in zip(resumed, whole, strict=True):
        assert {k: v for k, v in one.items() if not k.startswith(timed)} == {
            k: v for k, v in other.items() if not k.startswith(timed)
        }


def responses(out: Path) -> dict[str, str]:
    """The greedy answers of an evaluation by item."""
    return {line["sample_id"]: line["text"] for line in read(out / "responses.jsonl")}


def test_a_merged_model_answers_as_base_and_adapter_do(vigos, trained, tmp_path, answer_tokens):
    few = ("bench=priorworld", "bench.tasks.priorworld.rows=1", "bench.samples=0", "adapter=lora")
    few = (*few, f"bench.max_new_tokens={answer_tokens}")
    apart, merged, asked, base = (tmp_path / name for name in ("apart", "merged", "asked", "base"))
    vigos("eval", *few, f"adapter.path={trained / 'adapter'}", f"out={apart}")
    vigos("merge", "adapter=lora", f"adapter.path={trained / 'adapter'}", f"out={merged}")
    vigos("eval", *few, f"model.path={merged}", f"out={asked}")
    vigos("eval", *few, f"out={base}")
    assert responses(asked) == responses(apart)
    assert responses(base) != responses(apart), "the adapter changes nothing, so this test shows nothing"
    assert max(len(text) for text in responses(apart).values()) > min(answer_tokens, 256)
    scores = read(apart / "scores.json")
    assert scores and (apart / "report.html").stat().st_size < 3_000_000
