"""`rollout=openai` with local servers that continue a turn, refuse or ignore it, and with a real one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from chat_loopback import FakeChat
from hypothesis import given
from hypothesis import strategies as st
from loopback import HANG, Reply, refusal
from PIL import Image

from vigos_cli.config.compose import job
from vigos_cli.config.paths import TINY
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.config.schema import PromptConfig, RolloutConfig, RoutingConfig, StudentContext
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.generation.chat import FILE, StreamedReply, TextPrompter
from vigos_cli.generation.concurrent_requests import data_url, user_turn
from vigos_cli.models import pretrained
from vigos_cli.utils import server as patient
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.server import CutShort

KEY = "sk-proj-TheSecret"
FEW = ("bench=priorworld", "bench.tasks.priorworld.rows=1", "limit=3", "bench.max_new_tokens=60")
PARTS = [(False, "a cup. </description> "), (True, " It is red. "), (False, " \\boxed{red}")]
WHOLE = "a cup. </description> <think> It is red. </think> \\boxed{red}"


@pytest.fixture
def serve(monkeypatch) -> Iterator:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(patient, "FIRST_WAIT", 0.01)
    servers: list[FakeChat] = []

    def start(**kind: Any) -> FakeChat:
        servers.append(FakeChat(**kind))
        servers[-1].says = lambda body: PARTS
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_the_pictures_of_a_turn_stand_first_or_between_its_texts():
    red, blue = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")

    def shown(images: Sequence[Image.Image], question: str, places: Sequence[int] = ()) -> list[Any]:
        routing = RoutingConfig(student=StudentContext(format="think"))
        prompter = TextPrompter(PromptConfig(think="Look: {question} Think."), routing)
        prompt = prompter.render(STUDENT, prompter.encode(images, places), question=question)
        names = {data_url(red): red, data_url(blue): blue}
        parts = user_turn(prompt.images, prompt.message)["content"]
        return [part["text"] if part["type"] == "text" else names[part["image_url"]["url"]] for part in parts]

    assert shown((red, blue), "What?") == [red, blue, "Look: What? Think."]
    assert shown((red, blue), "Is <image> in <image>?", (3, 14)) == [
        "Look: Is ",
        red,
        " in ",
        blue,
        "? Think.",
    ]
    assert shown((red, blue), "<image><image>?", (0, 7)) == ["Look: ", red, blue, "? Think."]
    assert shown((), "Is <image> in <image>?", (3, 14)) == ["Look: Is  in ? Think."]
    assert shown((red,), "The tag <image>", ()) == [red, "Look: The tag <image> Think."]


def run(out: Path, server: FakeChat | str, *overrides: str):
    url = server if isinstance(server, str) else server.url
    asked = ("rollout=openai", f"rollout.url={url}", "bench.samples=1", *overrides)
    return evaluate(job("eval", [*FEW, f"out={out}", *asked]))["priorworld"]  # type: ignore[arg-type]


def lines(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def asked(server: FakeChat) -> list[dict]:
    return [body for _, body in server.asked if body["max_tokens"] > 1]


# ---------------------------------------------------------------- the pre-fill


@pytest.mark.parametrize("strict", [False, True])
def test_the_pre_fill_is_continued_if_the_server_can(serve, tmp_path, strict):
    server = serve(strict=strict)
    scores = run(tmp_path, server)
    assert scores["engine"]["prefill"] == "continued"
    assert scores["engine"]["defaults_not_excluded"] == []
    said = lines(tmp_path / "responses.jsonl")
    assert {line["text"] for line in said} == {f"<description>{WHOLE}"}
    assert all(line["valid"] and line["answer"] == "red" and line["tokens"] == 7 for line in said)
    for body in asked(server):
        user, assistant = body["messages"]
        assert assistant == {"role": "assistant", "content": "<description>"}
        assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
        picture, text = user["content"]
        assert picture["image_url"]["url"].startswith("data:image/png;base64,") and text["type"] == "text"
    assert {body["temperature"] for body in asked(server)} == {0, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ({"continues": False, "strict": True}, []),
        ({"continues": False}, []),
        (
            {"continues": False, "strict": True, "fields": ("presence_penalty", "frequency_penalty")},
            ["top_k", "min_p", "repetition_penalty"],
        ),
    ],
    ids=["refuses", "ignores", "refuses other fields as well"],
)
def test_without_continuation_no_pre_fill_is_sent(serve, tmp_path, kind, refused):
    server = serve(**kind)
    scores = run(tmp_path, server)
    assert scores["engine"]["prefill"] == "not sent: the server cannot continue a turn"
    assert scores["engine"]["defaults_not_excluded"] == refused
    said = lines(tmp_path / "responses.jsonl")
    assert {line["text"] for line in said} == {WHOLE} and not any(line["valid"] for line in said)
    for body in asked(server):
        assert len(body["messages"]) == 1 and "continue_final_message" not in body
        assert ("top_k" in body) == ("top_k" not in refused and body["temperature"] > 0)


# ---------------------------------------------------------------- a server's generation config


DEFAULTS = [
    {"top_k": 1},
    {"top_p": 0.1},
    {"min_p": 0.9},
    {"temperature": 0.01},
    {"repetition_penalty": 1.5},
    {"presence_penalty": 2.0},
    {"frequency_penalty": 2.0},
]
OPEN = ("bench.samples=2", "bench.top_k=0", "bench.top_p=1.0")  # nothing is cut off


@pytest.fixture(scope="module")
def without_defaults(tmp_path_factory) -> dict[tuple[str, int], str]:
    """The answers of a server without a generation config: some are greedy (draw 0), some sampled."""
    server, out = FakeChat(), tmp_path_factory.mktemp("plain")
    server.says = server.colours
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        run(out, server, *OPEN)
    server.stop()
    return texts(out)


def texts(out: Path) -> dict[tuple[str, int], str]:
    return {(line["sample_id"], line["draw"]): line["text"] for line in lines(out / "responses.jsonl")}


@pytest.mark.slow
@pytest.mark.parametrize("defaults", DEFAULTS, ids=lambda defaults: next(iter(defaults)))
def test_a_generation_config_on_the_server_changes_no_answer(serve, tmp_path, defaults, without_defaults):
    server = serve(defaults=defaults)
    server.says = server.colours
    scores = run(tmp_path, server, *OPEN)
    assert texts(tmp_path) == without_defaults and scores["engine"]["defaults_not_excluded"] == []
    # the same requests without the field would have had other answers
    (name,) = defaults
    bare = [{key: body[key] for key in body.keys() - {name}} for body in asked(server)]
    assert [server.colours(body) for body in bare] != [server.colours(body) for body in asked(server)]


@pytest.mark.slow
def test_what_could_not_be_excluded_is_recorded_and_holds_for_the_whole_run(
    serve, tmp_path, without_defaults
):
    kind = {"strict": True, "fields": ("top_k",), "defaults": {"repetition_penalty": 1.5}}
    server = serve(**kind)
    server.says = server.colours
    scores = run(tmp_path, server, *OPEN)
    unknown = ["min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"]
    assert scores["engine"]["defaults_not_excluded"] == unknown
    assert texts(tmp_path) != without_defaults
    said = (tmp_path / "responses.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "responses.jsonl").write_text("".join(said[:-1]))
    with pytest.raises(UserError, match=r"defaults_not_excluded was min_p, .* but is empty with this server"):
        run(tmp_path, serve(), *OPEN, "resume=auto")
    again = serve(**kind)
    again.says = again.colours
    scores["engine"]["url"] = again.url
    assert run(tmp_path, again, *OPEN, "resume=auto") == scores and len(asked(again)) == 1


def test_a_lower_limit_of_the_server_is_named_once(serve, tmp_path, capsys):
    server = serve()
    server.play = lambda *_: Reply(
        stream({"content": "half"}, reason="length", usage={"completion_tokens": 7})
    )
    run(tmp_path, server)
    said = [line for line in capsys.readouterr().err.splitlines() if "after 7 tokens, although 60" in line]
    assert len(said) == 1


@pytest.mark.slow
def test_prefill_none_and_prefill_continue_are_followed(serve, tmp_path):
    scores = run(tmp_path / "none", serve(), "rollout.prefill=none")
    assert scores["engine"]["prefill"] == "not sent: by choice"
    cannot = serve(continues=False, strict=True)
    with pytest.raises(UserError, match=r"rollout\.prefill=continue: .* answered 422 \(Unexpected") as caught:
        run(tmp_path / "must", cannot, "rollout.prefill=continue")
    assert "\n" not in str(caught.value)
    assert run(tmp_path / "plain", serve(), "prompt.prefill_structured=''")["engine"]["prefill"] == "none"


@pytest.mark.slow
def test_resume_refuses_a_server_with_another_pre_fill_rule(serve, tmp_path):
    first = run(tmp_path, serve())
    assert json.loads((tmp_path / FILE).read_text()) == first["engine"]
    silent = serve()
    silent.play = lambda *_: refusal(500, "must not be asked")
    assert run(tmp_path, silent, "resume=auto") == first and not silent.asked
    (tmp_path / "responses.jsonl").write_text("")
    with pytest.raises(UserError, match="prefill was continued for the answers"):
        run(tmp_path, serve(continues=False), "resume=auto")
    earlier = {name: value for name, value in first["engine"].items() if name != "defaults_not_excluded"}
    (tmp_path / FILE).write_text(json.dumps(earlier))  # a version that did not send these fields
    with pytest.raises(UserError, match="defaults_not_excluded was not recorded for the answers"):
        run(tmp_path, serve(), "resume=auto")


# ---------------------------------------------------------------- reading replies


def stream(*deltas: dict, reason: str | None = "stop", usage: dict | None = None) -> bytes:
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if reason:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage})  # type: ignore[dict-item]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()


@given(st.data(), st.sampled_from(["reasoning_content", "reasoning"]))
def test_streamed_thoughts_are_put_back_in_their_place(data, name):
    deltas: list[dict] = [{"role": "assistant", "content": ""}]
    for thought, text in PARTS:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=3)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        deltas += [{name if thought else "content": piece, "tool_calls": None} for piece in pieces]
    said = StreamedReply.read(stream(*deltas))
    assert said.text("") == WHOLE and said.text("<description>") == f"<description>{WHOLE}" and said.finished


def test_a_think_tag_of_the_pre_fill_is_not_repeated():
    split = StreamedReply.read(stream({"reasoning_content": " so "}, {"content": " \\boxed{1}"}))
    whole = StreamedReply.read(stream({"content": " so </think> \\boxed{1}"}))
    assert split.text("<think>") == whole.text("<think>") == "<think> so </think> \\boxed{1}"


def test_a_reply_without_streaming_is_read():
    message = {"role": "assistant", "content": " \\boxed{1}", "reasoning_content": "so"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    reply = {"choices": [{"message": message, "finish_reason": "length"}], "usage": usage}
    said = StreamedReply.read(json.dumps(reply).encode())
    assert said.text("") == "<think>so</think> \\boxed{1}"
    assert (said.finished, said.tokens, said.prompt_tokens) == (False, 3, 5)


@pytest.mark.parametrize(
    "content",
    [
        stream({"content": "a"}, reason=None),
        b'data: {"choices": [{"del',
        b'data: {"error": "out of memory"}\n\n',
        b"<html>",
        b"[1]",
        b'{"choices": [1]}',
        b"",
    ],
)
def test_an_incomplete_reply_is_an_error(content):
    with pytest.raises(CutShort):
        StreamedReply.read(content)


# ---------------------------------------------------------------- errors of the server


@pytest.mark.slow
def test_temporary_errors_are_retried(serve, tmp_path):
    server = serve()
    replies = {
        3: refusal(429, "busy", retry_after="0.1"),
        4: HANG,
        5: Reply(stream({"content": "half"}), 200, {}, 30),
        6: Reply(stream({"content": "half"}, reason=None)),
        7: refusal(503, "starting"),
    }
    server.play = lambda path, body, number: replies.get(number)
    run(tmp_path, server, "rollout.timeout=4", "rollout.concurrency=2")
    assert {line["text"] for line in lines(tmp_path / "responses.jsonl")} == {f"<description>{WHOLE}"}
    assert server.most <= 2


@pytest.mark.slow
def test_a_lasting_error_stops_the_run_and_resume_sends_only_the_rest(serve, tmp_path):
    chunks = ("bench.batch=1", "bench.samples=2", "limit=4", "bench.tasks.priorworld.rows=2", "resume=auto")
    whole = serve()
    run(tmp_path / "whole", whole, *chunks)
    seeds = {(str(body["messages"][0]), body["temperature"], body["seed"]) for body in asked(whole)}
    assert len({(body["seed"], body["temperature"]) for body in asked(whole)}) == len(asked(whole)) == 12
    server = serve()
    server.play = lambda path, body, number: refusal(500, "dead") if number > 8 else None
    with pytest.raises(UserError, match=r"answered 500 \(dead\); the run stops; resume=auto") as caught:
        run(tmp_path / "cut", server, *chunks)
    assert "\n" not in str(caught.value) and not (tmp_path / "cut" / "scores.json").exists()
    there = lines(tmp_path / "cut" / "responses.jsonl")
    assert 0 < len(there) < 12
    server.play = lambda *_: None
    server.asked.clear()
    run(tmp_path / "cut", server, *chunks)
    one, two = (lines(tmp_path / name / "responses.jsonl") for name in ("cut", "whole"))
    assert sorted(one, key=str) == sorted(two, key=str)  # written in the order of arrival
    assert len(asked(server)) == 12 - len(there)
    for body in asked(server):
        assert (str(body["messages"][0]), body["temperature"], body["seed"]) in seeds


@pytest.mark.slow
def test_answers_are_saved_before_an_error_stops_the_run(serve, tmp_path):
    server = serve()
    server.play = lambda path, body, number: refusal(500, "dead") if number > 10 else None
    with pytest.raises(UserError, match="resume=auto"):
        run(tmp_path, server, "bench.batch=64", "limit=6", "bench.samples=2", "rollout.concurrency=1")
    answered = [body for _, body in server.asked[:10] if body["max_tokens"] > 1]
    assert len(lines(tmp_path / "responses.jsonl")) == len(answered) > 3


def test_a_refused_request_is_reported_and_retried_on_resume(serve, tmp_path, capsys):
    server, refused = serve(), []

    def play(path, body, number):
        if body["max_tokens"] > 1 and not refused:
            refused.append(body)
        return refusal(400, "context length exceeded") if body in refused else None

    server.play = play
    scores = run(tmp_path, server, "bench.samples=0", "rollout.concurrency=1", "resume=auto")
    made = lines(tmp_path / "responses.jsonl")
    (line,) = [one for one in made if one["refused"]]
    assert len(made) == 3 and scores["unparsed"] == pytest.approx(1 / 3) and scores["refused"] == 1
    assert f"item {line['sample_id']}: the server answered 400 (context length" in capsys.readouterr().err
    verdict = next(v for v in lines(tmp_path / "verdicts.jsonl") if v["id"] == line["sample_id"])
    assert (verdict["verdict"], verdict["rule"]) == ("unparsed", "missing") and "400" in verdict["reason"]
    server.play = lambda *_: None
    scores = run(tmp_path, server, "bench.samples=0", "rollout.concurrency=1", "resume=auto")
    assert not any(one["refused"] for one in lines(tmp_path / "responses.jsonl"))
    assert len(lines(tmp_path / "responses.jsonl")) == 3 and scores["unparsed"] == 0
    assert "refused" not in scores


def test_repeated_refusals_stop_the_run(serve, tmp_path):
    server = serve()
    server.play = lambda path, body, number: refusal(400, "no") if body["max_tokens"] > 1 else None
    with pytest.raises(UserError, match=r"answered 400 \(no\); the run stops"):
        run(tmp_path, server, "bench.samples=5", "rollout.concurrency=1")


def test_a_stream_can_contain_unicode_line_separators():
    content = (
        stream({"content": "a\u2028b\x85c"}).decode().replace("\\u2028", "\u2028").replace("\\u0085", "\x85")
    )
    assert StreamedReply.read(content.encode()).text("") == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "it needs a key, see rollout.key_env"),
        (403, r"answered 403 \(no\): it forbids this request, or it needs a key, see rollout.key_env"),
        (404, "does it have NAME"),
        (400, "no"),
    ],
)
def test_a_refusal_is_one_line(serve, tmp_path, status, says):
    server = serve()
    server.play = lambda *_: refusal(status, "no")
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path, server, "rollout.model=NAME")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "models", "says"),
    [
        ("The model `NAMED` does not exist.", ["NAME"], r"rollout.model \(it has only NAME\)"),
        (
            'model "NAMED" not found, try pulling it first',
            ["else", "owner/NAME"],
            r"rollout.model \(the nearest is owner/NAME, of: owner/NAME, else\)",
        ),
        ("The model `NAMED` does not exist.", [], "rollout.model to a name that the server has"),
    ],
)
def test_a_wrong_model_name_is_answered_with_the_right_ones(serve, tmp_path, said, models, says):
    server = serve()
    server.models = models
    server.play = lambda path, *_: refusal(404, said) if path.endswith("/completions") else None
    with pytest.raises(UserError, match=f"has no model NAMED: set {says}"):
        run(tmp_path, server, "rollout.model=NAMED")


@pytest.mark.parametrize(
    "listing", [refusal(404, "Not Found"), Reply(b"[]"), Reply(b'{"data": [1]}'), Reply(b"<html>"), HANG]
)
def test_without_a_list_of_models_no_name_is_proposed(serve, monkeypatch, listing):
    monkeypatch.setattr(patient, "LISTING", 0.1)
    server, missing = serve(), refusal(404, "The model `NAMED` does not exist.")
    server.play = lambda path, *_: listing if path.endswith("/models") else missing

    async def ask() -> None:
        async with patient.Server("rollout", RolloutConfig(url=server.url), None) as client:
            await client.ask("/chat/completions", {"model": "NAMED"}, read=bytes)

    with pytest.raises(patient.NoModel, match=r"no model NAMED: set rollout\.model to a name"):
        asyncio.run(ask())


def test_an_unreachable_server_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(patient, "FIRST_WAIT", 0.01)
    with pytest.raises(UserError, match=r"^rollout: no server answers at http://127\.0\.0\.1:9/v1"):
        run(tmp_path, "http://127.0.0.1:9/v1")


# ---------------------------------------------------------------- settings


def test_no_weights_are_loaded_and_the_key_is_never_written(serve, tmp_path, monkeypatch, capsys):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(pretrained, "fetch", never)
    monkeypatch.setenv("SERVER_KEY", KEY)
    server = serve()
    run(tmp_path, server, "rollout.key_env=SERVER_KEY", "rollout.model=NAME")
    assert server.keys == {f"Bearer {KEY}"} and {body["model"] for body in asked(server)} == {"NAME"}
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY not in path.read_text()
    assert KEY not in "".join(capsys.readouterr())


@pytest.mark.parametrize("form", ["think", "plain"], ids=["now", "an earlier version"])
def test_only_the_prompt_of_an_adapter_is_used(form, serve, tmp_path):
    server, folder = serve(), tmp_path / "adapter"
    with pytest.raises(UserError, match="no such folder"):
        run(tmp_path / "a", server, f"adapter.path={folder}")
    folder.mkdir()
    prompt = asdict(job("eval", ["out=unused"]).prompt)
    del prompt["think"], prompt["prefill_think"]
    prompt |= {form: "Say it: {question}", f"prefill_{form}": "<think>"}
    told = {"student": form, "prompt": prompt}
    (folder / "vigos.json").write_text(json.dumps(told))
    config = job("eval", [*FEW, f"out={tmp_path / 'b'}", "rollout=openai", f"rollout.url={server.url}"])
    config.adapter.path = str(folder)
    evaluate(config)  # type: ignore[arg-type]
    for body in asked(server):
        assert body["messages"][0]["content"][1]["text"].startswith("Say it: ")
        assert body["messages"][1]["content"] == "<think>"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "overrides", "says"),
    [
        ("distill", (), "vigos distill needs token ids.*rollout=vllm"),
        ("ablate", (), "needs token ids"),
        ("rollout", (), "vigos rollout needs token ids"),
        ("eval", ("diagnostic=description_only",), "needs token ids"),
        ("eval", ("routing=two_pass",), "needs token ids"),
        ("eval", ("rollout.url=localhost:8000",), r"rollout\.url must have the form"),
        ("eval", ("rollout.key_env=sk-1",), r"rollout\.key_env must be the name of an environment variable"),
        ("eval", ("rollout.prefill=yes",), "one of auto, continue, none"),
        ("eval", ("rollout.concurrency=0",), r"rollout\.concurrency=0"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(command, overrides, says):
    with pytest.raises(ConfigError, match=says) as caught:
        job(command, ["rollout=openai", "out=unused", *overrides])
    assert "\n" not in str(caught.value)


def test_a_dry_run_needs_sampling_in_process():
    with pytest.raises(ConfigError, match="rollout=hf"):
        job("distill", ["rollout=vllm", "trainer.dry_run=true", "out=unused"])


# ---------------------------------------------------------------- transformers serve


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("fastapi") and find_spec("uvicorn") and find_spec("openai")),
    reason="transformers serve needs pip install 'transformers[serving]'",
)
def test_transformers_serve_gives_the_students_answers(tmp_path, monkeypatch):
    """The server cannot continue a turn, so the template of a copied model adds the pre-fill."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    folder = tmp_path / "opened"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    template = (folder / "chat_template.jinja").read_text()
    head, turn, tail = template.rpartition("<|im_start|>assistant\n")
    (folder / "chat_template.jinja").write_text(f"{head}{turn}<description>{tail}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", "--host", "127.0.0.1"]
    log = (tmp_path / "serve.log").open("w")
    process = subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu"],
        stdout=log,
        stderr=log,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            assert process.poll() is None, (tmp_path / "serve.log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        greedy = ("bench.samples=0", "rollout.concurrency=1")
        opened = run(tmp_path / "served", f"{url}/v1", f"rollout.model={folder}", *greedy)
        here = evaluate(job("eval", [*FEW, "bench.samples=0", f"out={tmp_path / 'hf'}"]))["priorworld"]  # type: ignore[arg-type]
        said = lines(tmp_path / "served" / "responses.jsonl")
        for line, own in zip(said, lines(tmp_path / "hf" / "responses.jsonl"), strict=True):
            assert {**line, "tokens": 0} == {**own, "tokens": 0}
        assert opened.pop("engine") == {
            "name": "openai",
            "url": f"{url}/v1",
            "model": str(folder),
            "prefill": "not sent: the server cannot continue a turn",
            "defaults_not_excluded": ["top_k", "min_p", "repetition_penalty"],
        }
        assert json.dumps(opened) == json.dumps(here)
        # Without the pre-fill the tiny model does not write <description>, so the format is invalid.
        run(tmp_path / "plain", f"{url}/v1", f"rollout.model={TINY}", *greedy)
        plain = lines(tmp_path / "plain" / "responses.jsonl")
        assert len(plain) == 3 and not any(line["valid"] for line in plain)
    finally:
        process.terminate()
        process.wait(30)
        log.close()
