"""Verdicts of a judge that are known: a JSON-lines file that only grows, a line a verdict.

    {"key": "<sha256>", "score": 0.5, "model": "...", "prompt": "<version>"}

The key is a hash of all that a verdict depends on: the judge and its options, its instructions, the question,
the gold answers and the response. So runs may share a file, and a file may hold several judges.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from vigos_cli.config.schema import JudgeConfig
from vigos_cli.evaluation.judge_words import Case


class Known:
    """The file's verdicts by key; no file, no verdicts."""

    def __init__(self, path: Path):
        self._path = path
        self._scores: dict[str, float] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.split("\n"):
            try:
                found = json.loads(line)
                key, score = found["key"], found["score"]
            except (ValueError, KeyError, TypeError):
                continue  # a line that a kill cut short: that one is asked again
            if isinstance(key, str) and isinstance(score, int | float) and 0 <= score <= 1:
                self._scores[key] = float(score)
        self._torn = bool(text) and not text.endswith("\n")

    def get(self, key: str) -> float | None:
        """The score, None when it is not known."""
        return self._scores.get(key)

    def add(self, key: str, score: float, model: str, prompt: str) -> None:
        """Keep a verdict; it is on disk when this returns."""
        line = json.dumps({"key": key, "score": score, "model": model, "prompt": prompt})
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._torn + line + "\n")
        self._torn, self._scores[key] = False, score


def key_of(case: Case, config: JudgeConfig) -> str:
    """A hash of the judge, its instructions and the case."""
    judge = [config.model, config.options, case.words]
    content = [*judge, case.question, case.golds, case.response]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
