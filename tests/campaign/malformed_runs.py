"""`vigos distill` and `vigos eval` on files of which half the rows are malformed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from random import Random

import warm

from campaign.mistakes import GOOD, Row, write_folder
from campaign.odd_pictures import plain, saved
from campaign.row_mistakes import KINDS, cases
from campaign.trial import Outcome, Space, Trial

COMMANDS = "commands on half-malformed files"
ASKED = "How many cups are on table"  # how the question of every good row begins


def _mixed(seed: int, size: int) -> list[bytes]:
    """Rows of which half are malformed, in a random order."""
    rng, rows = Random(seed), []
    kinds = [kind for kind in KINDS if kind != "long texts"]
    for kind in kinds:
        for case in cases(seed + 1, kind, size // (2 * len(kinds)) + 1):
            try:
                rows.append(case.row if isinstance(case.row, bytes) else json.dumps(case.row).encode())
            except TypeError:
                continue
    bad = rng.sample(rows, min(len(rows), size // 2))
    good: list[Row] = [
        {**GOOD, "id": f"good-{i}", "question": f"{ASKED} {i}?", "images": [f"{i}.png"]}
        for i in range(size - len(bad))
    ]
    mixed = [*bad, *(json.dumps(row).encode() for row in good)]
    rng.shuffle(mixed)
    return [json.dumps({**GOOD, "id": "first"}).encode(), *(row for row in mixed if b"\n" not in row)]


def _write_mixed(folder: Path, seed: int) -> tuple[Path, int]:
    write_folder(folder)
    rows = _mixed(seed, 1000)
    for i in range(len(rows)):
        (folder / f"{i}.png").write_bytes(saved(plain(colour=(i % 256, i // 256, 99))))
    (folder / "rows.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    return folder / "rows.jsonl", len(rows)


def _distill(seed: int, space: Space) -> Outcome:
    path, size = _write_mixed(space.folder / "data", seed)
    arguments = [
        "distill",
        "data=jsonl",
        f"data.path={path}",
        "trainer.steps=2",
        "trainer.batch=8",
        "rollout.max_new_tokens=16",
        "bench.tasks.holdout.rows=8",
        "bench.max_new_tokens=16",
        "bench.samples=0",
        "model.max_prompt=2000",
        f"out={space.folder / 'run'}",
    ]
    done = warm.run(warm.vigos, arguments, cwd=space.folder, timeout=400)
    summary = space.folder / "run" / "summary.json"
    report = json.loads(summary.read_text())["data"] if summary.exists() else {}
    said = next((line for line in (done.stdout + done.stderr).splitlines() if "cannot be used" in line), "")
    right = (
        done.returncode == 0 and bool(said) and "Traceback" not in done.stderr and report.get("rows") == size
    )
    faults = report.get("faults", {})
    came = f"two steps; {said}: {', '.join(f'{rule} {n}' for rule, n in faults.items())}"
    last = (done.stderr.strip().splitlines() or [""])[-1][:300]
    did = f"vigos distill on {size} rows, half of them malformed"
    return Outcome(
        right, "training", did, came if right else f"exit code {done.returncode}: {last} {said}", size
    )


def _items(path: Path) -> list[bytes]:
    """The rows as items: each has an id of its own, and rows with other pictures are left out."""
    lines = []
    for number, line in enumerate(path.read_bytes().splitlines()):
        row = _row_of(line)
        images = row.get("images") if row else None
        name = images[0] if isinstance(images, list) and len(images) == 1 else ""
        if row is None:
            lines.append(line)
        elif isinstance(name, str) and (name == "red.png" or name.removesuffix(".png").isdigit()):
            lines.append(json.dumps({**row, "id": f"item-{number}"}).encode())
    return lines


def _eval(seed: int, space: Space) -> Outcome:
    """Rows with bad texts are left out and counted; a row with a bad picture is refused with one line."""
    path, _ = _write_mixed(space.folder / "data", seed)
    lines = _items(path)
    cut = json.dumps({**GOOD, "id": "z", "images": ["odd/cut-50.png"]}).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    command = ["eval", "bench=plain", f"bench.path={path}", "bench.samples=0", "bench.max_new_tokens=4"]
    command += ["bench.batch=32", "model.max_prompt=2000"]
    done = warm.run(warm.vigos, [*command, f"out={space.folder / 'eval'}"], cwd=space.folder, timeout=500)
    scores, verdicts = (space.folder / "eval" / name for name in ("scores.json", "verdicts.jsonl"))
    found = json.loads(scores.read_text()) if scores.exists() else {}
    asked = {json.loads(line)["id"] for line in verdicts.read_text().splitlines()} if found else set()
    good = {row["id"] for row in map(_row_of, lines) if row and str(row.get("question")).startswith(ASKED)}
    out = sum(found.get("left_out", {}).values())
    said = [line for line in done.stderr.splitlines() if "left out" in line or "were not asked" in line]
    whole = bool(found) and len(asked) + out == len(lines) and good <= asked and out > 0
    with path.open("ab") as file:
        file.write(cut + b"\n")
    again = [*command, "ids=[z]", f"out={space.folder / 'again'}"]
    refused = warm.run(warm.vigos, again, cwd=space.folder, timeout=300)
    one = [line for line in refused.stderr.strip().splitlines() if line.startswith("vigos:")]
    right = done.returncode == 0 and whole and refused.returncode == 1 and len(one) == 1
    right = right and "Traceback" not in done.stderr + refused.stderr
    came = f"{'; '.join(said)}; {(one or [''])[0].replace(str(space.folder), 'OUT')}"
    last = (done.stderr.strip().splitlines() or [""])[-1][:300]
    did = f"vigos eval bench=plain on {len(lines)} rows, and on a row with a cut picture"
    came = came if right else f"exit code {done.returncode}: {last}; {came}"
    return Outcome(right, "evaluation", did, came, len(lines) + 1)


def _row_of(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def trials(seed: int) -> list[Trial]:
    """One run of each command."""
    return [
        Trial("distill on malformed rows", COMMANDS, partial(_distill, seed)),
        Trial("eval on malformed rows", COMMANDS, partial(_eval, seed)),
    ]
