"""ViLP: 300 questions with three pictures each; the first shows what is usual.

    question                                                 image1 answer1  image2 answer2  image3 answer3
    "Fish live in water. From the image, where is the fish?" <..>   "water"  <..>   "tree"   <..>   "sand"

`vilp_f` asks the whole question. `vilp_p` leaves out its first sentence, which states the usual fact. Answers
are one word.

    score    mean of the accuracies on image2 and image3, which contradict the usual answer
    prior    accuracy on image1
    gap      prior - score
    capture  share of image2 and image3 that get answer1

Our rule compares two answers word by word. It ignores differences of markup, case, article, number word,
plural and synonym. The official program (`scorer=official`) looks the whole answer up in its own tables.
These accept more synonyms (square and cube, man and person) and fewer plurals (glass and glasses are
different). `capture` is always by our rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from vigos_cli.evaluation.figures import any_right, cluster, composite, mean_figure, summary
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import required_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.normal import plain
from vigos_cli.grading.official_vilp import NUMBER_WORDS, official_vilp
from vigos_cli.grading.response_verdicts import answer_of, no_answer
from vigos_cli.types import Prior, Sample, Verdict

PLACES = (1, 2, 3)
# The official program cuts at the first dot of any kind, also in `3.5`, and drops all after the second dot.
FIRST_END = re.compile(r"(?<!\b[A-Z])(?<!\bSt)(?<!\bMr)(?<!\bDr)(?<!\bMrs)\.(?!\d)\s*")  # not in 3.5 or U.S.
IRREGULAR = {
    "leaves": "leaf", "wolves": "wolf", "loaves": "loaf", "shelves": "shelf", "calves": "calf",
    "halves": "half", "hooves": "hoof", "scarves": "scarf", "elves": "elf", "thieves": "thief",
    "knives": "knife", "wives": "wife", "lives": "life", "mice": "mouse", "geese": "goose", "feet": "foot",
    "children": "child", "teeth": "tooth", "oxen": "ox", "fungi": "fungus", "cacti": "cactus",
    "octopi": "octopus", "people": "person", "men": "man", "women": "woman", "emus": "emu", "menus": "menu",
    "skis": "ski", "taxis": "taxi",
}  # fmt: skip
SINGULAR = {"lens", "gas", "canvas", "atlas", "christmas"}
SAME_THING = (
    "fridge refrigerator", "car automobile", "bicycle bike", "motorcycle motorbike", "television tv",
    "phone telephone cellphone smartphone", "airplane aeroplane plane", "hippo hippopotamus",
    "rhino rhinoceros", "faucet tap", "computer pc", "lollipop lolipop", "round circle circular",
    "triangle triangular", "hexagon hexagonal", "octagon octagonal", "cube cubic cubical", "stripe striped",
    "sphere spherical", "sea ocean", "donut doughnut", "snake serpent", "kitten cat", "boat ship sailboat",
    "rabbit bunny", "dinosaur trex t-rex", "gray grey", "couch sofa", "airconditioner aircondition ac",
)  # fmt: skip
NAMES = {name: line.split()[0] for line in SAME_THING for name in line.split()}


def answer_words(answer: str) -> list[str]:
    """The words of an answer, without markup, case, article and punctuation around them."""
    text = plain(answer).casefold().strip(" .,!?\"'*`")
    return re.sub(r"^(?:an?|the)\s+", "", text).split()


def same_words(one: str, other: str) -> bool:
    """Whether two answers are the same, word by word; False if neither contains a word."""
    pairs = list(zip_longest(answer_words(one), answer_words(other), fillvalue=""))
    return bool(pairs) and all(_meant(a) & _meant(b) for a, b in pairs)


def _meant(part: str) -> set[str]:
    """What a word may mean: itself and its possible singulars, each replaced by its usual name."""
    if part in NUMBER_WORDS:
        return {str(NUMBER_WORDS.index(part))}
    return {NAMES.get(form, form) for form in (part, *_singulars(part))}


def _singulars(part: str) -> list[str]:
    """All possible singulars of a word: for `ponies` both `ponie` (as in `cookies`) and `pony`."""
    if part in IRREGULAR:
        return [IRREGULAR[part]]
    if len(part) < 4 or part in SINGULAR or not part.endswith("s") or part.endswith(("ss", "us", "is")):
        return []
    forms = [part[:-1]]
    if part.endswith("ies"):
        forms.append(part[:-3] + "y")
    if len(part) > 4 and part.endswith(("ses", "xes", "zes", "shes", "ches", "oes")):
        forms.append(part[:-2])
    return forms


@dataclass(frozen=True)
class ViLP(Adapter):
    """The adapter of ViLP; see the module docstring. `fact`: keep the question's first sentence."""

    fact: bool = True
    official = True

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """Three samples, in the cluster of their question."""
        question = required_field(row, "question")
        parts = FIRST_END.split(question, maxsplit=1)
        if not self.fact and len(parts) > 1 and parts[1]:
            question = parts[1]
        answers = {place: required_field(row, f"answer{place}") for place in PLACES}
        for place in PLACES:
            name = f"{index}:{place}"
            yield Sample(
                id=name,
                question=question,
                answer=answers[place],
                images=reader.image(row.get(f"image{place}"), name),
                prior=Prior(answers[1], agrees=place == 1, fact_stated=self.fact),
                group=str(index),
                fields={"place": place},
            )

    def prompt(self, sample: Sample) -> str:
        """The question, to be answered in one word."""
        return f"Answer in one word: {sample.question}"

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Compare the words of the answer with the gold answer by our rule, or by the official tables."""
        answer = answer_of(response)
        if answer is None or not answer_words(answer):
            return no_answer("word")
        if scorer == "official":
            return official_vilp(sample.answer, answer)
        said, gold = (" ".join(answer_words(text)) for text in (answer, sample.answer))
        right = same_words(answer, sample.answer)
        return Verdict("right" if right else "wrong", answer, "word", f"{said!r} against {gold!r}")

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """Score, prior, gap and capture over all draws; with several draws also the first three of Pass@n."""
        contradicting = [one for one in graded if _contradicts(one.sample)]
        figures = {
            **_score(graded),
            "capture": mean_figure(
                [float(_captured(one)) for one in contradicting], [one.sample.group for one in contradicting]
            ),
            **summary(graded, self.chance, {"image": lambda sample: str(sample.fields["place"])}),
        }
        if figures["draws"] > 1:
            figures["of any right"] = _score(any_right(graded))
        return figures


def _contradicts(sample: Sample) -> bool:
    """Whether the answer for this picture differs from the usual one."""
    assert sample.prior
    return not same_words(sample.answer, sample.prior.usual)


def _captured(one: Graded) -> bool:
    assert one.sample.prior
    return one.verdict.extracted is not None and same_words(one.verdict.extracted, one.sample.prior.usual)


def _score(graded: Sequence[Graded]) -> dict[str, Any]:
    """Score, prior and their gap, bootstrapped over questions."""
    parts: dict[str, np.ndarray] = {}
    for one in graded:
        part = parts.setdefault(cluster(one.sample), np.zeros(6))
        place = 2 * (one.sample.fields["place"] - 1)
        part[place : place + 2] += one.right, 1
    table = list(parts.values())

    def accuracy(totals: np.ndarray, place: int) -> np.ndarray:
        return totals[..., 2 * place - 2] / totals[..., 2 * place - 1]

    def score(totals: np.ndarray) -> np.ndarray:
        return (accuracy(totals, 2) + accuracy(totals, 3)) / 2

    return {
        "score": composite(table, score),
        "prior": composite(table, lambda totals: accuracy(totals, 1)),
        "gap": composite(table, lambda totals: accuracy(totals, 1) - score(totals), share=False),
    }


_COLUMNS = ("question", *(f"answer{place}" for place in PLACES))
FACT = ViLP("vilp_f", "ROW:PLACE", _COLUMNS, fact=True)
PLAIN = ViLP("vilp_p", "ROW:PLACE", _COLUMNS, fact=False)
