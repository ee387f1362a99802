"""Find the rows of `bench=holdout` for `vigos eval`: those that the run of the adapter held back.

held = held_rows(config)      # from the folder of the adapter's run, or from data=
held.note                     # a warning, if that run did not hold all of these rows back
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import DataConfig, EvalRun
from vigos_cli.data import fingerprint
from vigos_cli.data.holdout import FILE, Holdout, choose_holdout, read_holdout
from vigos_cli.data.load import TableData, load_data, of_every_run
from vigos_cli.models.adapter_folder import named_groups
from vigos_cli.utils.errors import ConfigError


def held_rows(config: EvalRun) -> Holdout:
    """All rows held back by the run of the adapter, or those that a run on `data=` would hold back.

    The note of the holdout warns if the adapter may have been trained on its rows.

    If `data` is named on the command line, or if the run is not found, the rows are chosen from the data of
    the configuration. Raises ConfigError if these are not rows of a file or a data set.
    """
    run = None if "data" in named_groups() else run_folder(config.adapter.path)
    source, limit = config.data, None
    if run:
        saved = json.loads((run / "config.json").read_text())
        known = {item.name for item in fields(DataConfig)}
        source = DataConfig(**{name: value for name, value in saved["data"].items() if name in known})
        source = of_every_run(source)
        limit = saved["limit"]
    try:
        data = load_data(source, config.seed, limit)
    except ConfigError as error:
        where = f" (these are the data of {run}; name others with data= and data.path=)" if run else ""
        raise ConfigError(f"{error}{where}") from error
    if not isinstance(data, TableData):
        raise ConfigError(
            "bench=holdout needs rows of your own: set data=jsonl data.path=FILE, or adapter.path= to an "
            "adapter that was trained on such rows; with PriorWorld use bench=priorworld"
        )
    if run and (run / FILE).exists():
        if not fingerprint.same_data(run, data):
            raise ConfigError(
                f"bench=holdout: the data have changed since {run} held its rows back: restore them, or name "
                "data= and data.path="
            )
        held = read_holdout(data, json.loads((run / FILE).read_text()))
        held = replace(held, asked=len(held.rows))
    else:
        rows = config.bench.tasks["holdout"].rows
        held = choose_holdout(data, rows, text_only=source.text_only == "keep")
    return replace(held, note=unprotected(config.adapter.path, held))


def run_folder(adapter: str | None) -> Path | None:
    """The folder of the run that wrote an adapter or a checkpoint; None if it is not found."""
    parents = Path(adapter).absolute().parents[:2] if adapter else ()
    return next((folder for folder in parents if (folder / "config.json").is_file()), None)


def unprotected(adapter: str | None, held: Holdout) -> str:
    """A warning if an adapter may have been trained on rows that are asked; otherwise an empty text."""
    if adapter is None:
        return ""
    run = run_folder(adapter)
    if run is None:
        return f"the run of {adapter} was not found, so it may have been trained on these rows"
    if not (run / FILE).exists():
        return f"{run} held no rows back, so its adapter may have been trained on these rows"
    safe = _keys(json.loads((run / FILE).read_text()))
    asked = held.rows[: held.asked]
    if exposed := sum(not safe.issuperset(one.keys) for one in asked):
        return (
            f"{run} did not hold back {exposed} of these {len(asked)} rows, so its adapter may have been "
            "trained on them"
        )
    return ""


def _keys(content: dict[str, Any]) -> set[str]:
    return {key for row in content["rows"] for key in row["keys"]}
