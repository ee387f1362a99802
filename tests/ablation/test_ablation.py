"""`vigos ablate`: cells known by their content, failures that stay in theirs, a report of known numbers."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from sweeps import SHARES, answers, ask, cell, finish, look_at, make

import vigos_cli
from vigos_cli.__main__ import main
from vigos_cli.ablation.arms import arm_labels, read_sweep
from vigos_cli.ablation.cells import ERROR, add_to_list, cell_folder, cell_state, read_list
from vigos_cli.ablation.compare_arms import compare_arms, verdict_on
from vigos_cli.ablation.example_rollouts import coloured
from vigos_cli.ablation.forecast import TINY, TINY_ROW, forecast
from vigos_cli.ablation.made_once import made_once
from vigos_cli.ablation.other_sweeps import REUSED, copy_finished, find_finished
from vigos_cli.ablation.palr_results import read_palr
from vigos_cli.ablation.palr_runs import (
    as_rollout_run,
    measure_palr,
    needs_palr,
    structured_routing,
    why_no_palr,
)
from vigos_cli.ablation.report_text import answer_kinds
from vigos_cli.ablation.run_cell import run_cell
from vigos_cli.ablation.sweep_report import write_report
from vigos_cli.ablation.untrained_answers import has_untrained_answers
from vigos_cli.analysis.palr import share_by_answer
from vigos_cli.config.paths import config_dir
from vigos_cli.config.provenance import claim, same_run
from vigos_cli.config.run_digest import as_distill, digest
from vigos_cli.types import Response
from vigos_cli.utils.errors import ConfigError
from vigos_cli.utils.files import read_lines
from vigos_cli.utils.stats import crossed_difference, crossed_statistic

SOURCE = str(Path(vigos_cli.__file__).parents[1])
ROWS = "bench.tasks.priorworld.rows=6"
SMALL = ["trainer.steps=1", "trainer.batch=4", "bench.tasks.priorworld.rows=2", "bench.samples=1"]
ROUTINGS = [file.stem for file in (config_dir() / "routing").glob("*.yaml")]
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


def pair(seeds=(1, 2, 3), shares=None):
    """Two arms over seeds; the second is right on half as many contradicting pictures."""
    low = {**SHARES, "score": 0.25}
    return [
        (cell(f"routing={routing}", f"seed={seed}", ROWS), own)
        for seed in seeds
        for routing, own in (("vigos", SHARES), ("sft", shares or low))
    ]


# ---- cells


@pytest.mark.slow
def test_a_cell_is_known_by_what_it_runs_and_by_nothing_else(tmp_path):
    one = cell("seed=1")
    assert digest(cell("seed=1", label="called so").config) == one.key
    assert digest(cell("seed=1", "reference=vigos", "cells=list").config) == one.key
    assert digest(cell("seed=1", "reuse=[elsewhere]", "palr_rows=7").config) == one.key
    assert digest(cell("seed=2").config) != one.key
    assert digest(cell("seed=1", "trainer.lr=1e-4").config) != one.key
    finish(tmp_path, one, steps=1)
    other = cell("seed=1", "routing=vigos")  # the same by another name
    assert (
        cell_folder(tmp_path, other) == cell_folder(tmp_path, one)
        and cell_state(cell_folder(tmp_path, other)) == "done"
    )


def test_a_record_from_before_a_key_existed_is_of_the_same_arm_and_cell(tmp_path):
    before, after = cell("seed=1", ROWS), cell("seed=2", ROWS)
    assert digest(cell("seed=1", ROWS, "rollout.url=http://elsewhere/v1").config) == before.key
    for one in (before, after):
        finish(tmp_path, one, steps=1)
        (cell_folder(tmp_path, one) / "before.json").write_text("{}")
    add_to_list(tmp_path, [before, after])
    listed = read_list(tmp_path)
    for young in (listed[0]["config"], record := asdict(as_distill(before.config))):
        del young["rollout"]["prefill"], young["bench"]["tasks"]["priorworld"]["limit"]
    (tmp_path / "cells.json").write_text(json.dumps(listed))
    (cell_folder(tmp_path, before) / "config.json").write_text(json.dumps(record))
    assert [(arm.trained, len(arm.runs)) for arm in read_sweep(tmp_path).arms] == [(False, 1), (True, 2)]
    same_run(record, as_distill(before.config))
    with pytest.raises(ConfigError, match=r"rollout\.prefill=auto"):
        same_run(record, replace(before.config, rollout=replace(before.config.rollout, prefill="none")))
    third = cell("seed=3", ROWS)
    third.config.out = str(cell_folder(tmp_path, third))
    Path(third.config.out).mkdir()
    assert has_untrained_answers(third.config)


def test_a_sweeps_list_grows_and_keeps_its_order(tmp_path):
    cells = [cell(f"seed={seed}") for seed in (1, 2, 3)]
    add_to_list(tmp_path, cells[:2])
    add_to_list(tmp_path, cells[1:])
    assert [line["config"]["seed"] for line in read_list(tmp_path)] == [1, 2, 3]


def test_arms_are_called_by_what_tells_them_apart():
    configs = [
        {"seed": 1, "routing.name": "vigos", "routing.spans": "paper", "loss.beta": 0.5},
        {"seed": 2, "routing.name": "vigos", "routing.spans": "paper", "loss.beta": 0.5},
        {"seed": 1, "routing.name": "vigos", "routing.spans": "code", "loss.beta": 0.5},
        {"seed": 1, "routing.name": "sft", "routing.spans": "paper", "loss.beta": 0.5},
    ]
    varied = ["seed", "routing.name", "routing.spans"]
    labels = arm_labels(configs, [None] * 4, varied)
    assert labels == ["vigos, routing.spans=paper"] * 2 + ["vigos, routing.spans=code", "sft"]
    assert arm_labels(configs, ["mine", "mine", "other", "other"], varied)[:2] == ["mine", "mine"]
    assert len(set(arm_labels(configs, ["mine"] * 4, varied))) == 3


def test_untrained_answers_are_shared_where_they_would_be_the_same(tmp_path):
    done = finish(tmp_path, cell("seed=1", ROWS), steps=1)
    (done / "before.json").write_text('{"score": 0.0}')
    (done / "config.json").write_text(json.dumps(json.loads((done / "summary.json").read_text())["config"]))
    for overrides, shared in (
        (["seed=2", ROWS, "routing=sft", "adapter.r=4", "trainer.lr=1e-4"], True),
        (["seed=2", ROWS, "routing=opsd"], False),  # another prompt
        (["seed=2", ROWS, "bench.seed=1"], False),
        (["seed=2", "bench.tasks.priorworld.rows=5"], False),
        (["seed=2", ROWS, "adapter.path=elsewhere"], False),
    ):
        one = cell(*overrides)
        one.config.out = str(cell_folder(tmp_path, one))
        Path(one.config.out).mkdir()
        assert has_untrained_answers(one.config) is shared, overrides
        assert (Path(one.config.out) / "before.jsonl").exists() is shared


def test_one_makes_what_the_others_wait_for(tmp_path):
    lock, there, made = tmp_path / "lock", tmp_path / "there", []
    inside = threading.Event()

    def arrive(name: str) -> None:
        with made_once(lock, there.exists):
            if not there.exists():
                made.append(name)
                inside.set()
                time.sleep(0.2)
                there.touch()
                time.sleep(5 if name == "first" else 0)  # held on: nobody needs it any more

    first, second = (
        threading.Thread(target=arrive, args=(name,), daemon=True) for name in ("first", "second")
    )
    first.start()
    assert inside.wait(5)
    second.start()
    second.join(4)
    assert not second.is_alive() and made == ["first"]


HOLD = """
import sys, time
from pathlib import Path
from vigos_cli.ablation.made_once import made_once
with made_once(Path(sys.argv[1]), lambda: False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_nobody_waits_for_the_dead(tmp_path):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, *sys.path])}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    looked = []

    def never() -> bool:
        looked.append(1)
        if len(looked) == 2:  # it has waited once
            holder.kill()
            holder.wait()
        return False

    with made_once(tmp_path / "lock", never):
        assert len(looked) >= 2


def test_cells_that_start_together_measure_their_untrained_base_once(tmp_path, monkeypatch):
    """Both arrive before either has it; the second waits, and takes over what the first has made."""
    made, runs = [], []

    def distill(config) -> dict:
        out = Path(config.out)
        (out / "config.json").write_text(json.dumps({**asdict(config)}))
        if not (out / "before.json").exists():
            made.append(out.name)
            time.sleep(0.3)
            (out / "before.jsonl").write_text("{}\n")
            (out / "before.json").write_text("{}")
        runs.append(out.name)
        return {"after": {"score": 0.5}}

    monkeypatch.setattr("vigos_cli.training.distill.distill", distill)
    cells = [cell(*more, ROWS) for more in (["seed=1"], ["seed=2"], ["seed=3", "routing=opsd"])]
    for one in cells:
        one.config.out = str(cell_folder(tmp_path, one))
        Path(one.config.out).mkdir()
    threads = [threading.Thread(target=run_cell, args=(one.config,)) for one in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(runs) == 3 and len(made) == 2 and any("opsd" in name for name in made)
    assert all(has_untrained_answers(one.config) for one in cells)


# ---- cells of other sweeps


def test_a_cell_that_another_sweep_has_done_is_taken_over(tmp_path):
    cells = [cell(f"seed={seed}", ROWS, label="called so") for seed in (1, 2, 3)]
    other, sweep = tmp_path / "other", tmp_path / "new"
    make(other, [(cell("seed=1", ROWS), SHARES), (cell("seed=2", ROWS), None)])
    source = cell_folder(other, cells[0])
    (source / "checkpoints").mkdir()
    places = find_finished(cells, sweep, [str(other)])
    assert places == {cells[0].key: source}
    listed = forecast(cells, sweep, places)
    assert [one.state for one in listed.cells] == ["done", "not run", "not run"]
    assert str(source) in listed.lines()[0] and str(other) not in listed.lines()[1]
    assert "2 of them to run, 1 copied" in listed.total() and not sweep.exists()

    home = cell_folder(sweep, cells[0])
    home.mkdir(parents=True)
    (home / "half.txt").write_text("cut short")
    copy_finished(cells, sweep, places)
    assert (
        cell_state(home) == "done"
        and not (home / "checkpoints").exists()
        and not (home / "half.txt").exists()
    )
    assert json.loads((home / REUSED).read_text()) == {"from": str(source)}
    assert sorted(path.name for path in sweep.iterdir()) == [home.name]
    assert (home / "responses.jsonl").read_text() == (source / "responses.jsonl").read_text()
    assert find_finished(cells, sweep, [str(other)]) == {}  # what is done here stays
    with pytest.raises(ConfigError, match="holds no sweep"):
        find_finished(cells, sweep, [str(tmp_path)])


def test_a_copy_that_a_kill_cut_short_counts_as_nothing(tmp_path, monkeypatch):
    one = cell("seed=1", ROWS)
    make(tmp_path / "other", [(one, SHARES)])
    (cell_folder(tmp_path / "other", one) / "before.json").write_text("{}")
    (cell_folder(tmp_path / "other", one) / "config.json").write_text(json.dumps(asdict(one.config)))
    sweep = tmp_path / "new"

    def cut(source, draft, **_):
        Path(draft).mkdir()
        for name in ("config.json", "before.json", "summary.json"):
            shutil.copy(Path(source) / name, draft)
        raise KeyboardInterrupt

    places = find_finished([one], sweep, [str(tmp_path / "other")])
    with monkeypatch.context() as patched:
        patched.setattr("vigos_cli.ablation.other_sweeps.shutil.copytree", cut)
        with pytest.raises(KeyboardInterrupt):
            copy_finished([one], sweep, places)
    assert cell_state(cell_folder(sweep, one)) == "not run"
    again = cell("seed=2", ROWS)
    again.config.out = str(cell_folder(sweep, again))
    Path(again.config.out).mkdir()
    assert not has_untrained_answers(again.config)  # the half of a cell has nothing to share
    copy_finished([one], sweep, places)
    assert cell_state(cell_folder(sweep, one)) == "done" and not list(sweep.glob(".*.draft"))


# ---- PALR of cells


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


def test_palr_is_measured_where_it_is_asked_for_and_not_there(tmp_path):
    one, without = cell("seed=1", "palr_rows=6"), cell("seed=1", "routing=sft", "palr_rows=6")
    where = finish(tmp_path, one, steps=1)
    config = asdict(one.config)
    assert needs_palr(config, 6, where) and not needs_palr(config, 0, where)
    assert not needs_palr(asdict(without.config), 6, where)
    found = forecast([one, without], tmp_path).cells
    assert found[0].palr == pytest.approx(6 * TINY_ROW) and found[1].palr == 0
    look_at(where, 0.5)
    assert not needs_palr(config, 6, where) and needs_palr(config, 7, where)
    more = cell("seed=2", "palr_rows=6")
    found = forecast([one, more], tmp_path)
    assert [one.palr for one in found.cells] == [0, pytest.approx(12.0)]
    assert "PALR of 1 to measure" in found.total() and found.remaining and found.cells[1].seconds
    assert found.remaining == pytest.approx(found.cells[1].seconds + 12)


def test_untrained_rollouts_are_sampled_once_and_scored_once_a_routing(tmp_path, monkeypatch):
    sampled = []

    def sample(run) -> None:
        out = Path(run.out)
        claim(out, run)  # refuses what was begun in another way
        sampled.append((run.routing.name, out.name, run.rollouts and Path(run.rollouts).parents[1].name))
        (out / "summary.json").write_text("{}")

    monkeypatch.setattr("vigos_cli.analysis.rollout_run.sample_settled", sample)
    cells = [cell(f"routing={r}", f"seed={s}", "palr_rows=5") for s in (1, 2) for r in ("vigos", "opsd")]
    for one in cells:
        one.config.out = str(finish(tmp_path, one, steps=1))
    begun = as_rollout_run(Path(cells[1].config.out), 5, own=False)
    claim(Path(begun.out), begun)  # by a run that was killed, when there was nothing yet to score again
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
    assert [name for _, name, _ in sampled] == ["base", "own"]  # of other rows


def test_a_statistic_over_seeds_and_rows():
    def run(*values: tuple[float, float]):
        return {row: np.array([1.0, a, a + i, 1.0]) for row, (a, i) in enumerate(values)}

    alike = [run((1.0, 3.0), (2.0, 6.0))] * 3
    found = crossed_statistic(alike, share_by_answer)
    assert (
        found
        and found.mean == pytest.approx(0.25)
        and found.low == pytest.approx(found.high)
        and found.n == 6
    )
    apart = [run((share, 1 - share), (share, 1 - share)) for share in (0.2, 0.5, 0.8)]
    found = crossed_statistic(apart, share_by_answer)
    assert found and found.mean == pytest.approx(0.5) and found.low < 0.35 and found.high > 0.65
    assert crossed_statistic(apart[:2], share_by_answer).high == pytest.approx(0.35)  # type: ignore[union-attr]
    half = [run((1.0, 3.0)), {}]  # a run without such tokens has no part in the mean
    assert crossed_statistic(half, share_by_answer).mean == pytest.approx(0.25)  # type: ignore[union-attr]
    assert crossed_statistic([{}], share_by_answer) is None


def test_the_report_of_palr(tmp_path, monkeypatch):
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])
    cells = [
        (cell(f"routing={routing}", f"seed={seed}", ROWS), SHARES)
        for seed in (1, 2, 3)
        for routing in ("vigos", "opsd", "sft")
    ]
    make(tmp_path, cells)
    assert read_palr(tmp_path, read_sweep(tmp_path)) is None
    for one, _ in cells[:-2]:
        if "sft" not in one.name:
            look_at(cell_folder(tmp_path, one), 0.25 if "vigos" in one.name else 0.75)
    found = read_palr(tmp_path, read_sweep(tmp_path))
    assert found
    assert [(row.arm.label, row.rollouts, row.runs) for row in found.rows] == [
        ("vigos", "base", 1),
        ("opsd", "base", 1),
        ("vigos", "own", 3),
        ("opsd", "own", 2),
    ]
    vigos, opsd = found.rows[2], found.rows[3]
    assert vigos.palr["reasoning"] and vigos.palr["reasoning"].mean == pytest.approx(0.25, abs=1e-6)
    assert vigos.palr["reasoning"].n == 18 and opsd.palr["reasoning"] and opsd.palr["reasoning"].n == 12
    assert vigos.palr["description"] and vigos.palr["description"].mean == 0
    assert vigos.pull["description"] == pytest.approx(0.5) and vigos.visual["description"]
    notes = " ".join(found.notes)
    assert "sft has no PALR" in notes and "opsd: measured in 2 of 3 runs" in notes and "plain prompt" in notes

    write_report(tmp_path)
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "17.26" in page and "Another model" in page and "Sft has no PALR" in page
    links = re.findall(r'href="([^"#]+)#colour=palr"', page)
    assert len(links) == 10 and all((tmp_path / unquote(link)).parent.is_dir() for link in links)
    assert "| each arm's own rollouts | vigos | 0 [0, 0], 0.5, 18 |" in text
    assert (tmp_path / "plots" / "palr.png").stat().st_size > 1000
    with (tmp_path / "palr.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["tokens"] == "reasoning"]
    assert [line["measure"] for line in lines] == ["palr", "visual_dependency"] * 4


def test_rollouts_are_coloured_by_segment():
    def said(text: str, described: bool = True, spans: str = "paper"):
        return coloured(Response("i", 0, text, "", "", True, described, 1), spans)

    turn = "<description>red</description> <think>so</think> \\boxed{a} bye"
    kinds = [kind for _, kind in said(turn)]
    assert kinds == [
        *["delimiters", "description", "delimiters", "reasoning", "delimiters", "answer", "delimiters", "end"]
    ]
    assert "".join(piece for piece, _ in said(turn)) == turn
    assert said(turn)[1] == ("red", "description") and said(turn)[5] == ("a", "answer")
    assert said("<think>so</think> \\boxed{a}", described=False)[1] == ("so", "reasoning")
    assert said(turn, spans="code")[0] == ("<description>red", "description")
    assert said("<b>no") == [("<b>no", "invalid")]


def test_the_time_ahead_comes_from_the_cells_that_are_done(tmp_path):
    cells = [
        cell(f"seed={seed}", "trainer.steps=60", *more)
        for seed, more in ((1, ()), (2, ()), (3, ("routing=two_pass",)))
    ]
    assert TINY.source in forecast(cells, tmp_path).total()
    finish(tmp_path, cells[0])  # 21 s whatever it learns, 150 s for 60 steps of 32
    found = forecast(cells, tmp_path)
    assert [(one.state, one.seconds and round(one.seconds, 6)) for one in found.cells] == [
        ("done", 171.0),
        ("not run", 171.0),
        ("not run", 21.0),
    ]
    assert found.remaining == pytest.approx(192.0) and "from the 1 done here" in found.total()
    unknown = forecast([cell("model=qwen2vl")], tmp_path)
    assert unknown.remaining is None and "unknown" in unknown.total()


# ---- the report


def test_differences_of_paired_runs():
    ahead = [{f"q{i}": [1.0] for i in range(20)} for _ in range(3)]
    found = crossed_difference(ahead)
    assert found and found.mean == 1 and 0.8 < found.low < found.high == 1
    none = crossed_difference([{f"q{i}": [0.0] for i in range(20)}])
    assert none and none.low == -none.high < 0
    mixed = crossed_difference([{f"q{i}": [float(i % 2)] for i in range(40)} for _ in range(3)])
    assert mixed and mixed.mean == 0.5 and 0.3 < mixed.low < 0.5 < mixed.high < 0.7
    few = [{"a": [1.0], "b": [1.0]}, {"a": [-1.0], "b": [-1.0]}]  # two seeds: only questions are resampled
    both = crossed_difference(few)
    assert both and both.mean == 0
    assert crossed_difference([{}]) is None


@pytest.mark.slow
def test_a_report_of_known_numbers(tmp_path):
    make(tmp_path, pair())
    table = read_sweep(tmp_path)
    assert [arm.label for arm in table.arms] == ["untrained, structured prompt", "vigos", "sft"]
    assert table.varied["seed"] == ["1", "2", "3"] and "trainer.lr" in table.fixed
    rows = compare_arms(table.arms)
    score = {row.arm.label: row.means["greedy"]["score"] for row in rows}
    assert score["vigos"] and score["vigos"].mean == 0.5 and score["vigos"].n == 3 * 12
    assert score["sft"] and score["sft"].mean == 0.25
    assert rows[1].differences["greedy"] == {}
    untrained, sft = rows[0].differences["greedy"], rows[2].differences["greedy"]
    assert untrained["score"].mean == -0.5 and sft["score"].mean == -0.25
    assert (
        sft["score"].items == 36
        and sft["prior"].mean == 0
        and verdict_on(sft["prior"]) == "interval spans zero"
    )
    # Two tests of Score: the smaller p is doubled, the larger stays or follows it.
    small, large = sorted([untrained["score"], sft["score"]], key=lambda d: d.p)
    assert small.p_holm == pytest.approx(min(1, 2 * small.p))
    assert large.p_holm == pytest.approx(max(large.p, 2 * small.p))

    write_report(tmp_path)
    with (tmp_path / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(c["arm"], c["seed"], c["greedy_score"]) for c in cells[:2]] == [
        ("vigos", "1", "0.5"),
        ("sft", "1", "0.25"),
    ]
    with (tmp_path / "arms.csv").open() as file:
        arms = {(a["arm"], a["answers"], a["measure"]): a for a in csv.DictReader(file)}
    assert float(arms["sft", "sampled", "score"]["difference"]) == -0.25
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for said in ("constructed test bed", "71.97 / 41.35", "interval spans zero", "vigos"):
        assert said in page
    assert "| sft | 3 | 0.250" in text and "reference" in text
    for name in ("score_prior", "measures", "curves", "divergence"):
        for form in ("png", "svg"):
            assert (tmp_path / "plots" / f"{name}.{form}").stat().st_size > 1000
    assert page.count("data:image/svg+xml") == 4


def test_pass_at_n_is_whether_any_sampled_answer_is_right(tmp_path):
    one, right = cell("seed=1", ROWS), dict.fromkeys(SHARES, 1.0)
    make(tmp_path, [(one, SHARES)])
    assert read_sweep(tmp_path).arms[1].runs[0].kinds["pass@n"] == {}  # of one sample
    with (cell_folder(tmp_path, one) / "responses.jsonl").open("a") as file:
        for line in answers(one.config, right, seed=1):
            if line["draw"]:
                file.write(json.dumps({**line, "draw": 2, "valid": False}) + "\n")
    rows = compare_arms(read_sweep(tmp_path).arms)
    assert answer_kinds(rows) == ["greedy", "sampled", "pass@n"]
    score = {kind: rows[1].means[kind]["score"] for kind in answer_kinds(rows)}
    assert [(e.mean, e.n) for e in score.values() if e] == [(0.5, 12), (0.75, 24), (1.0, 12)]
    assert rows[1].means["pass@n"]["valid"] is None


@pytest.mark.parametrize("world", [True, False])
def test_any_benchmark_is_a_column(tmp_path, world):
    asked = () if world else ("bench=vilp_f",)
    cells = [
        cell(f"routing={r}", f"seed={s}", *asked) for r in ("vigos", "opsd_structured") for s in (1, 2, 3)
    ]
    make(tmp_path, [(one, SHARES if world else None) for one in cells])
    for number, one in enumerate(cells):
        where = cell_folder(tmp_path, one)
        if not world:
            where.mkdir()
            summary = {"before": {}, "after": {}, "steps": 2, "seconds": {}, "config": asdict(one.config)}
            (where / "summary.json").write_text(json.dumps(summary))
        ask(where, "vilp_f", {"agrees": 0.9, "conflicts": 0.75 if number < 3 else 0.25})
        ask(where, "mmsi", {"": 0.5})
    table = read_sweep(tmp_path)
    rows = {row.arm.label: row for row in compare_arms(table.arms, "vigos")}
    benches = ["mmsi", "vilp_f, agrees", "vilp_f, conflicts"]
    shown = list(rows["vigos"].means["greedy"])
    assert shown == (["score", "prior", "other", "description", "valid", *benches] if world else benches)
    means = {m: rows["vigos"].means["sampled"][m].mean for m in benches}  # type: ignore[union-attr]
    assert means == {"mmsi": 0.5, "vilp_f, agrees": 0.9, "vilp_f, conflicts": 0.75}
    other = rows["opsd_structured"].differences["greedy"]
    assert other["vilp_f, conflicts"].mean == pytest.approx(-0.5) and other["mmsi"].mean == 0
    assert rows["untrained, structured prompt"].means["greedy"]["vilp_f, agrees"].mean == 0  # type: ignore[union-attr]
    write_report(tmp_path)
    assert "| vilp_f, conflicts |" in (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert ("PriorWorld is a constructed test bed" in page) == world
    assert (tmp_path / "plots" / "score_prior.png").exists() == world


def test_the_reference_can_be_named(tmp_path):
    make(tmp_path, pair(seeds=(1,)))
    rows = compare_arms(read_sweep(tmp_path).arms, "sft")
    assert rows[1].differences["greedy"]["score"].mean == 0.25 and rows[2].differences["greedy"] == {}
    with pytest.raises(ConfigError, match="did you mean sft"):
        compare_arms(read_sweep(tmp_path).arms, "stf")


@pytest.fixture
def no_plots(monkeypatch):
    """One test draws them; the others have no need to wait for that."""
    monkeypatch.setattr("vigos_cli.ablation.sweep_report.draw_all", lambda *_: [])


def test_what_is_not_done_is_said_and_not_counted(tmp_path, no_plots):
    cells = pair(seeds=(1, 2))
    make(tmp_path, [*cells[:3], (cells[3][0], None)])
    failed = cell_folder(tmp_path, cells[3][0])
    failed.mkdir()
    (failed / ERROR).write_text("Traceback\nRuntimeError: <b>boom</b>\n")
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "1 of 4 cells: failed" in page and "fewer than three seeds" in page
    assert "different numbers of seeds" in page
    assert "RuntimeError: &lt;b&gt;boom&lt;/b&gt;" in page and "<b>boom" not in page
    sft = compare_arms(read_sweep(tmp_path).arms)[2]
    assert sft.differences["greedy"]["score"].items == 12  # the seed that both have


def test_what_a_model_wrote_is_text_and_no_markup(tmp_path, no_plots):
    evil = '</p><script>alert(1)</script><img src=x onerror="alert(2)">'
    make(tmp_path, pair(seeds=(1,)))
    for path in tmp_path.glob("*/responses.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["text"] = line["answer"] = evil
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    listed = json.loads((tmp_path / "cells.json").read_text())
    for line in listed:
        line["label"] = f"<i>{line['config']['routing']['name']}"
    (tmp_path / "cells.json").write_text(json.dumps(listed))
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count('<span class="token invalid">&lt;/p&gt;&lt;script&gt;') == 8  # two arms, four pictures
    assert "&lt;script&gt;alert(1)" in page and "&lt;i&gt;vigos" in page
    assert "<script" not in page and "<img src=x" not in page and "<i>vigos" not in page
    assert "default-src 'none'" in page


# ---- real sweeps of the embedded model


@pytest.fixture
def vigos(monkeypatch, capsys, tmp_path):
    """Call `vigos ...` in an empty folder; gives exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vigos", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return int(str(stopped.value.code)), printed.out + printed.err

    return call


@pytest.mark.slow
def test_a_failed_cell_does_not_stop_the_others_and_is_tried_again(vigos, tmp_path, no_plots):
    sweep = ["ablate", "adapter.targets=[q_proj],[nope]", "seed=1", "out=s", *SMALL, *QUIET]
    code, said = vigos(*sweep)
    assert code == 1 and "cells that failed: 1 (" in said and "matches no layer" in said
    listed = [tmp_path / "s" / line["folder"] for line in read_list(tmp_path / "s")]
    assert [cell_state(path) for path in listed] == ["done", "failed"]
    assert "Traceback" in (listed[1] / ERROR).read_text()
    # The failed one took over the untrained answers before it failed: they do not depend on the adapter.
    assert (listed[1] / "before.jsonl").read_text() == (listed[0] / "before.jsonl").read_text()
    assert "matches no layer" in (tmp_path / "s" / "report.html").read_text()

    finished = (listed[0] / "summary.json").stat().st_mtime_ns
    tried = (listed[1] / ERROR).stat().st_mtime_ns
    code, said = vigos(*sweep)
    assert code == 1 and "2 cells, 1 of them to run" in said
    assert (listed[0] / "summary.json").stat().st_mtime_ns == finished
    assert (listed[1] / ERROR).stat().st_mtime_ns > tried

    assert vigos("ablate", "out=s", "cells=report", "reference=nobody")[0] == 2
    code, said = vigos("ablate", "out=s", "cells=report")
    assert code == 1 and "report in s/report.html" in said


@pytest.mark.slow
def test_palr_of_a_sweep(vigos, tmp_path, no_plots, monkeypatch):
    sweep = ["ablate", "routing=vigos,opsd", "seed=1", "out=s", *SMALL, *QUIET]
    code, said = vigos(*sweep, "palr_rows=3")
    assert code == 0 and "PALR of 2 to measure" in said
    listed = [tmp_path / "s" / line["folder"] for line in read_list(tmp_path / "s")]
    texts = {}
    for path in listed:
        for name in ("base", "own"):
            looked = path / "looking" / name
            lines = read_lines(looked / "rollouts.jsonl")
            assert len(lines) == 3 and "answer_support" in lines[0] and (looked / "rollouts.html").exists()
            config = json.loads((looked / "config.json").read_text())
            assert config["routing"]["student"] == "structured" and config["seed"] == 0
            assert (config["adapter"]["path"] is None) == (name == "base")
            texts[path, name] = [line["text"] for line in lines]
    assert texts[listed[0], "base"] == texts[listed[1], "base"]  # sampled once, scored twice
    second = json.loads((listed[1] / "looking" / "base" / "config.json").read_text())
    assert second["rollouts"] == str(listed[0] / "looking" / "base")
    assert "PALR by segment" in (tmp_path / "s" / "report.html").read_text()

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*/looking/looked.json")}
    assert vigos(*sweep, "palr_rows=3")[0] == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}

    def fail(*_):
        raise RuntimeError("no such luck")

    monkeypatch.setattr("vigos_cli.analysis.rollout_run.sample_settled", fail)
    code, said = vigos(*sweep, "palr_rows=4")
    assert code == 1 and "measurements of PALR that failed: 2 (" in said
    assert all(cell_state(path) == "done" for path in listed)
    assert "failed (RuntimeError: no such luck)" in (tmp_path / "s" / "report.html").read_text()


def start(tmp_path, *overrides):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vigos_cli", "ablate", "out=s", *SMALL, *overrides]
    return subprocess.Popen(command, cwd=tmp_path, env=environ, start_new_session=True)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    sweep = tmp_path / "s"
    process = start(tmp_path, "seed=1,2")
    deadline = time.monotonic() + 300
    while len(list(sweep.glob("*/before.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    states = {line["folder"]: cell_state(sweep / line["folder"]) for line in read_list(sweep)}
    first, second = states
    assert states[first] == "done" and states[second] != "done"
    finished = (sweep / first / "summary.json").stat().st_mtime_ns
    assert start(tmp_path, "seed=1,2,3").wait(300) == 0
    listed = [line["folder"] for line in read_list(sweep)]
    assert listed[:2] == [first, second] and len(listed) == 3
    assert all(cell_state(sweep / name) == "done" for name in listed)
    assert (sweep / first / "summary.json").stat().st_mtime_ns == finished
    assert "3 of 3 runs are done" in (sweep / "report.html").read_text()


@pytest.mark.slow
def test_cells_side_by_side(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    assert start(tmp_path, "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2").wait(300) == 0
    listed = read_list(tmp_path / "s")
    assert len(listed) == 2 and all(cell_state(tmp_path / "s" / line["folder"]) == "done" for line in listed)
    assert (tmp_path / "s" / "report.html").exists()
