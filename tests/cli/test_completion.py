"""Shell completion: the candidates, and the protocol of each shell."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vigos_cli
from vigos_cli.cli.completion import complete

SOURCE = str(Path(vigos_cli.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}


def values(command: str, word: str, **environ: str) -> list[str]:
    return [value for value, _ in complete(command, word, environ)]


def test_completion_of_groups_options_keys_and_values():
    assert "model=" in values("distill", "") and "seed=" in values("distill", "")
    assert values("distill", "model=q")[0] == "model=qwen25vl_3b"
    assert "model=tiny" not in values("distill", "model=q")
    assert values("distill", "trainer.l") == ["trainer.lr=", "trainer.lr=VALUE"]
    assert values("distill", "trainer.schedule=c") == ["trainer.schedule=cosine", "trainer.schedule=constant"]
    assert values("distill", "trainer.gradient_checkpointing=t") == ["trainer.gradient_checkpointing=true"]
    assert values("distill", "loss=jsd,rev") == ["loss=jsd,reverse_kl"]
    assert "+experiment=prior" in values("distill", "+experiment=p")
    assert values("ablate", "+arm=jsd_0.1") == ["+arm=jsd_0.1"]
    assert "+experiment=" in values("distill", "+")
    assert {"trainer=", "trainer.lr="} <= set(values("distill", "trainer"))
    assert values("eval", "trainer.l") == [] and values("eval", "loss=") == []
    assert values("distill", "routing.student.format=th") == ["routing.student.format=think"]
    assert values("distill", "routing.student.f")[0] == "routing.student.format="
    assert "routing.supervise.reasoning=" in values("distill", "routing.")
    notes = dict(complete("distill", "routing.student.f", {}))
    assert notes["routing.student.format="].startswith("structured")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model", "=", "qwen2vl_"], ["qwen2vl_7b"]),
        (["model", "="], None),
        (["seed", "=", "1", "trainer.schedule", "=", "li"], ["linear"]),
        (["model=qwen2vl_"], ["model=qwen2vl_7b"]),  # if COMP_WORDBREAKS has no `=`
        (["loss", "=", "jsd,re"], ["jsd,reverse_kl"]),
    ],
)
def test_bash_splits_words_at_the_equals_sign(words, expected):
    line = ["vigos", "distill", *words]
    environ = {
        "_VIGOS_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    found = values("distill", "" if words[-1] == "=" else words[-1], **environ)
    assert found == expected if expected else "tiny" in found


@pytest.mark.parametrize(
    ("shell", "extra"),
    [
        ("zsh", {}),
        ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_completion_through_the_protocol_of_other_shells(shell, extra):
    environ = {
        **ENVIRONMENT,
        **extra,
        "_VIGOS_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "vigos distill seed=1 model=qwen2vl_",
    }
    done = subprocess.run([sys.executable, "-m", "vigos_cli"], env=environ, capture_output=True, text=True)
    assert "model=qwen2vl_7b" in done.stdout and "tiny" not in done.stdout


def _read(terminal: int, until: bytes, seconds: float = 120) -> bytes:
    text, end = b"", time.monotonic() + seconds
    while until not in text and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            text += os.read(terminal, 4096).replace(b"\x07", b"")  # remove the bell
    return text


@pytest.mark.slow
def test_completion_in_a_real_bash(tmp_path):
    script = tmp_path / "vigos"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m vigos_cli "$@"\n')
    script.chmod(0o755)
    process, terminal = pty.fork()
    if process == 0:
        environ = {
            **ENVIRONMENT,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "TERM": "dumb",
            "COLUMNS": "200",
        }
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environ)
    try:
        os.write(terminal, b'eval "$(_VIGOS_COMPLETE=source_bash vigos)"; PS1="RE""ADY> "\n')
        assert b"READY> " in _read(terminal, b"READY> ")
        for typed, expected in ((b"model=qwen2vl_", b"model=qwen2vl_7b "), (b"trainer.l", b"trainer.lr=")):
            os.write(terminal, b"vigos distill " + typed + b"\t")
            assert expected in _read(terminal, expected)
            os.write(terminal, b"\x15")  # readline: delete the line
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
