"""A program that takes the place of `vllm` in the tests of `rollout.serve=true`; it needs no torch.

    rollout.serve_command=[PYTHON,tests/fake_vllm.py,WAYS]      WAYS: words joined by +

    plain       answers /health; passes all other requests on to the address in $BEHIND, a loopback.FakeVllm
    dies        ends before it is ready
    dies_on_2nd ends when a second adapter is loaded
    hangs       gets a request and does not answer
    never       never becomes ready
    stubborn    it and its child ignore SIGTERM
    apart       its child is in a session of its own

It starts a child, as vLLM does, and prints both process numbers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLEEPER = "import signal, time; {}time.sleep(600)"
IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
WAYS = set(sys.argv[1].split("+"))
loaded: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/health" and "never" not in WAYS else 503, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if "hangs" in WAYS:
            time.sleep(600)
        if self.path.endswith("/load_lora_adapter"):
            loaded.append(self.path)
            if "dies_on_2nd" in WAYS and len(loaded) > 1:
                print("torch.AcceleratorError: CUDA error: an illegal memory access", flush=True)
                os._exit(9)
        behind = HTTPConnection(urlsplit(os.environ["BEHIND"]).netloc)
        behind.request("POST", self.path, body, {"content-type": "application/json"})
        reply = behind.getresponse()
        self.answer(reply.status, reply.read())

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


def main() -> None:
    arguments = sys.argv[2:]
    assert arguments[0] == "serve"
    port = int(arguments[arguments.index("--port") + 1])
    print(json.dumps(arguments), flush=True)
    print("INFO: loading \x1b[32mweights\x1b[0m", flush=True)
    if "dies" in WAYS:
        print("ValueError: [/red] no such model", flush=True)
        sys.exit(3)
    stubborn = IGNORE if "stubborn" in WAYS else ""
    exec(stubborn)
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", SLEEPER.format(stubborn)], start_new_session="apart" in WAYS
    )
    if not stubborn:
        signal.signal(signal.SIGTERM, lambda *_: (child.terminate(), os._exit(0)))
    time.sleep(0.2)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"PIDS {os.getpid()} {child.pid}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
