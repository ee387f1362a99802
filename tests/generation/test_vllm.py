"""`rollout=vllm` with a local server that imitates vLLM and its errors, with the tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import distill_config, make_student
from loopback import HANG, FakeVllm, Reply, refusal

from vigos_cli.analysis.rollout_run import sample
from vigos_cli.config.compose import job
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.generation import vllm_check, vllm_protocol
from vigos_cli.generation.engine import InProcess, engine_of
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob
from vigos_cli.method.prompts import Prompter
from vigos_cli.training.distill import distill
from vigos_cli.utils import server as patient
from vigos_cli.utils.errors import UserError

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
GENERATE = "/inference/v1/generate"
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
def adapter(tmp_path_factory) -> Path:
    """An adapter whose answers differ from those of the base."""
    student = make_student("seed=1")
    generator = torch.Generator().manual_seed(0)
    for name, p in student.adapter.items():
        if "lora_B" in name:
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    folder = tmp_path_factory.mktemp("adapter")
    student.net.save_pretrained(str(folder))
    return folder


# ---------------------------------------------------------------- same answers as in process


def test_greedy_answers_are_those_of_the_student_in_process(vllm, tmp_path):
    here = run(tmp_path / "hf")
    there = run(tmp_path / "vllm", *over_http(vllm))
    assert answers(tmp_path / "vllm") == answers(tmp_path / "hf")
    engine = there["priorworld"].pop("engine")
    assert engine["name"] == "vllm" and not engine["adapter"] and "engine" not in here["priorworld"]
    assert json.dumps(there) == json.dumps(here)
    assert not vllm.loaded  # a zero adapter is not uploaded, so the server need not support adapters
    for path, body in vllm.asked:
        if path == GENERATE:
            assert body["sampling_params"].get("n", 1) == 1 and body["stream"] is False


def test_an_adapter_is_loaded_under_its_own_name_and_unloaded(vllm, tmp_path, adapter):
    given = f"adapter.path={adapter}"
    run(tmp_path / "hf", given)
    there = run(tmp_path / "vllm", given, *over_http(vllm))
    said = answers(tmp_path / "vllm")
    assert said == answers(tmp_path / "hf")
    run(tmp_path / "base")
    assert said != answers(tmp_path / "base")
    assert there["priorworld"]["engine"]["adapter"]
    (name,) = vllm.loaded
    assert set(vllm.models) == {next(iter(vllm.models))} and name not in vllm.models
    assert not (tmp_path / "vllm" / "served").exists()


def test_samples_depend_only_on_key_item_and_draw(vllm, tiny, tmp_path):
    requests = some_requests(tiny, 2, draws=3)
    sampling = Sampling(12, temperature=3.0, top_p=0.9, top_k=20)

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


def some_requests(student, count: int, draws: int = 1) -> list[Request]:
    from vigos_cli.data.priorworld import PriorWorld

    config = distill_config()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    made = []
    for sample_ in (PriorWorld(size=8)[i] for i in range(count)):
        images = prompter.encode(sample_.images)
        prompt = prompter.render(STUDENT, images, question=sample_.question)
        made += [Request(sample_.id, prompt, draw) for draw in range(draws)]
    return made


def test_pictures_are_rendered_once_per_item(vllm, tiny, tmp_path):
    engine = engine_of(distill_config(*over_http(vllm), f"out={tmp_path}"), tiny)
    engine._learns = False  # type: ignore[attr-defined]
    requests = some_requests(tiny, 2, draws=3)
    engine.roll_out(SamplingJob(requests, Sampling(2, temperature=0), key=(0,), batch=1))
    rendered = [body for path, body in vllm.asked if path.endswith("/render")]
    assert len(rendered) == 2 + 1  # one more for the check of the server
    vllm.asked.clear()
    config = distill_config()
    prompter = Prompter(tiny.processor, config.prompt, config.routing)
    blind = Request("x", prompter.render(STUDENT, prompter.encode([]), question="What?"))
    (rollout,) = engine.roll_out(SamplingJob([blind], Sampling(2, temperature=0), key=(0,), batch=1))
    assert rollout.ids and {path for path, _ in vllm.asked} == {GENERATE}
    assert vllm.asked[0][1]["features"] is None and vllm.asked[0][1]["token_ids"] == list(blind.prompt.ids)


def test_pictures_between_words_are_sampled_as_in_process(vllm, tiny, tmp_path):
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
        slots = [place["offset"] for place in generated["features"]["mm_placeholders"]["image"]]
        between = prompt.ids[slots[0] : slots[1]]
        assert ("like" in tiny.tokenizer.decode(between)) == bool(places)


def test_diagnostics_work_with_vllm(vllm, tmp_path):
    for diagnostic in ("description_only", "blank"):
        extra = (f"diagnostic={diagnostic}",)
        run(tmp_path / f"hf-{diagnostic}", *extra)
        run(tmp_path / f"vllm-{diagnostic}", *extra, *over_http(vllm))
        there = answers(tmp_path / f"vllm-{diagnostic}")
        assert there == answers(tmp_path / f"hf-{diagnostic}")


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


@pytest.mark.parametrize(
    ("trap", "says"),
    [
        ("slots", "expands an image to other slots"),
        ("ids", "of other tokens than were sent"),
        ("more", "prompt tokens, but"),
        ("weights", "does it serve the same weights"),
        ("ignores", "the same as without it"),
        ("part", "% of its effect on the server"),
        ("slot_drawn", "sampled an image slot"),
        ("cached", "--mm-processor-cache-gb 0"),
    ],
)
def test_a_server_with_wrong_behaviour_is_a_one_line_error(vllm, tmp_path, adapter, trap, says):
    vllm.traps.add(trap)
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path, f"adapter.path={adapter}", *over_http(vllm))
    assert "\n" not in str(caught.value)
    assert not answers(tmp_path) and not (tmp_path / "scores.json").exists()
    if trap != "slot_drawn":  # found before sampling, so no adapter stays on the server
        assert len(vllm.models) == 1 and not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        (LOAD, 404, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (LOAD, 500, "--max-lora-rank"),
        ("/v1/chat/completions/render", 404, "--enable-scale-out"),
        (GENERATE, 404, "--enable-scale-out"),
        (GENERATE, 400, "answered 400 \\(too long\\)"),
    ],
)
def test_a_refusal_is_one_line_with_advice(vllm, tmp_path, adapter, path, status, says):
    vllm.play = lambda asked, *_: refusal(status, "too long") if asked == path else None
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path, f"adapter.path={adapter}", *over_http(vllm))
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_named_in_the_error(vllm, tmp_path):
    with pytest.raises(UserError, match=r"answered 404 \(The model `other` does not exist\.\)"):
        run(tmp_path, *over_http(vllm, "rollout.model=other"))


def test_temporary_errors_are_retried(vllm, tmp_path):
    run(tmp_path / "hf")

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
    assert answers(tmp_path / "vllm") == answers(tmp_path / "hf")
    assert vllm.most <= 2


def test_a_lasting_error_stops_the_run_and_resume_completes_it(vllm, tmp_path):
    chunks = ("bench.batch=1", "limit=6", "bench.tasks.priorworld.rows=2", "resume=auto")
    run(tmp_path / "hf", *chunks)
    done = [0]

    def play(path, body, number) -> Reply | None:
        done[0] += path == GENERATE and "prompt_logprobs" not in body["sampling_params"]
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


# ---------------------------------------------------------------- the check of the server alone


def test_the_check_tolerates_rounding_but_no_wrong_weights(tiny, adapter):
    student = make_student(f"adapter.path={adapter}")
    (request,) = some_requests(student, 1)
    everywhere = range(len(request.prompt.ids) - 1)
    base = vllm_check.student_logprobs(student, request.prompt, "initial", everywhere)
    live = vllm_check.student_logprobs(student, request.prompt, "live", everywhere)

    def hold(base_: torch.Tensor, live_: torch.Tensor, zero: bool = False) -> None:
        vllm_check.check_weights(student, request.prompt, base_.tolist(), live_.tolist(), zero=zero)

    noise = torch.randn(len(base), generator=torch.Generator().manual_seed(1)) * 0.02
    hold(base, live)
    hold(base + noise, live + noise.flip(0))
    hold(base, base, zero=True)
    for wrong in (base, base + 0.3 * (live - base)):
        with pytest.raises(UserError):
            hold(base, wrong)
    for name, p in student.adapter.items():
        if "lora_B" in name:
            p.data.mul_(1e-3)  # as after one small step; rounding hides the size of the change
    weak = vllm_check.student_logprobs(student, request.prompt, "live", everywhere)
    hold(base + noise, weak + noise.flip(0))
    with pytest.raises(UserError, match="the same as without it"):
        hold(base + noise, base + noise)
    for far in (base - 1, base * float("nan")):
        with pytest.raises(UserError, match="same weights"):
            hold(far, live)


@pytest.mark.parametrize(
    ("ours", "theirs", "places"),
    [
        ([1, 5, 5, 2, 9], [1, 5, 5, 2, 7, 8], [(1, 2)]),
        ([0, 0, 1, 5, 5, 2, 5, 2], [1, 5, 5, 2, 5, 2], [(3, 2), (6, 1)]),
        ([1, 5, 5, 5, 2], [1, 5, 5, 2], None),  # one slot more than the server's
        ([1, 5, 2], [1, 5, 5, 2], None),
        ([1, 5, 5, 2, 5], [1, 5, 5, 2], None),  # a slot without a picture
    ],
)
def test_image_slots_are_found_at_their_positions_in_our_ids(ours, theirs, places):
    runs, start = [], None
    for i, token in enumerate([*theirs, 0]):
        if token == 5 and start is None:
            start = i
        elif token != 5 and start is not None:
            runs.append({"offset": start, "length": i - start, "is_embed": None})
            start = None
    if places is None:
        with pytest.raises(UserError, match="other slots"):
            vllm_protocol._places(runs, theirs, ours, frozenset({5, 3}))
    else:
        found = vllm_protocol._places(runs, theirs, ours, frozenset({5, 3}))
        assert [(place["offset"], place["length"]) for place in found] == places
        assert all("is_embed" in place for place in found)


# ---------------------------------------------------------------- log-probabilities of the sampled tokens


def test_a_step_reports_the_gap_between_server_and_trainer(vllm, tmp_path):
    steps = ("trainer.steps=2", "trainer.batch=4", "bench.samples=0", "bench.tasks.priorworld.rows=1")
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
