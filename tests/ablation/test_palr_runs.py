"""PALR is measured in finished cells."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sweeps import add_palr, cell, finish

from vigos_cli.ablation.forecast import TINY_ROW, forecast
from vigos_cli.ablation.palr_runs import (
    as_rollout_run,
    measure_palr,
    needs_palr,
    structured_routing,
    why_no_palr,
)
from vigos_cli.config.paths import config_dir
from vigos_cli.config.provenance import claim

ROUTINGS = [file.stem for file in (config_dir() / "routing").glob("*.yaml")]


def test_which_routings_have_a_palr():
    reasons = {name: why_no_palr(asdict(cell(f"routing={name}").config.routing)) for name in ROUTINGS}
    assert {name for name, reason in reasons.items() if reason} == {"sft", "two_pass"}
    told = asdict(cell("routing.reference_text=solution").config.routing)
    assert "solution" in str(why_no_palr(told)) and not why_no_palr(
        told | {"reasoning": "none", "answer": "none"}
    )
    plain, structured = (cell(f"routing={name}").config.routing for name in ("opsd", "opsd_structured"))
    assert (
        structured_routing(plain) == replace(structured, name="opsd")
        and structured_routing(structured) is structured
    )


def test_palr_is_measured_if_it_is_requested_and_missing(tmp_path):
    one, without = cell("seed=1", "palr_rows=6"), cell("seed=1", "routing=sft", "palr_rows=6")
    where = finish(tmp_path, one, steps=1)
    config = asdict(one.config)
    assert needs_palr(config, 6, where) and not needs_palr(config, 0, where)
    assert not needs_palr(asdict(without.config), 6, where)
    found = forecast([one, without], tmp_path).cells
    assert found[0].palr == pytest.approx(6 * TINY_ROW) and found[1].palr == 0
    add_palr(where, 0.5)
    assert not needs_palr(config, 6, where) and needs_palr(config, 7, where)
    more = cell("seed=2", "palr_rows=6")
    found = forecast([one, more], tmp_path)
    assert [one.palr for one in found.cells] == [0, pytest.approx(12.0)]
    assert "PALR of 1 to measure" in found.total() and found.remaining and found.cells[1].seconds
    assert found.remaining == pytest.approx(found.cells[1].seconds + 12)


def test_untrained_rollouts_are_sampled_once_and_scored_once_per_routing(tmp_path, monkeypatch):
    sampled = []

    def sample(run) -> None:
        out = Path(run.out)
        claim(out, run)  # raises an error if the folder belongs to another configuration
        sampled.append((run.routing.name, out.name, run.rollouts and Path(run.rollouts).parents[1].name))
        (out / "summary.json").write_text("{}")

    monkeypatch.setattr("vigos_cli.analysis.rollout_run.sample_settled", sample)
    cells = [cell(f"routing={r}", f"seed={s}", "palr_rows=5") for s in (1, 2) for r in ("vigos", "opsd")]
    for one in cells:
        one.config.out = str(finish(tmp_path, one, steps=1))
    begun = as_rollout_run(Path(cells[1].config.out), 5, own=False)
    claim(Path(begun.out), begun)  # by a killed run, before there were rollouts to reuse
    for one in cells:
        measure_palr(one.config)
        assert not needs_palr(asdict(one.config), 5, Path(one.config.out))
    first = Path(cells[0].config.out).name
    owns = [("vigos", "own", None), ("opsd", "own", None)]
    assert sampled == [("vigos", "base", None), owns[0], ("opsd", "base", first), owns[1], *owns]
    for one in cells:
        assert (Path(one.config.out) / "looking" / "base" / "summary.json").exists()
    sampled.clear()
    for rows in (5, 6):
        one = cell("routing=vigos", "seed=1", f"palr_rows={rows}")
        one.config.out = cells[0].config.out
        measure_palr(one.config)
    assert [name for _, name, _ in sampled] == ["base", "own"]  # again: the number of rows changed
