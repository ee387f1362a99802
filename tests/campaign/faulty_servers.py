"""Local servers that answer well or with one fault, which a file names; each runs in a process of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import warm

MEANT = ("/chat/completions", "/inference/v1/generate")  # the routes whose answers are faulty
HUGE = 1 << 30  # bytes
NAN = float("nan")


def choice_of(reply: dict[str, Any]) -> dict[str, Any]:
    """The only completion of a reply."""
    return reply["choices"][0]


def changed_ids(change: Callable[[list[Any]], list[Any]]) -> Callable[[dict[str, Any]], None]:
    """A change of the sampled ids; the log-probabilities stay those of the true ones."""

    def apply(reply: dict[str, Any]) -> None:
        choice_of(reply)["token_ids"] = change(choice_of(reply)["token_ids"])
        choice_of(reply).pop("logprobs", None)

    return apply


def nan_log_probs(reply: dict[str, Any]) -> None:
    """Log-probabilities that are no numbers."""
    for entry in (choice_of(reply).get("logprobs") or {}).get("content") or ():
        entry["logprob"] = NAN


def other_prompt(reply: dict[str, Any]) -> None:
    """The answer to a prompt that is a token longer."""
    reply["usage"]["prompt_tokens"] += 1


# Changes of a right answer, and answers that take its place.
CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "log-probabilities that are NaN": nan_log_probs,
    "token ids outside the vocabulary": changed_ids(lambda ids: [10**9, *ids[1:]]),
    "negative token ids": changed_ids(lambda ids: [-1, *ids[1:]]),
    "words in place of token ids": changed_ids(lambda ids: ["cat", *ids[1:]]),
    "more tokens than were asked for": changed_ids(lambda ids: ids[:1] * 100_000),
    "the answer to another prompt": other_prompt,
}
BODIES: dict[str, bytes] = {
    "HTML": b"<html><body>Welcome to the hotel's network. Please log in.</body></html>",
    "JSON of another shape": b'{"hello": [1, {"a": null}]}',
    "a JSON list": b"[]",
    "no choices": b'{"choices": null, "usage": {"prompt_tokens": 1}}',
    "choices that are words": b'{"choices": ["a"]}',
    "nested JSON": b'{"choices":' + b"[" * 100_000,
    "an empty body": b"",
    "binary data": bytes(range(256)) * 4,
}
CONNECTIONS = (
    "no answer", "one byte a second", "the connection closed in the middle", "500", "429",
    "a stream without an end", "a body of 1 GB",
)  # fmt: skip


def serve(kind: str, place: str) -> None:
    """Code of a process: serve until the process is killed; the folder `place` gets the address."""
    import loopback
    from chat_loopback import FakeChat

    folder = Path(place)
    parts = [(False, "a cup. </description> <think> It is red. </think> \\boxed{red}")]

    class Faulty(loopback.Handler):
        """Answers well, unless the file `fault` names a fault and says after how many answers."""

        def reply(self, body: dict[str, Any]) -> None:
            file = folder / "fault"
            fault, after = json.loads(file.read_text()) if file.exists() else ("", 0)
            with self.server.lock:
                meant = (
                    self.path.endswith(MEANT) and body.get("content_parts", True) != 0
                )  # 0: what it can do
                number = served[0] = served[0] + bool(meant)
            if not fault or not meant or number <= after:
                return super().reply(body)
            (folder / "met").touch()
            if fault in CHANGES:
                reply = json.loads(self.server.answer(self.path, body).content)
                CHANGES[fault](reply)
                return self.send(json.dumps(reply).encode())
            if fault in BODIES:
                return self.send(BODIES[fault])
            self.close_connection = True
            with suppress(OSError):  # the client has closed the connection
                self.badly(fault, body)

        def send(self, content: bytes, status: int = 200, length: int | None = None) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        def badly(self, fault: str, body: dict[str, Any]) -> None:
            whole = b"" if fault == "no answer" else self.server.answer(self.path, body).content
            match fault:
                case "no answer":
                    time.sleep(600)
                case "one byte a second":
                    self.send(b"", length=len(whole))
                    for one in whole:
                        self.wfile.write(bytes([one]))
                        time.sleep(1)
                case "the connection closed in the middle":
                    self.send(whole[: len(whole) // 2], length=len(whole))
                case "500" | "429":
                    self.send(b'{"error": {"message": "out of order"}}', int(fault))
                case "a stream without an end":
                    self.send(b"", length=1 << 50)
                    event = b'data: {"choices": [{"index": 0, "delta": {"content": "ha "}}]}\n\n' * 1000
                    while True:
                        self.wfile.write(event)
                case "a body of 1 GB":
                    self.send(b"", length=HUGE)
                    for _ in range(HUGE >> 20):
                        self.wfile.write(b" " * (1 << 20))

    served = [0]
    server: Any = loopback.FakeVllm() if kind == "vllm" else FakeChat()
    server.RequestHandlerClass = Faulty
    if kind == "openai":
        server.says = lambda body: parts
    if kind == "judge":
        content = json.dumps({"score": 1})
        message = {"choices": [{"index": 0, "message": {"content": content}, "finish_reason": "stop"}]}
        server.answer = lambda path, body: loopback.Reply(json.dumps(message).encode())
    draft = folder / "draft"
    draft.write_text(server.url)
    draft.rename(folder / "address")
    server.serve_forever(0.05)


class FaultyServer:
    """A server in a process of its own, as a context manager; `break_it` and `mend` change its answers."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder = kind, folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> FaultyServer:
        self.process = warm.start(serve, self.kind, str(self.folder))
        until = time.monotonic() + 120
        while not (self.folder / "address").exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start: {self.process.printed(1)[-500:]}")
            time.sleep(0.02)
        self.url = (self.folder / "address").read_text()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(30)

    def break_it(self, fault: str, after: int) -> None:
        """From now on answer with this fault, after `after` good answers."""
        (self.folder / "fault").write_text(json.dumps((fault, after)))

    @property
    def met(self) -> bool:
        """Whether the fault was ever shown."""
        return (self.folder / "met").exists()

    def mend(self) -> None:
        """Answer well again."""
        (self.folder / "fault").unlink()
