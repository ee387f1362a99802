r"""Trials: what the real commands print on a terminal when texts, names and labels are hostile.

The bytes of a pseudo-terminal are read. The escape sequences of rich's own tables and bars are a short list;
every other control character would be one of a text, and is a fault.
"""

from __future__ import annotations

import re
from functools import partial

from campaign.hostile_grammar import KINDS
from campaign.hostile_runs import SHOWN, Run, all_runs
from campaign.trial import Outcome, Space, Trial
from vigos_cli.utils.control_characters import visible

GROUP = "hostile texts on the terminal"
OWN = re.compile(  # what rich's tables and bars write: styles with few numbers, and the cursor of a bar
    r"\x1b\[(?:0|1|2|3|4|22|3[1-69]|9[0-7]|38;5;(?:197|237|70|249|250|106))?(?:;(?:1|2|3|3[1-69]|9[0-7]))*m"
    r"|\x1b\[(?:2K|1A|\?25[hl])|\r\n|\n|\r(?=\x1b\[(?:2K|1A))|\r(?=\x1b\[\?25)|\t"
)
LOOKED_FOR = {  # run -> exit code, and what was done
    "eval": (0, "saved responses, their ids, questions, references and the file's name"),
    "eval with groups": (0, "saved responses, and names of groups"),
    "eval of a model": (0, "ids, questions and references that a model is asked"),
    "eval with an id twice": (1, "an id that stands in a message"),
    "eval with unknown ids": (1, "an id that stands in a message"),
    "eval with no such file": (2, "the name of a file that stands in a message"),
    "compare": (0, "two runs on these texts compared"),
    "rollout": (0, "questions, references and ids of the rows that are shown"),
    "ablate": (0, "labels of arms in the table of a sweep"),
    "an unknown option": (2, "the name of an option that does not exist"),
    "an unknown key": (2, "the name of a key that does not exist"),
    "an unknown command": (2, "the name of a command that does not exist"),
    "an unknown flag": (2, "the name of a flag that does not exist"),
}


def trials(seed: int) -> list[Trial]:
    """One trial for each command."""
    return [Trial(f"terminal: {name}", GROUP, partial(printed, name=name, seed=seed)) for name in LOOKED_FOR]


def controls(printed: bytes) -> list[str]:
    """The control characters and sequences in the bytes that are not those of the tables and bars."""
    text = printed.decode("utf-8", "backslashreplace")
    rest = OWN.sub("", text)
    found = re.findall(r"\x1b.{0,12}|[\x00-\x08\x0b-\x1f\x7f-\x9f]", rest)
    hidden = {
        char
        for char in rest
        if char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029\ufeff"
    }
    return [ascii(one) for one in (*found, *sorted(hidden))]


def printed(space: Space, name: str, seed: int) -> Outcome:
    """Look at everything that one command has printed."""
    run: Run = all_runs(space.shared.parent, seed)[name]
    code, did = LOOKED_FOR[name]
    (space.folder / "terminal.bin").write_bytes(run.printed)
    cases = SHOWN * len(KINDS) if name.startswith("eval") and not code else 1
    moment = f"vigos {run.arguments[0] if name != 'an unknown command' else 'COMMAND'}: {name}"
    text = run.printed.decode("utf-8", "backslashreplace")
    if found := controls(run.printed):
        return Outcome(False, moment, did, f"{len(found)} control characters, such as {found[0]}", cases)
    if run.code != code or "Traceback" in text:
        return Outcome(False, moment, did, f"exit code {run.code}: {visible(text[-200:])}", cases)
    lines = [line for line in OWN.sub("\n", text).split("\n") if line.strip()]
    shown = f"exit code {code}; " + (visible(lines[-1].strip())[:90] if code else f"{len(lines)} lines")
    return Outcome(True, moment, did, f"{shown}; no control character of a text", cases)
