"""Open pages in headless Chromium through its pipe, measure them, and take pictures of them.

with Browser(folder) as browser:
    page = browser.open(file)                      # waits for the event `load`
    page.value("document.title")                   # the value of an expression
    page.resize(390); page.picture(folder / "narrow.png")
"""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", "--hide-scrollbars",
)  # fmt: skip
PATIENCE = 120  # seconds for one answer of the browser


class Browser:
    """One process of Chromium with a profile of its own; it ends with the `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number, self.events, self.answers = 0, list[dict[str, Any]](), queue.Queue[dict[str, Any]]()

    def __enter__(self) -> Browser:
        theirs, self.writes = os.pipe()
        self.reads, their_out = os.pipe()
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={self.folder / 'profile'}", "about:blank"]
        placed = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{their_out}', "bash", *command]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            placed, pass_fds=(theirs, their_out), stdout=quiet, stderr=quiet, start_new_session=True
        )
        os.close(theirs)
        os.close(their_out)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with_group = -os.getpgid(self.process.pid) if self.process.poll() is None else 0
        if with_group:
            os.kill(with_group, 9)  # its renderers too
        self.process.wait()
        os.close(self.writes)

    def _read(self) -> None:
        rest = b""
        with os.fdopen(self.reads, "rb", buffering=0) as stream:
            while part := stream.read(1 << 20):
                *messages, rest = (rest + part).split(b"\0")
                for message in map(json.loads, messages):
                    (self.answers.put if "id" in message else self.events.append)(message)

    def send(self, method: str, session: str = "", **given: Any) -> dict[str, Any]:
        """The result of one command of the DevTools protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": given}
        os.write(
            self.writes, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        )
        while True:
            answer = self.answers.get(timeout=PATIENCE)
            if answer["id"] == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, path: Path, width: int = 1280) -> Page:
        """Open a file in a new tab and wait until it has loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable", session)
        page.resize(width)
        began = time.monotonic()
        self.send("Page.navigate", session, url=path.as_uri())
        while not page.seen("Page.loadEventFired"):
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"{path.name} has not loaded after {PATIENCE} s")
            time.sleep(0.01)
        page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.seconds = time.monotonic() - began
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session, self.seconds = browser, session, 0.0

    def seen(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of this kind."""
        events = list(self.browser.events)
        return [e["params"] for e in events if e.get("sessionId") == self.session and e["method"] == method]

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page; a promise is waited for."""
        given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = self.browser.send("Runtime.evaluate", self.session, **given)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression[:60]}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.send("Emulation.setDeviceMetricsOverride", self.session, **size)

    def picture(self, path: Path) -> None:
        """Save what the window shows as a PNG file."""
        path.write_bytes(base64.b64decode(self.browser.send("Page.captureScreenshot", self.session)["data"]))

    def requests(self) -> list[str]:
        """Addresses outside of the page that it has asked for."""
        asked = [event["request"]["url"] for event in self.seen("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith(("file:", "data:"))]

    def complaints(self) -> list[str]:
        """What the browser has reported: refused scripts and requests, and errors of the page's script."""
        logged = [event["entry"]["text"] for event in self.seen("Log.entryAdded")]
        thrown = [event["exceptionDetails"]["text"] for event in self.seen("Runtime.exceptionThrown")]
        return logged + thrown
