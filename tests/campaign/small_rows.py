"""A small data set with pictures in a folder of their own."""

from __future__ import annotations

import json
from pathlib import Path

from vigos_cli.data.priorworld import PriorWorld


def write_rows(folder: Path, rows: int) -> Path:
    """Write data.jsonl and pictures/, and return the path of the former."""
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for number, sample in enumerate(PriorWorld(size=rows)[i] for i in range(rows)):
        sample.images[0].save(folder / "pictures" / f"{number}.png")
        row = {
            "id": number,
            "image": f"pictures/{number}.png",
            "question": sample.question,
            "answer": sample.answer,
        }
        lines.append(json.dumps(row))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "data.jsonl"
