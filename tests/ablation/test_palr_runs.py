"""PALR is measured in finished cells."""

from dataclasses import replace
from pathlib import Path

import pytest
from sweeps import add_palr, cell, finish

from vigos_cli.ablation.forecast import TINY_ROW, forecast
from vigos_cli.ablation.palr_runs import (
    as_rollout_run,
    measure_palr,
    needs_palr,
    structured_routing,
)
from vigos_cli.config.paths import config_dir
from vigos_cli.config.provenance import claim
from vigos_cli.config.routing_checks import why_no_palr

ROUTINGS = [file.stem for file in (config_dir() / "routing").glob("*.yaml")]


@pytest.mark.slow
def test_which_routings_have_a_palr():
    routings = {name: cell(f"routing={name}", "rollout.n=2").config.routing for name in ROUTINGS}
    reasons = {name: why_no_palr(routing) for name, routing in routings.items()}
    expected = {
        "learns from the reference": {"sft"},
        "no token has a teacher": {"two_pass", "opsa"},
        "several teachers": {"opd_v", "purified_opsd", "vcsd", "vgs"},
        "a worked solution": {"opsd_original"},
        "'row': 'other', 'column': 'question'": {"op2sd"},
        "'column'": {"op2sd", "sdft", "vicur"},
        "'sibling'": {"sdpo", "u_opsd"},
    }
    for words, names in expected.items():
        assert {name for name, reason in reasons.items() if words in (reason or "")} == names
    assert {name for name, reason in reasons.items() if reason} == set().union(*expected.values())
    told = cell("routing.teachers.reasoning.told=[question,solution]").config.routing
    unused = replace(told, supervise=replace(told.supervise, reasoning="none", answer="none"))
    assert "solution" in str(why_no_palr(told)) and not why_no_palr(unused)
    plain, structured = (cell(f"routing={name}").config.routing for name in ("opsd", "opsd_structured"))
    assert (
        structured_routing(plain) == replace(structured, name="opsd")
        and structured_routing(structured) is structured
    )


@pytest.mark.slow
def test_palr_is_measured_if_it_is_requested_and_missing(tmp_path):
    one, without = cell("seed=1", "palr_rows=6"), cell("seed=1", "routing=sft", "palr_rows=6")
    where = finish(tmp_path, one, steps=1)
    routing = one.config.routing
    assert needs_palr(routing, 6, where) and not needs_palr(routing, 0, where)
    assert not needs_palr(without.config.routing, 6, where)
    found = forecast([one, without], tmp_path).cells
    assert found[0].palr == pytest.approx(6 * TINY_ROW) and found[1].palr == 0
    add_palr(where, 0.5)
    assert not needs_palr(routing, 6, where) and needs_palr(routing, 7, where)
    more = cell("seed=2", "palr_rows=6")
    found = forecast([one, more], tmp_path)
    assert [one.palr for one in found.cells] == [0, pytest.approx(12.0)]
    assert "PALR of 1 to measure" in found.total() and found.remaining and found.cells[1].seconds
    assert found.remaining == pytest.approx(found.cells[1].seconds + 12)


@pytest.mark.slow
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
        assert not needs_palr(one.config.routing, 5, Path(one.config.out))
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
