"""Run the real commands on hostile texts, in a pseudo-terminal, and keep what they print and write.

    runs = all_runs(space, seed)            # made once for the whole campaign
    runs["eval"].printed, runs["eval"].out  # the bytes on the terminal, and the folder

The texts stand in ids, questions, references, options, groups, responses, labels and names of files.
"""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import shutil
import struct
import termios
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bench_fixtures
import sweeps
import warm
from PIL import Image

from campaign.hostile_grammar import KINDS, Hostile, texts
from vigos_cli.evaluation.row_parsing import text_field

SHOWN = 10  # texts of each kind that the pages and the terminal are given
LIMIT = 240  # seconds of one command
NAME = "\x1b]0;taken\x07 [red]\u202e <b> | =1"  # in the names of folders and files
LABEL = "=1+1|$\\frac{$\x1b[38;5;213m[red]<script>\u202eabc `x` [y](http://evil.example) שלום"
LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Run:
    """One command: its arguments, exit code, the bytes on the terminal, and its folder."""

    arguments: Sequence[str]
    code: int
    printed: bytes
    out: Path


class Counter(BaseHTTPRequestHandler):
    """Counts requests; a page that asks for anything would be seen here."""

    asked: list[str] = []  # noqa: RUF012 - one list for all requests

    def do_GET(self) -> None:
        """Note the request and answer with nothing."""
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@cache
def counting_server() -> ThreadingHTTPServer:
    """A server on this machine whose address stands in the hostile texts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def address() -> str:
    """The address of that server."""
    return f"http://127.0.0.1:{counting_server().server_address[1]}"


def in_terminal(arguments: Sequence[str], folder: Path, out: Path) -> Run:
    """Run `vigos` in a pseudo-terminal of 160 columns, and end it after LIMIT seconds at the latest."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    printed = bytearray()

    def read() -> None:
        while True:
            try:
                printed.extend(part := os.read(master, 65536))
            except OSError:  # the last process has closed the terminal
                return
            if not part:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    device = Path(os.ttyname(slave))
    environment = {**os.environ, "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1"}
    outputs = device, device
    process = warm.start(
        warm.vigos, list(arguments), env=environment, cwd=folder, outputs=outputs, own_session=True
    )
    try:
        code = process.wait(LIMIT)
    finally:
        process.kill()
        os.close(slave)
    reader.join(5)
    os.close(master)
    return Run(arguments, code, bytes(printed), out)


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON lines in ASCII, so that every text can be written."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def picture(number: int) -> str:
    """A small picture as base64."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (number * 37 % 256, number * 91 % 256, 120)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def chosen(seed: int, each: int) -> list[Hostile]:
    """The first texts of every kind."""
    found = [list(texts(seed, kind, url=address()))[:each] for kind in KINDS]
    return [one for several in zip(*found, strict=True) for one in several]


def of_a_row(text: str) -> str:
    """The text without halves of surrogate pairs: a row with one is left out, a response may have them."""
    return text.encode("utf-8", "replace").decode()


def eval_files(folder: Path, seed: int) -> None:
    """Rows and responses of `bench=plain` and `bench=mathvista`, of another run, and two broken files."""
    own = chosen(seed, SHOWN)
    rows, saved, other, mathvista = [], [], [], []
    for number, one in enumerate(own):
        near = own[(number * 7 + 3) % len(own)].text
        asked, beside = of_a_row(one.text), of_a_row(near)
        id = text_field({"id": f"{number} {beside[:300]}!"}, "id")
        answer = beside[:2_000] if near.strip() and number % 3 == 0 else "42"
        rows.append({"id": id, "problem": f"How many? {asked}", "answer": answer})
        if number % 5 == 0:
            rows[-1]["options"], rows[-1]["answer"] = ["42", beside[:200] or "x", "17"], "A"
        saved.append({"id": id, "responses": [one.text, near]})
        other.append({"id": id, "responses": [near, one.text]})
        given = bench_fixtures.mathvista(
            f"m{number}", "free_form", "text", answer="42", question=asked or "?"
        )
        named = of_a_row(f"{number % 9} {own[(number % 9) * 5].text}")
        given["metadata"] = {
            **given["metadata"],
            "task": named,
            "category": named[::-1],
            "source": named[:20],
        }
        mathvista.append({name: value for name, value in given.items() if "image" not in name})
    write_lines(folder / "rows.jsonl", rows)
    write_lines(folder / "mathvista.jsonl", mathvista)
    said = [{"id": row["pid"], "response": one.text} for row, one in zip(mathvista, own, strict=True)]
    write_lines(folder / "mathvista-said.jsonl", said)
    write_lines(folder / f"said {NAME}.jsonl".replace("/", ""), saved)
    write_lines(folder / "other.jsonl", other)
    write_lines(
        folder / "twice.jsonl", [saved[0], {"id": LABEL, "response": "x"}, {"id": LABEL, "response": "y"}]
    )
    write_lines(folder / "unknown.jsonl", [{"id": LABEL, "response": "x"}])
    rows = [
        {
            "id": of_a_row(f"{i} {one.text[:100]}!"),
            "question": of_a_row(f"{one.text[:400]} ?"),
            "answer": LABEL if i % 2 else "42",
            "images": [picture(i)],
        }
        for i, one in enumerate(chosen(seed, 2))
    ]
    write_lines(folder / "asked.jsonl", rows)


def write_sweep(folder: Path, seed: int) -> Path:
    """A finished sweep of two arms whose labels, answers and errors are hostile."""
    sweep = folder / "sweep"
    cells = []
    for cell, shares in sweeps.pair(seeds=(1, 2)):
        config = replace(cell.config, label=f"{LABEL} {cell.config.routing.name}")
        cells.append((replace(cell, config=config), shares))
    sweeps.make(sweep, cells)
    hostile = [one.text for one in chosen(seed, 6)]
    for path in sorted(sweep.glob("*/responses.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for number, line in enumerate(lines):
            line["text"] = hostile[number % len(hostile)]
            line["answer"] = line["answer"] if number % 2 else line["text"][:200]
        write_lines(path, lines)
    return sweep


def commands(folder: Path) -> dict[str, list[str]]:
    """The arguments of every command, by the name of its run; `out` is the folder with that name."""
    said = f"responses={folder}/said {NAME}.jsonl"
    plain = ["eval", "bench=plain", f"bench.path={folder}/rows.jsonl"]
    grouped = [f"bench.path={folder}/mathvista.jsonl", f"responses={folder}/mathvista-said.jsonl"]
    small = ["rollout.max_new_tokens=24", "bench.max_new_tokens=24"]
    return {
        "eval": [*plain, said],
        "eval of the other run": [*plain, f"responses={folder}/other.jsonl"],
        "eval with groups": ["eval", "bench=mathvista", *grouped],
        "eval of a model": [*plain[:2], f"bench.path={folder}/asked.jsonl", "bench.samples=1", small[1]],
        "eval with an id twice": [*plain, f"responses={folder}/twice.jsonl"],
        "eval with unknown ids": [*plain, f"responses={folder}/unknown.jsonl"],
        "eval with no such file": [*plain, f"responses='{folder}/{LABEL}'"],
        "compare": ["eval", f"compare=['{folder}/eval','{folder}/eval of the other run']"],
        "rollout": ["rollout", "data=jsonl", f"data.path={folder}/asked.jsonl", "limit=24", small[0]],
        "ablate": ["ablate", "routing=vigos,sft", "seed=1,2", "bench.samples=1", sweeps.ROWS, "workers=1"],
        "an unknown option": ["eval", f"bench={LABEL.split('|')[1]}"],
        "an unknown key": ["eval", f"{LABEL.split('|')[1]}=3"],
        "an unknown command": [LABEL],
        "an unknown flag": ["eval", f"--{LABEL}"],
    }  # fmt: skip


def all_runs(shared: Path, seed: int) -> dict[str, Run]:
    """All runs; made by the first trial that asks, in the folder that all groups share."""
    with LOCK:
        return _all_runs(shared, seed)


@cache
def _all_runs(shared: Path, seed: int) -> dict[str, Run]:
    folder = shared / f"hostile-{seed}"
    shutil.rmtree(folder, ignore_errors=True)  # of a campaign that was stopped
    folder.mkdir(parents=True)
    eval_files(folder, seed)
    write_sweep(folder, seed)
    found = {}
    for name, arguments in commands(folder).items():
        out = folder / ("sweep" if name == "ablate" else name)
        found[name] = in_terminal(
            [*arguments, *([f"out={out}"] if arguments[0] in ("eval", "rollout", "ablate") else [])],
            folder,
            out,
        )
    return found
