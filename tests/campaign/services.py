"""Trials with servers that hang, break off or answer nonsense, and are well again later."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import warm

from campaign import small_runs
from campaign.faulty_servers import BODIES, CHANGES, CONNECTIONS, FaultyServer
from campaign.trial import Outcome, Space, Trial

GROUP = "servers that hang or answer nonsense"
BOUND = 90.0  # seconds after which a command must have ended; patience is 6
ROOM = 700 << 10  # kilobytes of memory more than a run with a good server needs, at most
SHORT, LONG = (3, 6), (100, 110)  # timeout and patience for a bad server, and for a good one
ITEMS = [{"id": str(i), "problem": f"Number {i}?", "answer": str(i)} for i in range(6)]
SAID = ["It is 0.", "7", "two or so", "3", "5", "It is 5."]


def measured(arguments: Sequence[str], file: str) -> None:
    """Code of a process: `vigos`, and its largest memory in kilobytes written to a file at the end."""
    try:
        warm.vigos(arguments)
    finally:
        Path(file).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def arguments_of(
    kind: str, command: str, out: Path, url: str, folder: Path, seconds: tuple[int, int]
) -> list[str]:
    """A small command that asks the server."""
    if kind == "judge":
        for name, lines in (
            ("items", ITEMS),
            ("said", [{"id": str(i), "response": text} for i, text in enumerate(SAID)]),
        ):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        own = [
            "eval",
            "bench=plain",
            f"bench.path={folder / 'items.jsonl'}",
            f"responses={folder / 'said.jsonl'}",
        ]
        own += [
            "judge=openai",
            "judge.model=m",
            f"judge.url={url}",
            "judge.key_env=null",
            "judge.concurrency=1",
        ]
        return [*own, f"out={out}", f"judge.timeout={seconds[0]}", f"judge.patience={seconds[1]}"]
    own = [f"rollout={kind}", f"rollout.url={url}", "rollout.concurrency=2"]
    if kind == "openai":
        own.append("rollout.model=NAME")
    own += [f"rollout.timeout={seconds[0]}", f"rollout.patience={seconds[1]}"]
    return small_runs.command(command, out, *own)


def good(space: Space, kind: str, command: str) -> tuple[Path, int]:
    """The folder of the command with a good server, and the largest memory of its process."""
    made = space.shared / f"{command}-{kind}"
    with small_runs.lock_of(str(made)):
        if not (made / "complete").exists():
            shutil.rmtree(made, ignore_errors=True)
            with FaultyServer(kind, made / "server") as server:
                arguments = arguments_of(kind, command, made / "run", server.url, made, LONG)
                warm.run(measured, arguments, str(made / "memory"), check=True, timeout=small_runs.LIMIT)
            (made / "complete").touch()
    return made / "run", int((made / "memory").read_text())


def bad_server(kind: str, command: str, fault: str) -> Trial:
    """A command whose server shows a fault from some answer on."""

    def run(space: Space) -> Outcome:
        expected, usual = good(space, kind, command)
        after = space.rng.randrange(0, 5)
        moment, did = f"{command}, {kind}", f"{fault}, after {after} good answers"
        out, memory = space.folder / "run", space.folder / "memory"
        with FaultyServer(kind, space.folder / "server") as server:
            server.break_it(fault, after)
            where = (kind, command, out, server.url, space.folder)
            arguments = arguments_of(*where, SHORT if fault in CONNECTIONS else LONG)
            began = time.monotonic()
            done = warm.run(measured, arguments, str(memory), timeout=small_runs.LIMIT)
            seconds = time.monotonic() - began
            (space.folder / "stderr").write_text(done.stderr)
            more = int(memory.read_text()) - usual
            if not server.met:
                return Outcome(False, moment, did, "the fault was not met")
            partial = [line for line in done.stderr.splitlines() if "resume=auto asks again" in line]
            if done.returncode == 0 and not partial:  # a fault that is of no importance here
                wrong = small_runs.difference(out, expected)
                return Outcome(not wrong, moment, did, wrong or "the same bytes")
            said = partial or small_runs.lines_of(done)  # a judge leaves out what it could not score
            wrong = "" if partial else small_runs.complaint(done)
            if not wrong and seconds > BOUND:
                wrong = f"it took {seconds:.0f} s"
            if not wrong and more > ROOM:
                wrong = f"it took {more >> 10} MB more memory than usual"
            if not wrong:
                kept = answers_in(out)
                server.mend()
                again = warm.run(
                    warm.vigos, [*arguments_of(*where, LONG), "resume=auto"], timeout=small_runs.LIMIT
                )
                (space.folder / "stderr").write_text(done.stderr + again.stderr)
                wrong = f"with a good server: {again.stderr[-300:]}" if again.returncode else ""
                wrong = wrong or small_runs.difference(out, expected)
                if not wrong and not kept <= answers_in(out):
                    wrong = "answers were lost"
        came = wrong or f"{said[0]}. With a good server: the same bytes"
        came = came.replace(server.url, "URL")
        return Outcome(not wrong, moment, did, small_runs.short(came, space.folder))

    return Trial(f"server {kind} {command} {fault}", GROUP, run)


def answers_in(out: Path) -> set[str]:
    """The lines that an evaluation has written as soon as it had them."""
    return {
        line for name in ("responses.jsonl", "judge.jsonl") if (out / name).exists()
        for line in (out / name).read_text().splitlines()
    }  # fmt: skip


def trials(seed: int) -> list[Trial]:
    """Every fault, for sampling with token ids, for sampling texts and for a judge."""
    general = (*CONNECTIONS, *BODIES)
    return [
        *(bad_server("vllm", "eval", fault) for fault in (*general, *CHANGES)),
        *(bad_server("vllm", "distill", fault) for fault in ("no answer", "500", "HTML", *CHANGES)),
        *(bad_server("vllm", "rollout", fault) for fault in ("no answer", *CHANGES)),
        *(bad_server("openai", "eval", fault) for fault in general),
        *(bad_server("judge", "eval", fault) for fault in general),
    ]
