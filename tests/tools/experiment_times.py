"""Write how long each sweep takes into the head of its file in experiments/, from the forecast.

python tests/tools/experiment_times.py      # after a change of `TINY` in ablation/forecast.py, or of a sweep

`nox -s reference` runs it. The line has the number of cells and the time on two cores:

    # 24 cells, two at a time on two cores: about 15 minutes
    # With five seeds (seed=1,2,3,4,5) 40 cells, two at a time on two cores: about 25 minutes
"""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from vigos_cli.ablation.cells import Cell
from vigos_cli.ablation.forecast import forecast
from vigos_cli.config.compose import job
from vigos_cli.config.paths import experiments_dir
from vigos_cli.utils.progress import duration

LINE = re.compile(
    r"^# (With five seeds \(seed=1,2,3,4,5\) )?\d+ cells[^:\n]*: about [\d.]+ (?:min|h)\b", re.MULTILINE
)
FIVE = "1,2,3,4,5"


def sweeps() -> list[str]:
    """The experiments that are sweeps; the others are recipes for one GPU."""
    return sorted(file.stem for file in experiments_dir().glob("*.yaml") if "sweeper" in file.read_text())


def renewed(name: str) -> str:
    """The text of an experiment's file with the lines about time as they should be."""
    text = (experiments_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    return LINE.sub(lambda line: f"# {line[1] or ''}{_cost(name, text, FIVE if line[1] else None)}", text)


@cache
def _composed(override: str) -> Any:
    return job("ablate", [override, "out=unused"])


def _cost(name: str, text: str, seeds: str | None) -> str:
    content = yaml.safe_load(text)
    values = {**content["hydra"]["sweeper"]["params"], "+arm": ",".join(content.get("arms", {"": {}}))}
    values["seed"] = seeds or values["seed"]
    chosen = list(product(*(str(value).split(",") for value in values.values())))
    trained, untrained = _composed(f"+experiment={name}"), _composed("routing=two_pass")
    cells = [
        Cell(str(number), str(number), untrained if "two_pass" in choice else trained)
        for number, choice in enumerate(chosen)
    ]
    seconds = forecast(cells, Path("no such sweep"), at_once=2).remaining
    assert seconds is not None, "only sweeps of the embedded model have a known time"
    return f"{len(cells)} cells, two at a time on two cores: about {duration(seconds)}"


if __name__ == "__main__":
    for experiment in sweeps():
        text = renewed(experiment)  # in full before the file is opened for writing
        (experiments_dir() / f"{experiment}.yaml").write_text(text, encoding="utf-8")
