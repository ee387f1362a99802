"""Give the hostile answers of one kind to everything that reads an answer, and print what became of them.

    python -m campaign.hostile_paths KIND SEED FOLDER     # one JSON object on stdout; see `main`

It runs in a process of its own, whose processor time and memory are those of the texts. A call may take one
second of processor time,
that of the grading worker included. A worker that was ended is started again between
two calls, because its start is no part of a text's time.
"""

from __future__ import annotations

import csv
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import bench_fixtures as rows
from PIL import Image

from campaign.hostile_grammar import Hostile, texts
from vigos_cli.evaluation import registry
from vigos_cli.evaluation.benchmarks.priorworld_scoring import priorworld_verdict
from vigos_cli.evaluation.draw_figures import draw_figures
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.judge_prompt import Case, messages, parse_score
from vigos_cli.evaluation.leakage import leakage
from vigos_cli.evaluation.saved_responses import saved_responses
from vigos_cli.grading import grade
from vigos_cli.grading.extract import extract, framed
from vigos_cli.grading.grade import KINDS, SHARED
from vigos_cli.grading.response_verdicts import by_word
from vigos_cli.grading.worker import SECONDS
from vigos_cli.method.segments import last_box, parse, runs, unbox
from vigos_cli.reporting.markdown import markdown_table
from vigos_cli.types import Response, Sample, Verdict
from vigos_cli.utils.files import write_lines

LIMIT = 1.0  # seconds of processor time of a call
GROWTH = 120  # MB that the process may grow from the first third of the texts to the end
SHARES = {"costly formulas": 0.06, "deep brackets": 0.5, "texts of 100,000 characters": 0.3}  # of the calls
ALWAYS = ("grade", "parser")  # the calls that every text of these kinds makes too
OPTIONS = ("17", "42", "8", "99")
GOLDS = ("x^2-1", "[2014, 2016]", "red")
FIXTURES = {
    "mathvista": rows.MATHVISTA, "mmmu": rows.MMMU, "mmmu_pro": rows.MMMU_PRO, "mathverse": rows.MATHVERSE,
    "mmvet": rows.MMVET, "mmsi": rows.MMSI,
    "realworldqa": rows.REALWORLDQA, "cvbench": rows.CVBENCH, "vilp_f": rows.VILP,
    "hallusion": rows.HALLUSION, "mathvision": rows.MATHVISION, "plain": rows.PLAIN,
}  # fmt: skip
Path_ = Callable[[str], object]


def own_rules() -> Iterator[tuple[str, Path_]]:
    """Our graders with the reference 42, for which a wrong "right" can be told."""
    yield "grade", lambda text: grade("42", text)
    for kind in KINDS:
        choices = OPTIONS if kind == "letter" else ()
        gold = "B" if kind == "letter" else "42"
        yield f"grade {kind}", lambda text, g=gold, k=kind, c=choices: grade(g, text, kind=k, choices=c)
    yield "grade options", lambda text: grade("42", text, choices=OPTIONS)
    yield "grade decimals", lambda text: grade("42", text, precision=1, unit="cm")
    wanted = (
        ("mathvista", rows.mathvista("1", "free_form", "integer", answer="42")),
        ("mathvista", rows.mathvista("1", choices=list(OPTIONS), answer="42")),
        ("mmmu", rows.mmmu("validation_Math_3", "<image 1> How many?", "[]", "42", "red")),
        (
            "mmmu_pro",
            rows.mmmu("test_History_1", "<image 1> How many?", str(list(OPTIONS)), "B", "red", subject="x"),
        ),
        ("plain", {"problem": "How many?", "answer": "42", "id": "1", "image": Image.new("RGB", (4, 4))}),
    )
    for name, row in wanted:
        bench = registry.get(name)
        (sample,) = bench.samples([row])
        yield f"{name} 42", lambda text, b=bench, s=sample: b.grade(s, text)


def other_paths() -> Iterator[tuple[str, Path_]]:
    """The parser, the extraction, other references, every benchmark by both rules, and the judge's prompt."""
    yield "parser", parsed
    yield "extraction", lambda text: (extract(text), framed(text), last_box(text), unbox(text))
    for gold in GOLDS:
        yield f"grade {gold}", lambda text, g=gold: grade(g, text)
    yield "grade itself", lambda text: grade(text[:3_000], text)
    yield "yes or no", lambda text: by_word(text, "yes", ("yes", "no"))
    for name, given in FIXTURES.items():
        bench = registry.get(name)
        for sample in list(bench.samples(given))[:2]:
            for scorer in ("ours", "official") if bench.official else ("ours",):
                yield (
                    f"{name} {scorer} {sample.id}",
                    lambda text, b=bench, s=sample, r=scorer: b.grade(s, text, r),
                )
    yield "judge", judged
    yield "priorworld", lambda text: priorworld_verdict(Sample("1", "?", "42", ()), response(text, 0))


def parsed(text: str) -> None:
    """Parse the turn in both forms by both rules, as tokens of three characters each."""
    ends = [*range(3, len(text), 3), len(text)] if text else []
    for student in ("structured", "think"):
        for spans in ("paper", "code"):
            found = parse(text, ends, 0, True, student=student, spans=spans)
            assert len(found.kinds) == len(ends), "a token without a kind"
            assert "".join(piece for piece, _ in runs(text, student=student, spans=spans)) == text


def judged(text: str) -> None:
    """The judge's request is JSON, no text can leave its place in it, as a reply it is a score or none."""
    sent = messages(Case(text, (text, "42"), text))
    json.dumps(sent, allow_nan=False).encode()
    user = str(sent[1]["content"])
    fence = user.split("\n")[0].removeprefix("BEGIN QUESTION ")
    assert user.count(fence) == 6 and fence not in text, "the fence of the judge's prompt"
    assert parse_score(text, True) is None or 0 <= (parse_score(text, True) or 0) <= 1


def response(text: str, draw: int) -> Response:
    """The text as a response of a model."""
    segments = parse(text, [len(text)] if text else [], 0, True)
    return Response("1", draw, text, segments.description, segments.answer, segments.valid, True, 1)


def worker_seconds() -> dict[int, float]:
    """The processor time of each grading worker that runs."""
    found = {}
    for worker in SHARED.workers:
        if worker.process and worker.process.poll() is None:
            stat = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
            found[worker.process.pid] = (int(stat[11]) + int(stat[12])) / 100
    return found


def resident() -> float:
    """Megabytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def saved_and_loaded(own: list[Hostile], folder: Path) -> Iterator[str]:
    """Faults of files: responses.jsonl, other JSON lines, CSV sheets, Markdown tables, figures of draws."""
    said = [response(one.text, draw) for draw, one in enumerate(own)]
    for name, lines in (
        ("responses.jsonl", [asdict(one) for one in said]),
        ("other.jsonl", [{"id": "1", "responses": [one.text for one in said]}]),
    ):
        write_lines(folder / name, lines)
        if saved_responses(folder / name, "id").texts["1"] != [one.text for one in said]:
            yield f"{name} does not hold the same texts"
    with (folder / "sheet.csv").open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prediction"])
        writer.writerows([i, one.text] for i, one in enumerate(own))
    loaded = saved_responses(folder / "sheet.csv", "id").texts
    wanted = {str(i): [one.text.encode("utf-8", "replace").decode() or None] for i, one in enumerate(own)}
    differ = [
        i for i, text in loaded.items() if (text[0] or "").count("\ufffd") == 0 and text != wanted.get(i)
    ]
    if len(loaded) != len(own) or differ:
        yield f"sheet.csv: {len(loaded)} of {len(own)} rows, other texts in {differ[:3]}"
    table = markdown_table(("text",), [(one.text,) for one in own]).split("\n")
    if len(table) != len(own) + 2:
        yield f"a Markdown table of {len(own)} rows has {len(table)} lines"
    graded = [
        Graded(Sample("1", "?", "42", ()), d, Verdict("wrong", one.text[:2_000], "x", "x"), response=one.text)
        for d, one in enumerate(own)
    ]
    draw_figures(graded)
    leakage([Sample("1", "?", "42", ()), Sample("2", "?", "17", ())], said)


def main(kind: str, seed: int, folder: Path) -> None:
    """Print the number of calls, the verdicts of `grade`, the slowest call, the growth, and all faults."""
    mark = folder / "evaluated"
    own, counting = list(texts(seed, kind, mark)), dict(own_rules())
    everything = {**counting, **dict(other_paths())}
    rng = random.Random(f"{seed} {kind} calls")
    faults, verdicts, slowest, calls, ended, first = [], Counter[str](), (0.0, 0.0, ""), 0, 0, 0.0
    for number, one in enumerate(own):
        if number == len(own) // 3:
            first = resident()
        for name, path in everything.items():
            if name not in ALWAYS and rng.random() > SHARES.get(kind, 1):
                continue  # a formula that ends a worker costs the start of another one in each call
            if not worker_seconds():
                SHARED.equal("x^2", "x*x")  # starts a worker
            before, began, clock = worker_seconds(), time.process_time(), time.monotonic()
            shown = f"{name}, text {number}: {one.text[:60]!r}"
            try:
                found = path(one.text)
            except Exception as error:
                faults.append(f"{shown}: {type(error).__name__}: {str(error)[:80]}")
                continue
            seconds, wall = time.process_time() - began, time.monotonic() - clock
            after = worker_seconds()
            gone = before.keys() - after.keys()
            ended += len(gone)
            seconds += SECONDS * len(gone) + sum(
                after[pid] - before[pid] for pid in after.keys() & before.keys()
            )
            slowest, calls = max(slowest, (seconds, wall, shown)), calls + 1
            if seconds > LIMIT:
                faults.append(f"{shown}: {seconds:.2f} s of processor time")
                print(faults[-1], file=sys.stderr)
            if name == "grade" and isinstance(found, Verdict):
                verdicts[found.verdict] += 1
            if name in counting and one.not_42 and isinstance(found, Verdict) and found.verdict == "right":
                faults.append(f"{shown}: a wrong right by {found.rule}, {found.extracted!r}"[:300])
    grown = resident() - first
    if grown > GROWTH:
        faults.append(f"the process has grown by {grown:.0f} MB")
    faults += saved_and_loaded(own, folder)
    if mark.exists():
        faults.append("code of an answer was evaluated")
    report = {"texts": len(own), "calls": calls, "verdicts": verdicts, "slowest": slowest, "ended": ended}
    print(json.dumps({**report, "grown": grown, "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
