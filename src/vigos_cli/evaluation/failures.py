"""The HTML page of failures: greedy responses that are wrong or unparsed.

    failures = Failures("structured")
    failures.see(graded)                               # for every response; right ones are skipped
    failures.write(out / PAGE, "mathvista", config)

Only the first 100 of each kind are kept, so that the page of a large benchmark opens quickly.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from vigos_cli.config.schema import EvalRun
from vigos_cli.evaluation.graded import Graded
from vigos_cli.method.segments import runs
from vigos_cli.reporting.embedded_images import shrunk
from vigos_cli.reporting.rollouts_page import ShownRollout, ShownToken, counted, write_page
from vigos_cli.types import Kind

PAGE = "failures.html"
KEPT = 100  # number of wrong responses on the page, and of unparsed ones
WORDS = {"all": "failures", "format": "answer", "valid": "found", "invalid": "unparsed", "answer": "verdict"}


class Failures:
    """Collects failures one by one. `student` is the responses' format; None if they are saved ones."""

    def __init__(self, student: str | None):
        self.student = student
        self.shown: list[ShownRollout] = []
        self.counts: Counter[str] = Counter()

    def see(self, graded: Graded) -> None:
        """Count a greedy response, and keep it if it failed."""
        verdict, sample = graded.verdict, graded.sample
        if graded.draw > 0:
            return
        self.counts[verdict.verdict] += 1
        if verdict.verdict == "right" or self.counts[verdict.verdict] > KEPT:
            return
        text = graded.response or ""
        pieces = runs(text, student=self.student) if self.student else [(text, Kind.REASONING)]
        self.shown.append(
            ShownRollout(
                id=sample.id,
                draw=0,
                question=sample.question,
                reference=sample.answer,
                answer=verdict.extracted or "",
                valid=verdict.verdict != "unparsed",
                reason=f"{verdict.rule}: {verdict.reason}",
                correct=False,
                conflict=None if sample.prior is None else not sample.prior.agrees,
                images=tuple(shrunk(image) for image in sample.images),
                tokens=tuple(ShownToken(text, kind.value, None, None, None, None) for text, kind in pieces),
            )
        )

    def write(self, path: Path, bench: str, config: EvalRun) -> None:
        """Write the page."""
        served, model = config.rollout, config.model.path
        if served.name == "openai":
            model = f"{served.model or model} at {served.url}"
        facts = {
            "model": config.responses or model,
            "adapter": config.adapter.path or "none",
            "items": str(self.counts.total()),
            "right": str(self.counts["right"]),
            "wrong": counted(self.counts["wrong"], KEPT),
            "unparsed": counted(self.counts["unparsed"], KEPT),
        }
        write_page(path, self.shown, f"{bench}: responses that are not right", facts, WORDS)
