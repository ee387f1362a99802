"""`rollout=vllm` with a local server that imitates vLLM and its errors, with the tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import distill_config, make_student
from loopback import HANG, FakeVllm, Reply, priorworld_requests, refusal, save_adapter
from twins import save_twin

from vigos_cli.analysis.rollout_run import sample
from vigos_cli.config.compose import job
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.generation import vllm_protocol
from vigos_cli.generation.engine import InProcess, engine_of
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob
from vigos_cli.method.prompts import Prompter
from vigos_cli.training.distill import distill
from vigos_cli.utils import server as patient
from vigos_cli.utils.errors import ConfigError, UserError

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
RENDER, GENERATE = "/v1/chat/completions/render", "/inference/v1/generate"
FEW = ("bench=priorworld", "bench.tasks.priorworld.rows=1", "limit=3", "bench.max_new_tokens=60")


@pytest.fixture(scope="module")
def served() -> Iterator[FakeVllm]:
    server = FakeVllm()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def vllm(served, monkeypatch) -> Iterator[FakeVllm]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(patient, "FIRST_WAIT", 0.01)
    yield served
    served.asked.clear()
    served.loaded.clear()
    served.traps.clear()
    served.most = 0
    served.scale_out = served.content_parts = True
    served.play = lambda *_: None
    served.models = {name: s for name, s in served.models.items() if s is served.base}


def lines(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def answers(run: Path) -> list[dict]:
    """The answers, sorted, because they are written in the order of arrival."""
    return sorted(lines(run / "responses.jsonl"), key=lambda line: (line["sample_id"], line["draw"]))


def over_http(vllm: FakeVllm, *overrides: str) -> tuple[str, ...]:
    return ("rollout=vllm", f"rollout.url={vllm.url}", *overrides)


def run(out: Path, *overrides: str):
    return evaluate(job("eval", [*FEW, "bench.samples=0", f"out={out}", *overrides]))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """The same evaluation in process."""
    folder = tmp_path_factory.mktemp("hf")
    scores = run(folder)
    assert "engine" not in scores["priorworld"]
    (folder / "scores.json.text").write_text(json.dumps(scores))
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapter"))


# ---------------------------------------------------------------- same answers as in process


@pytest.mark.parametrize("content_parts", [True, False])
def test_greedy_answers_are_those_of_the_student_in_process(vllm, tmp_path, here, content_parts):
    vllm.content_parts = content_parts
    there = run(tmp_path / "vllm", *over_http(vllm))
    assert answers(tmp_path / "vllm") == answers(here)
    engine = there["priorworld"].pop("engine")
    assert engine["name"] == "vllm" and not engine["adapter"]
    assert engine["pictures"] == ("content_parts" if content_parts else "features")
    assert json.dumps(there) == (here / "scores.json.text").read_text()
    assert not vllm.loaded  # a zero adapter is not uploaded, so the server need not support adapters
    for path, body in vllm.asked:
        if path == GENERATE:
            assert body["sampling_params"].get("n", 1) == 1 and body["stream"] is False
    assert any(path == RENDER for path, _ in vllm.asked) is not content_parts
    sent = [
        len(json.dumps(body)) for path, body in vllm.asked if path == GENERATE and len(body["token_ids"]) > 1
    ]
    assert (max(sent) < 10_000) is content_parts


@pytest.mark.slow
def test_a_finished_run_that_is_resumed_has_the_same_scores(vllm, tmp_path):
    run(tmp_path, *over_http(vllm))
    scores = (tmp_path / "scores.json").read_bytes()
    assert b"content_parts" in scores
    vllm.play = lambda *_: refusal(500, "must not be asked")
    run(tmp_path, *over_http(vllm), "resume=auto")
    assert (tmp_path / "scores.json").read_bytes() == scores


@pytest.mark.slow
def test_an_adapter_is_loaded_under_its_own_name_and_unloaded(vllm, tmp_path, adapter, here):
    given = f"adapter.path={adapter}"
    run(tmp_path / "hf", given)
    there = run(tmp_path / "vllm", given, *over_http(vllm))
    said = answers(tmp_path / "vllm")
    assert said == answers(tmp_path / "hf")
    assert said != answers(here)
    assert there["priorworld"]["engine"]["adapter"]
    (name,) = vllm.loaded
    assert set(vllm.models) == {next(iter(vllm.models))} and name not in vllm.models
    assert not (tmp_path / "vllm" / "served").exists()


@pytest.mark.slow
def test_samples_depend_only_on_key_item_and_draw(vllm, tiny, tmp_path):
    requests = priorworld_requests(tiny, 2, draws=3)
    sampling = Sampling(12, temperature=8.0, top_p=0.9, top_k=20)

    def ids(order: list[int], key: int = 1, *more: str) -> dict[tuple[str, int], tuple[int, ...]]:
        engine = engine_of(distill_config(*over_http(vllm, *more), f"out={tmp_path}"), tiny)
        made = engine.roll_out(SamplingJob([requests[i] for i in order], sampling, key=(key,), batch=1))
        assert [(r.sample_id, r.draw) for r in made] == [
            (requests[i].sample_id, requests[i].draw) for i in order
        ]
        engine.close()
        return {(r.sample_id, r.draw): r.ids for r in made}

    first = ids([0, 1, 2, 3, 4, 5])
    assert len({ids for (item, _), ids in first.items() if item == requests[0].sample_id}) > 1
    assert ids([5, 0, 3, 1, 4, 2], 1, "rollout.concurrency=1") == first
    assert ids([0, 1, 2, 3, 4, 5], 2) != first
    params = next(
        body["sampling_params"] for path, body in vllm.asked if "top_p" in body.get("sampling_params", {})
    )
    assert (params["top_p"], params["top_k"], params["max_tokens"]) == (0.9, 20, 12)
    assert set(params["stop_token_ids"]) == tiny.stop_ids


@pytest.mark.slow
def test_pictures_are_rendered_once_per_item(vllm, tiny, tmp_path):
    engine = engine_of(distill_config(*over_http(vllm), f"out={tmp_path}"), tiny)
    engine._learns = False  # type: ignore[attr-defined]
    vllm.content_parts = False
    requests = priorworld_requests(tiny, 2, draws=3)
    engine.roll_out(SamplingJob(requests, Sampling(2, temperature=0), key=(0,), batch=1))
    rendered = [body for path, body in vllm.asked if path.endswith("/render")]
    assert len(rendered) == 2 + 1  # one more for the check of the server
    vllm.asked.clear()
    config = distill_config()
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    blind = Request("x", prompter.render(STUDENT, prompter.encode([]), question="What?"))
    (rollout,) = engine.roll_out(SamplingJob([blind], Sampling(2, temperature=0), key=(0,), batch=1))
    assert rollout.ids and {path for path, _ in vllm.asked} == {GENERATE}
    assert not vllm.asked[0][1].get("features") and vllm.asked[0][1]["token_ids"] == list(blind.prompt.ids)


@pytest.mark.slow
@pytest.mark.parametrize("content_parts", [True, False])
def test_pictures_between_words_are_sampled_as_in_process(vllm, tiny, tmp_path, content_parts):
    vllm.content_parts = content_parts
    config = distill_config(*over_http(vllm), f"out={tmp_path}")
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    pictures = (PriorWorld(size=8)[0].images[0], PriorWorld(size=8)[1].images[0])
    question = "Is <image> like <image>?"
    for places in ((3, 16), ()):
        prompt = prompter.render(STUDENT, prompter.encode(pictures, places), question=question)
        job = SamplingJob([Request("x", prompt)], Sampling(6, temperature=0), key=(0,), batch=1)
        (there,), (here,) = engine_of(config, tiny).roll_out(job), InProcess(tiny).roll_out(job)
        assert there.ids == here.ids
        generated = [body for path, body in vllm.asked if path == GENERATE][-1]
        ids, slot = generated["token_ids"], tiny.base.config.image_token_id
        assert ids.count(slot) == (2 if content_parts else prompt.ids.count(slot))
        first = ids.index(slot)
        between = ids[first : next(i for i in range(len(ids), 0, -1) if ids[i - 1] == slot)]
        assert ("like" in tiny.tokenizer.decode(between)) == bool(places)


@pytest.mark.slow
def test_pictures_go_another_way_if_the_server_makes_other_tokens_of_content_parts(vllm, tmp_path, here):
    vllm.traps.add("other")
    there = run(tmp_path, *over_http(vllm))
    assert there["priorworld"]["engine"]["pictures"] == "features" and answers(tmp_path) == answers(here)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trap", "says"), [("other", "images of a prompt to other tokens"), ("slots", "prompt tokens, but")]
)
def test_every_later_picture_is_checked_too(vllm, tiny, tmp_path, trap, says):
    engine = engine_of(distill_config(*over_http(vllm), f"out={tmp_path}"), tiny)
    first, later = priorworld_requests(tiny, 2)
    sampling = Sampling(2, temperature=0)
    engine.roll_out(SamplingJob([first], sampling, key=(0,), batch=1))
    vllm.traps.add(trap)
    with pytest.raises(UserError, match=says):
        engine.roll_out(SamplingJob([later], sampling, key=(0,), batch=1))
    engine.close()


@pytest.mark.slow
def test_diagnostics_work_with_vllm(vllm, tmp_path):
    for diagnostic in ("description_only", "blank"):
        extra = (f"diagnostic={diagnostic}",)
        run(tmp_path / f"hf-{diagnostic}", *extra)
        run(tmp_path / f"vllm-{diagnostic}", *extra, *over_http(vllm))
        there = answers(tmp_path / f"vllm-{diagnostic}")
        assert there == answers(tmp_path / f"hf-{diagnostic}")


@pytest.mark.slow
def test_vigos_rollout_scores_what_the_server_sampled(vllm, tmp_path):
    made = sample(
        job("rollout", ["limit=2", "rollout.max_new_tokens=20", f"out={tmp_path}", *over_http(vllm)])
    )  # type: ignore[arg-type]
    assert len(made) == 2 and all(len(line["student_logprob"]) == line["tokens"] for line in made)


# ---------------------------------------------------------------- training updates the adapter


LEARN = ("trainer.steps=2", "trainer.batch=4", "rollout.max_new_tokens=60", "trainer.lr=2e-3", "data.size=16")


@pytest.mark.slow
def test_each_training_step_samples_with_its_own_adapter(vllm, tmp_path):
    steps: list[str] = []
    vllm.play = lambda path, body, _: steps.append(body["model"]) if path == GENERATE else None
    small = ("bench.tasks.priorworld.rows=1", "bench.samples=0", "bench.max_new_tokens=60")
    summary = distill(distill_config(*LEARN, *small, *over_http(vllm), f"out={tmp_path / 'run'}"))
    assert summary and summary["steps"] == 2 and summary["engine"]["name"] == "vllm"
    assert len(vllm.loaded) == len(set(vllm.loaded)) == 3  # untrained, after each step
    order = [(path, body["lora_name"]) for path, body in vllm.asked if path in (LOAD, UNLOAD)]
    a, b, c = vllm.loaded
    assert order == [(LOAD, a), (LOAD, b), (UNLOAD, a), (LOAD, c), (UNLOAD, b), (UNLOAD, c)]
    used = [name for name in steps if name != next(iter(vllm.models))]
    assert [name for i, name in enumerate(used) if i == 0 or used[i - 1] != name] == [a, b, c]
    assert len(vllm.models) == 1 and not (tmp_path / "run" / "served").exists()
    # the final evaluation gives the same answers as the saved adapter in process
    run(tmp_path / "again", f"adapter.path={tmp_path / 'run' / 'adapter'}", "limit=null")
    assert [line["text"] for line in answers(tmp_path / "again")] == [
        line["text"] for line in answers(tmp_path / "run")
    ]


# ---------------------------------------------------------------- wrong servers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trap", "says"),
    [
        ("slots", "expands an image to other slots"),
        ("ids", "of other tokens than were sent"),
        ("more", "prompt tokens, but"),
        ("weights", "does it serve the same weights"),
        ("near", r"by 0\.[12]\d nats per token \(at most 0\.1"),
        ("ignores", "the same as without it"),
        ("part", "% of its effect on the server"),
        ("slot_drawn", "sampled an image slot"),
        ("cached", "--mm-processor-cache-gb 0"),
    ],
)
def test_a_server_with_wrong_behaviour_is_a_one_line_error(vllm, tmp_path, adapter, trap, says):
    vllm.traps.add(trap)
    vllm.content_parts = trap != "cached"
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path, f"adapter.path={adapter}", *over_http(vllm))
    assert "\n" not in str(caught.value)
    assert not answers(tmp_path) and not (tmp_path / "scores.json").exists()
    if trap != "slot_drawn":  # found before sampling, so no adapter stays on the server
        assert len(vllm.models) == 1 and not (tmp_path / "served").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        (LOAD, 404, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (LOAD, 500, "--max-lora-rank"),
        (LOAD, 401, "it needs a key, see rollout.key_env"),
        (LOAD, 403, r"answered 403 \(too long\): it forbids this request, or it needs a key"),
        (RENDER, 404, "--enable-scale-out"),
        (RENDER, 403, "or it needs a key.*--enable-scale-out"),  # it may also be a proxy that asks for a key
        (GENERATE, 404, "--enable-scale-out"),
        (GENERATE, 400, "answered 400 \\(too long\\)"),
    ],
)
def test_a_refusal_is_one_line_with_advice(vllm, tmp_path, adapter, path, status, says):
    vllm.play = lambda asked, *_: refusal(status, "too long") if asked == path else None
    vllm.content_parts = path != RENDER
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path, f"adapter.path={adapter}", *over_http(vllm))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content_parts", [True, False])
def test_routes_that_are_switched_off_need_a_flag_and_no_key(vllm, tmp_path, content_parts):
    vllm.scale_out, vllm.content_parts = False, content_parts
    with pytest.raises(UserError, match="start it with `vllm serve --enable-scale-out`") as caught:
        run(tmp_path, *over_http(vllm))
    assert "key" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_model_is_named_with_those_that_the_server_has(vllm, tmp_path):
    served = next(iter(vllm.models))
    vllm.models |= {f"m{i}": vllm.base for i in range(9)}
    with pytest.raises(UserError) as caught:
        run(tmp_path, *over_http(vllm, "rollout.model=models/tiny"))
    said = str(caught.value)
    assert "has no model models/tiny: set rollout.model" in said and "--enable" not in said
    assert f"the nearest is {served}, of: {served}, m0" in said and "(and 4 more)" in said


@pytest.mark.slow
def test_no_server_is_said_first(tmp_path, adapter, monkeypatch):
    monkeypatch.setattr(patient, "FIRST_WAIT", 0.01)
    nowhere = ("rollout=vllm", "rollout.url=http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=r"^rollout: no server answers at http://127\.0\.0\.1:9/v1") as caught:
        run(tmp_path, f"adapter.path={adapter}", *nowhere)
    assert "adapter" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_lost_the_adapter_was_started_again(vllm, tiny, tmp_path):
    engine = engine_of(distill_config(*over_http(vllm), f"out={tmp_path}"), tiny)
    job_ = SamplingJob(priorworld_requests(tiny, 1), Sampling(2, temperature=0), key=(0,), batch=1)
    engine.roll_out(job_)
    vllm.models = {name: student for name, student in vllm.models.items() if student is vllm.base}
    with pytest.raises(UserError, match=r"no longer has the adapter vigos-\w+ of this run.*resume=auto"):
        engine.roll_out(job_)
    engine.close()


def student_of_family(name: str, folder: Path, *overrides: str):
    path = save_twin(name, folder)
    return make_student(
        "model=custom", f"model.path={path}", "model.dtype=float32", "adapter=lora", *overrides
    )


@pytest.mark.slow
def test_families_that_vllm_cannot_serve_are_refused_before_anything_is_sent(vllm, tmp_path):
    smol = student_of_family("smolvlm", tmp_path / "smolvlm")
    config = distill_config(*over_http(vllm), f"out={tmp_path / 'run'}")
    job_ = SamplingJob(priorworld_requests(smol, 1), Sampling(2, temperature=0), key=(0,), batch=1)
    with pytest.raises(UserError, match=r"smolvlm.*drops the mask.*use rollout=hf, or rollout=openai"):
        engine_of(config, smol).roll_out(job_)
    llava = student_of_family("llava_onevision", tmp_path / "llava")
    with pytest.raises(UserError, match=r"no LoRA adapter for llava_onevision.*use rollout=hf"):
        engine_of(config, llava)
    engine_of(job("eval", [*FEW, "out=unused", *over_http(vllm)]), llava)  # type: ignore[arg-type]
    qwen = student_of_family("qwen25vl", tmp_path / "qwen")
    engine_of(config, qwen)
    assert not vllm.asked


@pytest.mark.parametrize("command", ["distill", "eval", "rollout"])
def test_an_adapter_of_the_vision_tower_is_refused_at_once(command):
    with pytest.raises(ConfigError, match=r"adapter\.vision=true: vLLM .* use rollout=hf"):
        job(command, ["rollout=vllm", "adapter.vision=true", "out=unused"])


@pytest.mark.slow
def test_temporary_errors_are_retried(vllm, tmp_path, here):
    def play(path, body, number) -> Reply | None:
        if path != GENERATE or number > 12:
            return None
        given_up = b'{"choices": [{"index": 0, "token_ids": [1], "finish_reason": "abort"}]}'
        return {
            4: refusal(429, "busy", retry_after="0.1"),
            5: Reply(b'{"choices": [{"token_ids"', 200, {}, 10),
            6: HANG,
            7: refusal(503, "starting"),
            8: Reply(given_up),
            9: Reply(b"<html>"),
        }.get(number)

    vllm.play = play
    run(tmp_path / "vllm", *over_http(vllm, "rollout.timeout=6", "rollout.concurrency=2"))
    assert answers(tmp_path / "vllm") == answers(here)
    assert vllm.most <= 2


@pytest.mark.slow
def test_a_lasting_error_stops_the_run_and_resume_completes_it(vllm, tmp_path):
    chunks = ("bench.batch=1", "limit=6", "bench.tasks.priorworld.rows=2", "resume=auto")
    run(tmp_path / "hf", *chunks)
    done = [0]

    def play(path, body, number) -> Reply | None:
        done[0] += path == GENERATE and "seed" in body["sampling_params"]
        return refusal(500, "dead") if done[0] > 4 else None

    vllm.play = play
    with pytest.raises(
        UserError, match=r"answered 500 \(dead\) to item \S+; the run stops; resume=auto continues it"
    ) as caught:
        run(tmp_path / "vllm", *chunks, *over_http(vllm))
    assert "\n" not in str(caught.value) and not (tmp_path / "vllm" / "scores.json").exists()
    assert len(answers(tmp_path / "vllm")) == 4
    vllm.play = lambda *_: None
    run(tmp_path / "vllm", *chunks, *over_http(vllm))
    assert answers(tmp_path / "vllm") == answers(tmp_path / "hf")


# ---------------------------------------------------------------- log-probabilities of the sampled tokens


@pytest.mark.slow
def test_a_step_reports_the_gap_between_server_and_trainer(vllm, tmp_path):
    steps = ("trainer.steps=2", "trainer.batch=4", "bench.samples=0", "bench.tasks.priorworld.rows=1")
    steps = (*steps, "bench.max_new_tokens=8")  # the evaluations are not what is tested
    summary = distill(distill_config(*over_http(vllm), *steps, f"out={tmp_path / 'run'}"))
    for line in lines(tmp_path / "run" / "metrics.jsonl"):
        assert line["sampler_gap/tokens"] == line["supervised_tokens"] > 0
        assert line["sampler_gap/max"] < 1e-4
    assert summary and summary["sampler_gap"]["max"] < 1e-4


@pytest.mark.parametrize(
    "content, found",
    [
        ([{"token_id": 5, "logprob": -1.0}, {"token_id": 6, "logprob": -2.0}], [-1.0, -2.0]),
        ([{"token_id": 5, "logprob": -1.0}, {"token_id": 6, "logprob": -2.0}, {"token_id": 7}], [-1.0, -2.0]),
        ([{"token_id": 5, "logprob": -1.0}], []),
        ([{"token_id": 5, "logprob": None}, {"token_id": 6, "logprob": -2.0}], []),
        ([{"token": "token_id:5", "logprob": -1.0}], []),
        (None, []),
    ],
)
def test_log_probabilities_that_are_missing_are_no_error(content, found):
    reply = {"choices": [{"logprobs": content and {"content": content}}]}
    assert vllm_protocol.completion_log_probs(reply, (5, 6)) == found


def test_log_probabilities_of_other_tokens_are_an_error():
    content = [{"token_id": 5, "logprob": -1.0}, {"token_id": 9, "logprob": -2.0}]
    with pytest.raises(UserError, match="of other tokens"):
        vllm_protocol.completion_log_probs({"choices": [{"logprobs": {"content": content}}]}, (5, 6))
