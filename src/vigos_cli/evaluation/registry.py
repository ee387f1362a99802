"""Benchmark adapters by name; an adapter is imported when it is first needed.

>>> get("mathvista").id_column
'pid'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vigos_cli.utils.errors import ConfigError, nearest

if TYPE_CHECKING:
    from vigos_cli.evaluation.interface import Bench

WHERE = {  # name -> module and attribute; priorworld is not here, because its items are generated, not read
    "mathvista": "mathvista.BENCH",
    "mmmu": "mmmu.BENCH",
    "mmmu_pro": "mmmu_pro.STANDARD",
    "mmmu_pro_vision": "mmmu_pro.VISION",
    "mathverse": "mathverse.BENCH",
    "mathverse_text_only": "mathverse.BLIND",
    "mmvet": "mmvet.BENCH",
    "mmsi": "mmsi.BENCH",
    "realworldqa": "realworldqa.BENCH",
    "cvbench": "cvbench.BENCH",
    "vilp_f": "vilp.FACT",
    "vilp_p": "vilp.PLAIN",
    "vlind": "vlind.BENCH",
    "hallusion": "hallusion.BENCH",
    "mathvision": "mathvision.BENCH",
    "easyvqa": "easyvqa.BENCH",
    "plain": "plain.BENCH",
}
OWN_ROWS = {"holdout": "holdout.BENCH"}  # its rows are those of the training data


def get(name: str) -> Bench:
    """The benchmark's adapter. Raises ConfigError, with a suggestion, for an unknown name."""
    places = WHERE | OWN_ROWS
    if name not in places:
        raise ConfigError(f"bench.tasks.{name}: {nearest(name, places)}choose one of {', '.join(places)}")
    module, attribute = places[name].split(".")
    return getattr(import_module(f"vigos_cli.evaluation.benchmarks.{module}"), attribute)
