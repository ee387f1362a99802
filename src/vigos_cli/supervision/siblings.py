"""The other rollouts of a prompt: which are right, which agree, and which of them are supervised.

    groups = grouped(rollouts, routing)      # one Group for each rollout
    groups[0].sibling("right")               # the text of a right rollout of the same prompt
    groups[0].supervised                     # whether this rollout is supervised at all

If no teacher is told a sibling and no vote is taken, every rollout is supervised and nothing is graded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vigos_cli.config.routing_checks import needs_siblings
from vigos_cli.config.schema import RoutingConfig
from vigos_cli.data.images import BadRow
from vigos_cli.grading.question_options import options_for
from vigos_cli.method.segments import parse_rollout
from vigos_cli.supervision.prepared import Prepared
from vigos_cli.supervision.rollout_grading import is_right, same_answer
from vigos_cli.types import Rollout

QUORUM = 0.5  # share of a group's rollouts that must agree (U-OPSD, arXiv 2608.06296)


@dataclass(frozen=True, slots=True)
class Group:
    """One rollout among those of its prompt; `others` are texts by what they are a sibling for."""

    supervised: bool = True
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def sibling(self, which: str, choose: str = "first") -> str:
        """The text of a sibling. Raises BadRow if there is none."""
        if not self.others.get(which):
            raise BadRow(f"no_{which}_sibling")
        texts = self.others[which]
        return texts[in_order(texts, choose)[0]]


def in_order(texts: Sequence[str], choose: str) -> list[int]:
    """The places of the texts in the order of choice; of equally long ones the first drawn comes first."""
    sign = {"first": 0, "shortest": 1, "longest": -1}[choose]
    return sorted(range(len(texts)), key=lambda place: sign * len(texts[place]))


def grouped(rollouts: Sequence[tuple[Prepared, Rollout]], routing: RoutingConfig) -> list[Group]:
    """The group of each rollout, in the same order."""
    if not needs_siblings(routing):
        return [Group()] * len(rollouts)
    places: dict[str, list[int]] = {}
    for place, (item, _) in enumerate(rollouts):
        places.setdefault(item.key, []).append(place)
    found: dict[int, Group] = {}
    for group in places.values():
        item = rollouts[group[0]][0]
        groups = _groups(item, [rollouts[place][1] for place in group], routing)
        found |= dict(zip(group, groups, strict=True))
    return [found[place] for place in range(len(rollouts))]


def _groups(item: Prepared, rollouts: Sequence[Rollout], routing: RoutingConfig) -> list[Group]:
    """The groups of the rollouts of one prompt. No rollout is a sibling of itself."""
    form = routing.student.format if item.sample.images else "think"
    parsed = [parse_rollout(rollout, student=form, spans=routing.student.spans) for rollout in rollouts]
    right = [is_right(item.sample, segments) for segments in parsed]
    answers = [segments.answer.strip() if segments.valid else "" for segments in parsed]
    agreeing = majority(answers, options_for(item.reference, item.sample.question, item.sample.options))
    enough = len(agreeing) >= QUORUM * len(rollouts)
    chosen = _chosen(routing, rollouts, answers, agreeing if enough else ())
    groups = []
    for own in range(len(rollouts)):
        rest = [i for i in range(len(rollouts)) if i != own]
        others = {
            "right": tuple(rollouts[i].text for i in rest if right[i]),
            "wrong": tuple(rollouts[i].text for i in rest if answers[i] and not right[i]),
            "majority": tuple(rollouts[i].text for i in rest if enough and i in agreeing),
        }
        groups.append(Group(own in chosen(others), others))
    return groups


def _chosen(
    routing: RoutingConfig, rollouts: Sequence[Rollout], answers: Sequence[str], agreeing: Sequence[int]
) -> Callable[[Mapping[str, tuple[str, ...]]], Sequence[int]]:
    """A function from a rollout's siblings to the rollouts that are supervised."""
    choice = routing.rollouts.supervise
    every = range(len(answers))
    if isinstance(choice, Mapping):
        disagreeing = [i for i in every if answers[i] and i not in agreeing] if agreeing else []
        order = in_order([rollouts[i].text for i in disagreeing], choice.get("choose", "first"))
        first = [disagreeing[place] for place in order[: choice["disagreeing"]]]
        return lambda others: first
    if choice == "all":
        return lambda others: every
    named = {
        entry["sibling"]
        for teacher in routing.teachers.values()
        for entry in teacher.told
        if isinstance(entry, Mapping) and "sibling" in entry
    }
    return lambda others: every if all(others[which] for which in named) else range(0)


def majority(answers: Sequence[str], options: Sequence[str] = ()) -> tuple[int, ...]:
    """The places of the answers that agree with the most others; a tie goes to the earliest answer.

    Answers agree if the graders call one of them right with the other as the reference. An empty answer
    agrees with none. Deviation from U-OPSD, where a tie is broken at random.
    """
    clusters: list[list[int]] = []
    for place, answer in enumerate(answers):
        if not answer:
            continue
        for cluster in clusters:
            if same_answer(answers[cluster[0]], answer, tuple(options)):
                cluster.append(place)
                break
        else:
            clusters.append([place])
    return tuple(max(clusters, key=len)) if clusters else ()
