"""A judge's verdicts on many cases: the known ones from a file, the others asked, several at a time.

>>> Judge(config.judge, folder).scores(cases)
[1.0, 0.0, None]

A question without a verdict is None, is not kept, and is asked again by the next run. When the server refuses
every question, or too many in a row have no verdict, the rest is not asked. What went wrong is one line.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vigos_cli.config.schema import JudgeConfig
from vigos_cli.evaluation.judge_known import Known, key_of
from vigos_cli.evaluation.judge_reply import reply
from vigos_cli.evaluation.judge_words import Case, messages, read
from vigos_cli.utils.progress import Bar
from vigos_cli.utils.server import NoReply, NoServer, Server, key_from_environment

IN_A_ROW = 16  # questions without a verdict, after which no more are asked


class Judge:
    """A judge, its key, and the file of what it said.

    Raises ConfigError when the key is missing.
    """

    def __init__(self, config: JudgeConfig, folder: Path):
        self._config, self._key = config, key_from_environment("judge", config)
        self._path = folder / "judge.jsonl"

    def scores(self, cases: Sequence[Case | None]) -> list[float | None]:
        """A score from 0 to 1 a case; None where there is no case or no verdict."""
        known = Known(self._path)
        keys = [case and key_of(case, self._config) for case in cases]
        todo = {
            key: case
            for key, case in zip(keys, cases, strict=True)
            if key and case and known.get(key) is None
        }
        if todo:
            Asking(self._config, self._key, known).run(todo)
        return [known.get(key) if key else None for key in keys]


class Asking:
    """One round of questions."""

    def __init__(self, config: JudgeConfig, key: str | None, known: Known):
        self._config, self._key, self._known = config, key, known
        self._stopped = ""  # why no more are asked
        self._failures: Counter[str] = Counter()
        self._in_a_row = 0

    def run(self, todo: Mapping[str, Case]) -> None:
        """Ask them all, and say in one line how many have no verdict, and why."""
        asyncio.run(self._ask_all(todo))
        missing = sum(self._known.get(key) is None for key in todo)
        if missing:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self._failures.most_common(3))
            print(
                f"judge: {self._config.url} {self._stopped or reasons}; {missing} of {len(todo)} answers "
                "have no judge's verdict, resume=auto asks again",
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
        """Keep the verdict on one case, or count why there is none."""
        try:
            score = read(await reply(server, self._config, messages(case)), case.by_share)
            failure = "sent no verdict" if score is None else ""
        except NoReply as error:
            score, failure = None, str(error)
        except NoServer as error:
            self._stopped = self._stopped or str(error)
            return
        if score is not None:
            self._known.add(key, score, self._config.model, case.version)
            self._in_a_row = 0
            return
        self._failures[failure] += 1
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW and not self._stopped:
            self._stopped = f"{failure}, and so {self._in_a_row} times in a row"
