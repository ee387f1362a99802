"""Check that two commits behave the same: run the same commands with both, and compare the files written.

    python tests/tools/same_behaviour.py COMMIT COMMIT [MATHVISTA.jsonl MMMU.jsonl]

The files are published outputs with official verdicts, for the tables of agreement. Times, versions and paths
are ignored. Each commit is checked out into a temporary folder; the packages are those of this interpreter.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SMALL = ("bench.tasks.priorworld.rows=2", "bench.samples=0")
LEARN = ("distill", "seed=1", "trainer.steps=5", *SMALL)
COMMANDS: dict[str, tuple[str, ...]] = {
    **{f"distill {name}": (*LEARN, f"routing={name}") for name in ("vigos", "opsd", "sft")},
    "distill qlora": ("distill", "seed=1", "trainer.steps=1", "trainer.batch=4", "adapter=qlora", *SMALL),
    "eval": ("eval", "bench.samples=1", "limit=40"),
    "rollout": ("rollout", "limit=3", "looking=true"),
    "ablate": ("ablate", "routing=vigos,opsd", "seed=1", "trainer.steps=1", "trainer.batch=4", *SMALL),
}
AGREEMENT = ("vigos_cli.grading.agreement", "tests/tools/official_agreement.py")  # old and new place


def adapter(out: Path) -> bytes:
    """The trained weights."""
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def lines(file: str) -> Callable[[Path], bytes]:
    """A JSON-lines file without times."""

    def read(out: Path) -> bytes:
        rows = [json.loads(line) for line in (out / file).read_text().splitlines()]
        return json.dumps([{k: v for k, v in row.items() if k != "seconds"} for row in rows]).encode()

    return read


def whole(file: str) -> Callable[[Path], bytes]:
    """A file as it is."""
    return lambda out: (out / file).read_bytes()


LEFT: dict[str, tuple[Callable[[Path], bytes], ...]] = {
    "distill": (adapter, lines("before.jsonl"), lines("responses.jsonl")),
    "eval": (lines("verdicts.jsonl"), lines("responses.jsonl")),
    "rollout": (lines("rollouts.jsonl"),),
    "ablate": (whole("arms.csv"),),
}


def outputs(commit: str, folder: Path, published: list[str]) -> dict[str, list[str]]:
    """The digests of the files that each command writes with a commit."""
    source = folder / "source"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(source), commit], check=True)
    environment = {**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}

    def run(*command: str) -> bytes:
        done = subprocess.run(command, cwd=source, env=environment, capture_output=True)
        if done.returncode:
            sys.exit(f"{commit}: {' '.join(command)}:\n{done.stderr.decode()[-2000:]}")
        return done.stdout

    found = {}
    try:
        for name, command in COMMANDS.items():
            out = folder / name.replace(" ", "-")
            run(sys.executable, "-m", "vigos_cli", *command, f"out={out}")
            found[name] = [hashlib.sha256(part(out)).hexdigest()[:16] for part in LEFT[command[0]]]
            print(f"{commit} {name}: {' '.join(found[name])}", flush=True)
        if published:
            module, script = AGREEMENT
            place = [str(source / script)] if (source / script).exists() else ["-m", module]
            found["agreement"] = [hashlib.sha256(run(sys.executable, *place, *published)).hexdigest()[:16]]
            print(f"{commit} agreement: {found['agreement'][0]}", flush=True)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(source)], check=True)
    return found


def main() -> None:
    """Compare two commits."""
    one, two, *published = sys.argv[1:]
    published = [str(Path(path).resolve()) for path in published]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        then, now = outputs(one, Path(first), published), outputs(two, Path(second), published)
    differ = [name for name in then if then[name] != now[name]]
    print(f"different: {', '.join(differ)}" if differ else f"all {len(then)} the same")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
