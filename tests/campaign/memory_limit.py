"""Trials with little memory: a limit of the address space, as `ulimit -v` sets it."""

from __future__ import annotations

from itertools import pairwise

import warm

from campaign import children, small_runs
from campaign.trial import Outcome, Space, Trial

GROUP = "little memory"
ROOM = (8, 24, 48, 80, 200)  # megabytes above what the process has mapped after the imports
ENOUGH = 48  # with fewer the interpreter, or a library in C, may end the process with a message of its own
COMMANDS = ("distill", "eval", "rollout")


def little_memory(name: str, least: int, most: int) -> Trial:
    """A command that may map only so many megabytes more."""

    def run(space: Space) -> Outcome:
        room = space.rng.randrange(least << 10, most << 10)
        out = space.folder / "run"
        limits = {"RLIMIT_AS": -(room << 10)}
        arguments = small_runs.command(name, out)
        done = warm.run(children.limited, arguments, limits, timeout=small_runs.LIMIT)
        (space.folder / "stderr").write_text(done.stderr)
        did = f"{room >> 10} MB more than after the start"
        if done.returncode == 0:
            wrong = small_runs.difference(out, small_runs.whole(space, name))
            return Outcome(not wrong, name, did, wrong or "it was enough")
        wrong, said = small_runs.complaint(done), small_runs.lines_of(done)
        last = done.stderr.strip().splitlines()[-1:]
        if wrong and least < ENOUGH and last and "memory" in last[0].lower():
            wrong, said = "", [f"a message of the interpreter or of a library: {last[0]}"]
        if not wrong and "memory" not in said[0].lower():
            wrong = f"not the reason: {said[0]}"
        if not wrong:
            again = warm.run(
                warm.vigos, small_runs.command(name, out, "resume=auto"), timeout=small_runs.LIMIT
            )
            wrong = again.stderr[-300:] if again.returncode else ""
            wrong = wrong or small_runs.difference(out, small_runs.whole(space, name))
        came = wrong or f"{said[0]}. With memory: the same bytes"
        return Outcome(not wrong, name, did, small_runs.short(came, out))

    return Trial(f"memory {name} {least}", GROUP, run)


def trials(seed: int) -> list[Trial]:
    """Each command with several amounts of memory."""
    return [little_memory(name, least, most) for name in COMMANDS for least, most in pairwise(ROOM)]
