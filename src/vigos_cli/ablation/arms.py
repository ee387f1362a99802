"""Read a sweep's folder: its cells as arms, which are runs that differ only in their seed.

cells              config.json, summary.json, metrics.jsonl; before.jsonl and responses.jsonl of PriorWorld,
                   verdicts on other benchmarks in before/NAME and after/NAME
  -> Run           the answers of one cell, or of the untrained model: items by measure
  -> Arm           the runs of one configuration, in the order in which they were asked for
  -> SweepResults  the arms, untrained ones first; which keys were varied and which were held fixed
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from vigos_cli.ablation.cells import ERROR, LIST, SUMMARY, State, cell_state, read_list
from vigos_cli.ablation.teacher_card import NOTE, untrained_teachers
from vigos_cli.ablation.untrained_answers import untrained_key
from vigos_cli.config.provenance import check_form, recorded
from vigos_cli.config.schema import BenchTask, DistillRun, may_change
from vigos_cli.evaluation.benchmarks.priorworld_scoring import (
    descriptions_are_captions,
    observed_measures,
    priorworld_items,
)
from vigos_cli.types import Response, Sample
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import read_lines

DRAWN = ("greedy", "sampled")  # an item's first answer, and its further answers
ANSWERS = (*DRAWN, "pass@n")  # Pass@n: whether any of an item's n sampled answers is right
NO_PASS = ("description", "valid", "capture")  # measures that do not count right answers: no Pass@n

Items = dict[str, tuple[Hashable, list[float]]]  # item -> its cluster, and the values of its answers (0 to 1)
Measures = dict[str, Items]  # measure -> items


@dataclass(frozen=True, slots=True)
class Run:
    """The answers of one cell, or of the untrained model."""

    seed: int | None  # None: the untrained model, which has no seed
    base: str  # its values of the keys in `repeat_over`: which model it started from
    kinds: dict[str, Measures]  # by kind of answer: greedy, sampled, pass@n
    texts: dict[str, Response]  # the greedy answer by item
    folder: str
    metrics: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    spans: str = "paper"  # the rules by which its texts are split into segments


@dataclass(frozen=True, slots=True)
class Arm:
    """The runs of one configuration."""

    label: str
    trained: bool
    settings: dict[str, Any]  # its values of the varied keys, without the seed and `repeat_over`
    runs: list[Run]
    untrained: list[str] = field(default_factory=list)  # see `teacher_card`: why it says nothing of a method

    @property
    def title(self) -> str:
        """Its label in a table."""
        return f"{self.label} ({NOTE})" if self.untrained else self.label


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One line of the sweep's list, with the state of its cell."""

    name: str
    folder: str
    arm: str
    seed: int
    state: State
    error: str
    config: dict[str, Any]
    values: dict[str, Any]  # the same by full keys


@dataclass(frozen=True, slots=True)
class SweepResults:
    """A sweep, read from its folder."""

    cells: list[CellRecord]
    arms: list[Arm]
    varied: dict[str, list[str]]  # key -> its values, seed included
    fixed: dict[str, Any]
    samples: dict[str, Sample]  # the items of PriorWorld


def read_sweep(sweep: Path, repeat_over: Sequence[str] = ()) -> SweepResults:
    """Read the results of a sweep. Cells that are not done are listed, but belong to no arm.

    Keys that may change while a run is resumed (`may_change`) do not separate arms, and neither do the seed
    and the keys in `repeat_over`, such as the path of the model: an arm has a run for each of their values.
    """
    lines = read_list(sweep)
    if not lines:
        raise ConfigError(f"{sweep / LIST} lists no cell")
    for line in lines:
        check_form(line["config"], str(sweep))
    configs = [recorded(line["config"], DistillRun) for line in lines]
    names = list(dict.fromkeys(key for config in configs for key in config))
    values = {key: list(dict.fromkeys(repr(config.get(key)) for config in configs)) for key in names}
    varied = [key for key in names if len(values[key]) > 1 and not may_change(key)]
    repeats = ("seed", *repeat_over)
    labels = arm_labels(configs, [line["label"] for line in lines], [k for k in varied if k not in repeats])
    cells = [_cell_record(sweep, *each) for each in zip(lines, labels, configs, strict=True)]

    samples: dict[str, Sample] = {}
    untouched: dict[str, Arm] = {}
    trained: dict[str, Arm] = {}
    for cell in cells:
        if cell.state != "done":
            continue
        world = cell.config["bench"]["tasks"].get("priorworld")
        items = _items(json.dumps(world, sort_keys=True)) if world else {}
        samples |= items
        settings = {key: cell.values.get(key) for key in varied if key not in repeats}
        base = ", ".join(override_text(cell.values.get(key)) for key in repeat_over)
        arm = trained.setdefault(cell.arm, Arm(cell.arm, True, settings, []))
        if base not in {run.base for run in arm.runs}:
            which = f" ({base})" if base else ""
            arm.untrained.extend(reason + which for reason in untrained_teachers(cell.config))
        student = cell.config["routing"]["student"]
        arm.runs.append(
            _run(sweep / cell.folder, "responses.jsonl", items, cell.seed, base, student["spans"])
        )
        unlike = {k: v for k, v in untrained_key(cell.config).items() if k not in repeat_over}
        start = json.dumps(unlike, sort_keys=True)
        if start not in untouched:
            label = f"untrained, {student['format']} prompt"
            same = [arm for arm in untouched.values() if arm.label.startswith(label)]
            label += f" ({cell.arm})" if same else ""  # if more than the prompt differs
            untouched[start] = Arm(label, False, {}, [])
        if base not in {run.base for run in untouched[start].runs}:
            run = _run(sweep / cell.folder, "before.jsonl", items, None, base, student["spans"])
            untouched[start].runs.append(run)
    order = list(dict.fromkeys(cell.arm for cell in cells))
    shown = sorted(varied, key=lambda key: (key == "seed", names.index(key)))
    return SweepResults(
        cells,
        [*untouched.values(), *(trained[label] for label in order if label in trained)],
        {key: list(dict.fromkeys(override_text(config.get(key)) for config in configs)) for key in shown},
        {key: configs[0].get(key) for key in names if key not in varied and not may_change(key)},
        samples,
    )


def override_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(override_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell_record(sweep: Path, line: Mapping[str, Any], arm: str, values: dict[str, Any]) -> CellRecord:
    folder = sweep / line["folder"]
    state = cell_state(folder)
    return CellRecord(
        name=line["name"],
        folder=line["folder"],
        arm=arm,
        seed=line["config"]["seed"],
        state=state,
        error=(folder / ERROR).read_text(encoding="utf-8") if state == "failed" else "",
        config=line["config"],
        values=values,
    )


def arm_labels(
    configs: Sequence[Mapping[str, Any]], given: Sequence[str | None], varied: Sequence[str]
) -> list[str]:
    """The label of every cell's arm: the same for cells with the same values of the varied keys.

    `configs` have dotted keys; `varied` is without those that only repeat an arm; `given` are the names from
    the experiment's `arms`. An arm without such a name is named after the options and keys in which it
    differs from the others. If two arms would have the same name, the other keys in which they differ are
    added.
    """
    keys = list(varied)
    by_option = {key.split(".")[0] for key in keys if key.endswith(".name")}
    short = [key for key in keys if key.split(".")[0] not in by_option or key.endswith(".name")]
    settings = [tuple(repr(config.get(key)) for key in keys) for config in configs]
    names: dict[tuple[str, ...], str] = {}
    for config, own, setting in zip(configs, given, settings, strict=True):
        names.setdefault(setting, own or _name_by(config, short) or "all")
    for name in dict.fromkeys(names.values()):
        alike = [setting for setting in names if names[setting] == name]
        if len(alike) > 1:
            differ = [key for i, key in enumerate(keys) if len({setting[i] for setting in alike}) > 1]
            for setting in alike:
                more = _name_by(configs[settings.index(setting)], differ)
                names[setting] = f"{name}, {more}"
    return [names[setting] for setting in settings]


def _name_by(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    if len(keys) == 1 and keys[0].endswith(".name"):
        return override_text(config.get(keys[0]))
    return ", ".join(f"{key.removesuffix('.name')}={override_text(config.get(key))}" for key in keys)


@cache
def _items(task: str) -> dict[str, Sample]:
    return {sample.id: sample for sample in priorworld_items(BenchTask(**json.loads(task)))}


def _benches(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure and verdict of every answer to a benchmark other than PriorWorld that is graded by rules."""
    for file in sorted(folder.glob("*/verdicts.jsonl")):
        if json.loads((file.parent / "scores.json").read_text()).get("accuracy"):
            for line in read_lines(file):
                yield ", ".join(filter(None, (line["bench"], line["part"]))), line


def _run(
    folder: Path, answers: str, samples: Mapping[str, Sample], seed: int | None, base: str, spans: str
) -> Run:
    names = {item.name for item in fields(Response)}
    responses = [
        Response(**{name: line[name] for name in names if name in line})
        for line in read_lines(folder / answers)
        if line["sample_id"] in samples
    ]
    kinds: dict[str, Measures] = {kind: {} for kind in ANSWERS}

    def add(draw: int, measure: str, item: str, cluster: Hashable, value: float) -> None:
        kinds[DRAWN[draw > 0]].setdefault(measure, {}).setdefault(item, (cluster, []))[1].append(value)

    captions = descriptions_are_captions(responses)
    for response in responses:
        sample = samples[response.sample_id]
        for measure, value in observed_measures(sample, response, captions=captions).items():
            add(response.draw, measure, sample.id, sample.group, value)
    for name, line in _benches(folder / ("before" if seed is None else "after")):
        add(line["draw"], name, line["id"], line["cluster"], float(line["verdict"] == "right"))
    kinds["pass@n"] = {
        measure: {item: (cluster, [max(values)]) for item, (cluster, values) in items.items()}
        for measure, items in kinds["sampled"].items()
        if measure not in NO_PASS and any(len(values) > 1 for _, values in items.values())
    }
    return Run(
        seed=seed,
        base=base,
        kinds=kinds,
        texts={response.sample_id: response for response in responses if response.draw == 0},
        folder=folder.name,
        metrics=read_lines(folder / "metrics.jsonl") if seed is not None else [],
        summary=json.loads((folder / SUMMARY).read_text()) if seed is not None else {},
        spans=spans,
    )
