"""A judge model's scores of responses, the file that stores them, and their figures.

>>> judge = Judge(config.judge, folder)
>>> judge.scores(cases)
[1.0, 0.0, None]
>>> fill_in(judge, results)                              # the scores of all responses
>>> with_judge(config.judge.model, result)["judge"]
{'model': 'm', 'prompt': '3f0c..', 'n': 215, 'null': 3,
 'score': {'mean': 0.61, 'low': .., 'high': .., 'n': 215},
 'agreement': {'mean': 0.95, 'low': .., 'high': .., 'n': 215, 'both right': 125, 'only judge': 6, ..}}

Several requests are sent at the same time. If a case gets no score, its entry is None. None is not stored,
so the next run asks again. If the server refuses all requests, or too many cases in a row get no score, the
remaining cases are not sent, and one line says why. `n` is the number of responses with a score, `null` the
number of the others. For `agreement`, a response that the rules could not parse counts as wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import JudgeConfig
from vigos_cli.evaluation.figures import Figure, cluster, mean_figure
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.judge_prompt import Case, messages, parse_score, prompt_version
from vigos_cli.evaluation.result import Result
from vigos_cli.evaluation.row_parsing import labelled, paragraphs
from vigos_cli.utils.progress import Bar
from vigos_cli.utils.server import NoReply, NoServer, Server, key_from_environment

IN_A_ROW = 16  # cases in a row without a score after which no more are sent
_PAIRS = {(1, 1): "both right", (0, 1): "only judge", (1, 0): "only rules", (0, 0): "both wrong"}


class Judge:
    """A judge model with its key and the file of its known scores.

    Raises ConfigError if the key is missing, before any request is sent.
    """

    def __init__(self, config: JudgeConfig, folder: Path):
        self._config, self._key = config, key_from_environment("judge", config)
        self._path = folder / "judge.jsonl"

    def scores(self, cases: Sequence[Case | None]) -> list[float | None]:
        """A score from 0 to 1 for each case; None if there is no case, or if it got no score."""
        known = KnownScores(self._path)
        keys = [case and _key_of(case, self._config) for case in cases]
        todo = {
            key: case
            for key, case in zip(keys, cases, strict=True)
            if key and case and known.get(key) is None
        }
        if todo:
            _Round(self._config, self._key, known).run(todo)
        return [known.get(key) if key else None for key in keys]


class _Round:
    """One round of requests to the server."""

    def __init__(self, config: JudgeConfig, key: str | None, known: KnownScores):
        self._config, self._key, self._known = config, key, known
        self._stopped = ""  # the reason why no more cases are sent
        self._failures: Counter[str] = Counter()
        self._in_a_row = 0

    def run(self, todo: Mapping[str, Case]) -> None:
        """Send all cases; print one line with the number of cases without a score and the reasons."""
        asyncio.run(self._ask_all(todo))
        missing = sum(self._known.get(key) is None for key in todo)
        if missing:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self._failures.most_common(3))
            print(
                f"judge: {self._config.url} {self._stopped or reasons}; {missing} of {len(todo)} answers "
                "have no judge's verdict; resume=auto asks again",
                file=sys.stderr,
            )

    async def _ask_all(self, todo: Mapping[str, Case]) -> None:
        turn = asyncio.Semaphore(self._config.concurrency)
        try:
            async with Server("judge", self._config, self._key) as server:
                with Bar(f"judge {self._config.model}", len(todo)) as bar:

                    async def ask(key: str, case: Case) -> None:
                        async with turn:
                            if not self._stopped:
                                await self._ask(server, key, case)
                            if not self._stopped:
                                bar.advance()

                    await asyncio.gather(*(ask(key, case) for key, case in todo.items()))
        except NoServer as error:
            self._stopped = str(error)

    async def _ask(self, server: Server, key: str, case: Case) -> None:
        """Send one case and store its score, or count the reason why there is none."""
        try:
            score = parse_score(await _reply(server, self._config, case), case.by_share)
            failure = "sent no verdict" if score is None else ""
        except NoReply as error:
            score, failure = None, str(error)
        except NoServer as error:
            self._stopped = self._stopped or str(error)
            return
        if score is not None:
            self._known.add(key, score, self._config.model, prompt_version(case.by_share))
            self._in_a_row = 0
            return
        self._failures[failure] += 1
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW and not self._stopped:
            self._stopped = f"{failure}, {self._in_a_row} times in a row"


async def _reply(server: Server, config: JudgeConfig, case: Case) -> str:
    """The text of the judge's reply. Raises NoReply, NoServer."""
    body = {**config.options, "model": config.model, "messages": messages(case), "stream": False}
    return await server.ask("/chat/completions", body, read=_content)


def _content(body: bytes) -> str:
    """The text of a chat completion. Raises NoReply for anything else."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise NoReply("sent a malformed reply")
    return text


# ---------------------------------------------------------------- known scores


class KnownScores:
    """The known scores in a JSON-lines file. Each new score is appended as one line.

        {"key": "<sha256>", "score": 0.5, "model": "...", "prompt": "<version>"}

    The key is a hash of all that a score depends on: the judge and its options, its instructions, the
    question, the gold answers and the response. So runs may share a file, and a file may hold several judges.
    """

    def __init__(self, path: Path):
        self._path = path
        self._scores: dict[str, float] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.split("\n"):
            try:
                found = json.loads(line)
                key, score = found["key"], found["score"]
            except (ValueError, KeyError, TypeError):
                continue  # a killed run left an incomplete line; its case is sent again
            if isinstance(key, str) and isinstance(score, int | float) and 0 <= score <= 1:
                self._scores[key] = float(score)
        self._torn = bool(text) and not text.endswith("\n")

    def get(self, key: str) -> float | None:
        """The score of the case with this key; None if it is not known."""
        return self._scores.get(key)

    def add(self, key: str, score: float, model: str, prompt: str) -> None:
        """Store a score; it is on disk when this returns."""
        line = json.dumps({"key": key, "score": score, "model": model, "prompt": prompt})
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._torn + line + "\n")
        self._torn, self._scores[key] = False, score


def _key_of(case: Case, config: JudgeConfig) -> str:
    """A hash of the judge, its instructions and the case."""
    judge = [config.model, config.options, case.instructions]
    content = [*judge, case.question, case.golds, case.response]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


# ---------------------------------------------------------------- results and figures


def fill_in(judge: Judge, results: Sequence[Result]) -> None:
    """Put the judge's scores into the results, one for each graded response."""
    scores = iter(judge.scores([_case(result.bench, one) for result in results for one in result.graded]))
    for result in results:
        result.graded = [replace(one, score=next(scores)) for one in result.graded]


def _case(bench: Bench | None, graded: Graded) -> Case | None:
    """The case that the judge gets; None if there is no response or no gold answer."""
    sample = graded.sample
    golds = bench.golds(sample) if bench else (sample.answer,)
    if graded.response is None or not golds:
        return None
    question = bench.prompt(sample) if bench else sample.question
    if (options := labelled(sample.options)) not in question:  # the options are in the picture
        question = paragraphs(question, options)
    return Case(question, golds, graded.response, by_share=bench.needs_judge if bench else False)


def with_judge(model: str, result: Result) -> dict[str, Any]:
    """The benchmark's figures with those of the judge, separately for greedy and sampled responses."""
    by_share = result.bench.needs_judge if result.bench else False
    scores = result.figures(result.graded)
    drawn = [one for one in result.graded if "sampled" in scores and one.draw > 0]
    rest = [one for one in result.graded if "sampled" not in scores or one.draw == 0]
    scores["judge"] = _judged(rest, model, by_share)
    if drawn:
        scores["sampled"]["judge"] = _judged(drawn, model, by_share)
    return scores


def _judged(graded: Sequence[Graded], model: str, by_share: bool) -> dict[str, Any]:
    """The judge's figures. With `by_share` no rule graded the responses, so there is no agreement."""
    known = [(one, one.score) for one in graded if one.score is not None]
    return {
        "model": model,
        "prompt": prompt_version(by_share),
        "n": len(known),
        "null": len(graded) - len(known),
        "score": mean_figure([score for _, score in known], [cluster(one.sample) for one, _ in known]),
        "agreement": None if by_share else _agreement(known),
    }


def _agreement(known: Sequence[tuple[Graded, float]]) -> Figure | None:
    pairs = [(one.right, score) for one, score in known]
    share = mean_figure(
        [float(rule == judge) for rule, judge in pairs], [cluster(one.sample) for one, _ in known]
    )
    return share and {**share, **{name: pairs.count(pair) for pair, name in _PAIRS.items()}}
