"""Local HTTP servers for the tests of engines; a test can make them refuse, hang or reply wrongly."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from conftest import distill_config, make_student, with_effect
from PIL import Image

from vigos_cli.config.paths import TINY
from vigos_cli.config.routing_group import STUDENT
from vigos_cli.data.priorworld import PriorWorld
from vigos_cli.generation.sampler import Request, Sampling, SamplingJob, roll_out
from vigos_cli.method.prompts import Prompter
from vigos_cli.models.student import Student
from vigos_cli.types import Prompt


@dataclass
class Reply:
    content: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None  # close the connection after this many bytes


HANG = Reply(b"", -1)


def refusal(status: int, said: str, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": said}}).encode()
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.reply({})

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def reply(self, body: dict[str, Any]) -> None:
        server = self.server
        with server.lock:
            server.asked.append((self.path, body))
            server.keys.add(self.headers.get("authorization"))
            number = len(server.asked)
            server.open += 1
            server.most = max(server.most, server.open)
        reply = server.play(self.path, body, number) or server.answer(self.path, body)
        with server.lock:
            server.open -= 1
        if reply is HANG:
            server.over.wait(30)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"content-length": str(len(reply.content)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.content[: reply.sent])
        self.close_connection = reply.sent is not None

    def log_message(self, format: str, *args: Any) -> None: ...


class Loopback(ThreadingHTTPServer):
    """`play` can answer instead of the server; if it returns None, the server answers."""

    daemon_threads, block_on_close = True, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.over = threading.RLock(), threading.Event()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str | None] = set()
        self.open = self.most = 0
        self.play: Callable[[str, dict[str, Any], int], Reply | None] = lambda *_: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        raise NotImplementedError


# ---------------------------------------------------------------- vLLM


class FakeVllm(Loopback):
    """The routes of vLLM that vigos uses, written after its sources, with the tiny model in this process.

    `scale_out`: started with --enable-scale-out. `content_parts`: the generate route takes pictures, as vLLM
    0.32 does; an older server ignores the field, and its engine ends if a slot has no image.
    `traps` are errors that a server can make without a message: `slots` (another number of slots for a
    picture), `ids` (reads another prompt), `more` (reads extra tokens), `other` (expands a picture to as many
    other tokens), `ignores` (loads an adapter but does not use it), `part` (uses only a part of it),
    `weights` (another model), `near` (a model that is only a little different), `slot_drawn` (samples an
    image slot), `cached` (does not return image features).
    """

    def __init__(self, name: str = str(TINY)) -> None:
        super().__init__()
        self.base: Student = make_student()
        self.models: dict[str, Student] = {name: self.base}
        self.loaded: list[str] = []
        self.traps: set[str] = set()
        self.scale_out = self.content_parts = True

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        with self.lock:  # the requests share one torch model
            match path:
                case "/v1/load_lora_adapter":
                    return self.load(body["lora_name"], body["lora_path"])
                case "/v1/unload_lora_adapter":
                    return self.unload(body["lora_name"])
                case "/v1/models":
                    return as_json({"object": "list", "data": [{"id": name} for name in self.models]})
                case "/v1/chat/completions/render" | "/inference/v1/generate" if not self.scale_out:
                    return refusal(
                        403,
                        "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to "
                        "enable them.",
                    )
                case "/inference/v1/generate" if wrong := self.wrong_fields(body):
                    return refusal(400, wrong)
            if body["model"] not in self.models:
                served = next(iter(self.models))
                return refusal(404, f"The model `{body['model']}` does not exist. Valid aliases: {served}.")
            match path:
                case "/v1/chat/completions/render":
                    return as_json(self.render(body))
                case "/inference/v1/generate":
                    return as_json(self.generate(body))
        return Reply(b'{"detail": "Not Found"}', 404)

    def wrong_fields(self, body: dict[str, Any]) -> str:
        """The message about a field with a wrong value; empty if there is none."""
        if not self.content_parts or isinstance(body.get("content_parts"), list | None):
            return ""
        return (
            "1 validation error:\n  {'type': 'list_type', 'loc': 'body.content_parts', 'msg': 'Input should "
            "be a valid list', 'input': '0'}"
        )

    def load(self, name: str, path: str) -> Reply:
        if name in self.loaded:
            return refusal(400, f"The lora adapter '{name}' has already been loaded.")
        if not (Path(path) / "adapter_config.json").is_file():
            return refusal(404, f"Loading lora {name} failed: No adapter found for {path}")
        student = make_student(f"adapter.path={path}")
        if self.traps & {"ignores", "part"}:
            for key, p in student.adapter.items():
                if "lora_B" in key:
                    p.data.mul_(0 if "ignores" in self.traps else 0.3)
        self.models[name] = student
        self.loaded.append(name)
        return Reply(f"Success: LoRA adapter '{name}' added successfully.".encode())

    def unload(self, name: str) -> Reply:
        if self.models.pop(name, None) is None:
            return refusal(404, f"The lora adapter '{name}' cannot be found.")
        return Reply(f"Success: LoRA adapter '{name}' removed successfully.".encode())

    def processed(self, urls: list[str], text: str) -> dict[str, Any]:
        """What the server's processor makes of pictures and a text with a slot for each."""
        images = [Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) for url in urls]
        if "slots" in self.traps:
            images = [image.resize((image.width * 3, image.height)) for image in images]
        return self.base.processor(text=[text], images=[images], return_tensors="pt")

    def render(self, body: dict[str, Any]) -> dict[str, Any]:
        (turn,) = body["messages"]
        urls = [part["image_url"]["url"] for part in turn["content"] if part["type"] == "image_url"]
        text = self.base.processor.apply_chat_template(
            [{"role": "user", "content": [*[{"type": "image"}] * len(urls), turn["content"][-1]]}],
            add_generation_prompt=True,
        )
        inputs = self.processed(urls, text)
        ids = inputs["input_ids"][0].tolist()
        slot = self.base.base.config.image_token_id
        places, kwargs = [], []
        starts = [i for i, token in enumerate(ids) if token == slot and ids[i - 1] != slot]
        rows = inputs["image_grid_thw"].prod(-1).tolist()
        for i, start in enumerate(starts):
            length = next(n for n in range(1, len(ids)) if ids[start + n] != slot)
            places.append({"offset": start, "length": length})
            part = inputs["pixel_values"][sum(rows[:i]) : sum(rows[: i + 1])]
            file = io.BytesIO()
            torch.save((part, inputs["image_grid_thw"][i : i + 1]), file)
            kwargs.append(None if "cached" in self.traps else base64.b64encode(file.getvalue()).decode())
        features = {
            "mm_hashes": {"image": [str(i) for i in range(len(places))]},
            "mm_placeholders": {"image": places},
            "kwargs_data": {"image": kwargs},
        }
        return {"request_id": "r", "token_ids": ids, "features": features, "sampling_params": {}}

    def expanded(self, ids: list[int], parts: list[dict[str, Any]]) -> tuple[list[int], dict[str, Any]]:
        """The ids with all slots of the pictures in `parts`, and what the processor made of these."""
        slot = self.base.base.config.image_token_id
        assert ids.count(slot) == len(parts)
        pad = self.base.tokenizer.decode([slot])
        inputs = self.processed([part["url"] for part in parts], pad * len(parts))
        merge = self.base.processor.image_processor.merge_size**2
        lengths = iter((inputs["image_grid_thw"].prod(-1) // merge).tolist())
        whole = [token for one in ids for token in ([one] * next(lengths) if one == slot else [one])]
        if "other" in self.traps:
            whole[-1] += 1
        return whole, inputs

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        ids, params, features = body["token_ids"], body["sampling_params"], body.get("features")
        student, tensors, slot = self.models[body["model"]], {}, self.base.base.config.image_token_id
        if self.content_parts and body.get("content_parts"):
            ids, inputs = self.expanded(ids, body["content_parts"])
            tensors = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
        elif features:
            for place in features["mm_placeholders"]["image"]:
                assert {*ids[place["offset"] : place["offset"] + place["length"]]} == {slot}
            parts = [
                torch.load(io.BytesIO(base64.b64decode(item))) for item in features["kwargs_data"]["image"]
            ]
            pixels, grids = zip(*parts, strict=True)
            tensors = {"pixel_values": torch.cat(pixels), "image_grid_thw": torch.cat(grids)}
        assert bool(tensors) == (slot in ids), "the engine of a real server ends here"
        kinds = [int(token == slot) for token in ids]
        prompt = Prompt(STUDENT, tuple(ids), (), tensors, tuple(kinds))
        greedy = params["temperature"] == 0
        sampling = Sampling(
            params["max_tokens"],
            params["temperature"],
            1.0 if greedy else params["top_p"],
            0 if greedy else max(0, params["top_k"]),
        )
        wanted, key = "logprobs" in params, (params.get("seed"),)
        job = SamplingJob([Request("", prompt)], sampling, key, batch=1, log_probs=wanted)
        (rollout,) = roll_out(student, job)
        sampled = list(rollout.ids)
        if "slot_drawn" in self.traps:
            sampled[0] = self.base.base.config.image_token_id
        choice = {
            "index": 0,
            "token_ids": sampled,
            "finish_reason": "stop" if rollout.finished else "length",
        }
        if "logprobs" in params:
            choice["logprobs"] = {"content": logprobs_of(rollout.ids, rollout.log_p)}
        read = len(ids) + ("more" in self.traps)
        reply = {"choices": [choice], "usage": {"prompt_tokens": read}, "prompt_logprobs": None}
        if self.content_parts and body.get("return_token_ids"):
            reply["prompt_token_ids"] = ids
        if params.get("prompt_logprobs") is not None:
            reply["prompt_logprobs"] = self.prompt_logprobs(student, prompt)
        return reply

    @torch.no_grad()
    def prompt_logprobs(self, student: Student, prompt: Prompt) -> list[dict[str, Any] | None]:
        hidden = student.hidden(student.batch([prompt.ids], [prompt]))[0]
        logits = (hidden @ student.head_VH.T).float()
        if "weights" in self.traps:
            logits = logits.roll(1, -1)
        if "near" in self.traps:
            noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
            logits = logits + 0.2 * noise
        rows: list[dict[str, Any] | None] = [None]
        for token, row in zip(prompt.ids[1:], logits[:-1].log_softmax(-1), strict=True):
            shown = {token + ("ids" in self.traps): row[token], int(row.argmax()): row.max()}
            rows.append(
                {
                    str(i): {"logprob": float(value), "rank": 1, "decoded_token": ""}
                    for i, value in shown.items()
                }
            )
        return rows


def logprobs_of(ids: Sequence[int], log_p: Sequence[float]) -> list[dict[str, Any]]:
    entries = [
        {"token_id": token, "logprob": value, "rank": 1} for token, value in zip(ids, log_p, strict=True)
    ]
    return [{**entry, "top_logprobs": [entry]} for entry in entries]


def as_json(reply: dict[str, Any]) -> Reply:
    return Reply(json.dumps(reply).encode())


def priorworld_requests(student: Student, count: int, draws: int = 1) -> list[Request]:
    """Requests for the first samples of PriorWorld, `draws` of each."""
    config = distill_config()
    prompter = Prompter(student.processor, config.prompt, config.routing)
    made = []
    for sample_ in (PriorWorld(size=8)[i] for i in range(count)):
        images = prompter.encode(sample_.images)
        prompt = prompter.render(STUDENT, images, question=sample_.question)
        made += [Request(sample_.id, prompt, draw) for draw in range(draws)]
    return made


def save_adapter(folder: Path) -> Path:
    """An adapter whose answers differ from those of the base."""
    student = with_effect(make_student("seed=1"), 0.1)
    student.net.save_pretrained(str(folder))
    return folder
