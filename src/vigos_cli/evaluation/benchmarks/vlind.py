"""VLind-Bench: counterfactual pictures that separate a language prior from other errors.

    data.json: context_id, context, factual_context, concept, true_statement, false_statement, existent_noun,
               non-existent_noun, best_img_id, aggregated_human_label_good_images {"0": 3, "1": 1, ...}
    pictures:  images/factual/CONCEPT/ID_FACTUAL CONTEXT/0.jpg
               images/counterfactual/CONCEPT/ID_CONTEXT/IMAGE.jpg

Four stages, each with a true and a false statement; a stage is passed only if both answers are right:

    a  statements that are judged by common sense; the factual picture is shown
    b  statements that the two nouns are in the picture; the best counterfactual picture is shown
    c  statements that are judged by the text of the context; the same picture is shown
    d  statements that are judged by the picture, without common sense; once for each good picture

A picture with 2 votes or more is good. Instances without a good picture are left out by design. The figures
`a` and `b` are over all instances, `c` is over those that pass a, and `d` over those that pass a, b and c. In
`d` an instance counts with the share of its good pictures that pass; in `d by picture` each picture counts.
`c of all` and `d of all` are over all instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vigos_cli.data.images import BadRow
from vigos_cli.evaluation.figures import any_right, ratio, summary
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.interface import Adapter
from vigos_cli.evaluation.row_parsing import paragraphs, required_field
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.grading.response_verdicts import by_word
from vigos_cli.types import Sample, Verdict

VOTES = 2
BASIS = {
    "a": "By common sense, is the statement true or false?",
    "b": "Going by the image, is the statement true or false?",
    "c": "Going by the context alone, is the statement true or false? Set common sense aside.",
    "d": "Going by the image alone, is the statement true or false? Set common sense aside.",
}
COLUMNS = (
    "context_id", "context", "factual_context", "concept", "true_statement", "false_statement",
    "existent_noun", "non-existent_noun", "best_img_id", "aggregated_human_label_good_images",
)  # fmt: skip


class VLind(Adapter):
    """The adapter of VLind-Bench; see the module docstring."""

    rows_file = "VLind-Bench Dataset/data.json"
    groups = {"concept": lambda sample: sample.family, "stage": lambda sample: sample.fields["stage"]}  # noqa: RUF012

    def row(self, row: Row, index: int, reader: RowReader) -> Iterator[Sample]:
        """Six samples, and two for each good picture."""
        true, false = required_field(row, "true_statement"), required_field(row, "false_statement")
        nouns = [required_field(row, "existent_noun"), required_field(row, "non-existent_noun")]
        votes = row.get("aggregated_human_label_good_images")
        if not isinstance(votes, Mapping) or not all(
            isinstance(n, int | float | None) for n in votes.values()
        ):
            raise BadRow("votes_unreadable")
        good = [str(image) for image, count in votes.items() if count is not None and count >= VOTES]
        if not good:
            return
        seen = [f"There is {noun} in the image." for noun in nouns]
        best = required_field(row, "best_img_id")
        asked = [
            *[("a", "factual", "0", pair) for pair in [(false, "true"), (true, "false")]],
            *[("b", "counterfactual", best, pair) for pair in zip(seen, ("true", "false"), strict=True)],
            *[("c", "counterfactual", best, pair) for pair in [(true, "true"), (false, "false")]],
            *[
                ("d", "counterfactual", image, pair)
                for image in good
                for pair in [(true, "true"), (false, "false")]
            ],
        ]
        instance, concept, context = (
            required_field(row, name) for name in ("context_id", "concept", "context")
        )
        pictures: dict[str, Any] = {}
        for stage, kind, image, (statement, answer) in asked:
            scene = required_field(row, "factual_context") if kind == "factual" else context
            name = f"{index}:{stage}{1 if answer == 'true' else 2}:{image}"
            path = f"images/{kind}/{concept}/{instance}_{scene}/{image}.jpg"
            if path not in pictures:
                pictures[path] = reader.image(path, name)
            yield Sample(
                id=name,
                question=statement,
                answer=answer,
                images=pictures[path],
                family=concept,
                group=str(index),
                fields={"stage": stage, "image": image, "good": good, "context": context},
            )

    def prompt(self, sample: Sample) -> str:
        """The statement and what to judge it by; at stage c also the context."""
        stage = sample.fields["stage"]
        context = f"Context: {sample.fields['context']}" if stage == "c" else ""
        return paragraphs(context, f"Statement: {sample.question}", BASIS[stage])

    def grade(self, sample: Sample, response: str, scorer: str = "ours") -> Verdict:
        """Accept true or false."""
        return by_word(response, sample.answer, ("true", "false"))

    def chance(self, sample: Sample) -> float:
        """One half for each statement; a guess gets both of a pair right with chance one quarter."""
        return 0.5

    def summarise(self, graded: Sequence[Graded]) -> dict[str, Any]:
        """The stages over all draws; with several draws also those of Pass@n (any draw right)."""
        figures = {**stages(graded), **summary(graded, self.chance, self.groups)}
        if figures["draws"] > 1:
            figures["of any right"] = stages(any_right(graded))
        return figures


def stages(graded: Sequence[Graded]) -> dict[str, Any]:
    """The conditional figures, bootstrapped over instances; n counts instances (and draws) or pictures.

    If a draw of an instance lacks a response, this draw is left out and counted in `incomplete`.
    """
    runs: dict[tuple[str, int], dict[tuple[str, str], list[Graded]]] = {}
    for one in graded:
        pairs = runs.setdefault((one.sample.group, one.draw), {})
        pairs.setdefault((one.sample.fields["stage"], one.sample.fields["image"]), []).append(one)
    names = ("a", "b", "c", "d", "d by picture", "c of all", "d of all")
    sums: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in names}
    incomplete = 0
    for (instance, _), pairs in runs.items():
        good = next(iter(pairs.values()))[0].sample.fields["good"]
        if len(pairs) != 3 + len(good) or any(len(pair) != 2 for pair in pairs.values()):
            incomplete += 1
            continue
        passed = {key: float(all(one.right for one in pair)) for key, pair in pairs.items()}
        a, b, c = (next(p for (stage, _), p in passed.items() if stage == name) for name in "abc")
        pictures = sum(p for (stage, _), p in passed.items() if stage == "d")
        reached, share = a * b * c, pictures / len(good)
        for name, above, below in (
            ("a", a, 1),
            ("b", b, 1),
            ("c", a * c, a),
            ("d", reached * share, reached),
            ("d by picture", reached * pictures, reached * len(good)),
            ("c of all", c, 1),
            ("d of all", share, 1),
        ):
            before = sums[name].get(instance, (0, 0))
            sums[name][instance] = (before[0] + above, before[1] + below)
    return {**{name: ratio(pairs) for name, pairs in sums.items()}, "incomplete": incomplete}


BENCH = VLind("vlind", "INSTANCE:QUESTION:IMAGE", COLUMNS)
