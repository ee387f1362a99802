"""A profiled run has the results of the same run without a profile, and writes what can be sent."""

from __future__ import annotations

import gzip
import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import distill_config
from runs import adapter, same

from vigos_cli.config.provenance import claim
from vigos_cli.config.schema import on_resume
from vigos_cli.training.distill import distill
from vigos_cli.training.step_profile import TEXT, TRACE, StepProfile
from vigos_cli.utils import process_group
from vigos_cli.utils.errors import ConfigError

FEW = (
    *("trainer.steps=2", "trainer.batch=2", "trainer.checkpoint_every=1", "rollout.max_new_tokens=40"),
    *("bench.tasks.priorworld.rows=1", "bench.samples=0", "bench.max_new_tokens=8"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[bool, Path]:
    """The folder of a run with a profile, and of the same run without one."""
    found = {}
    for profiled in (True, False):
        found[profiled] = tmp_path_factory.mktemp("home-of-somebody") / "run"
        distill(distill_config(*FEW, f"out={found[profiled]}", f"trainer.profile={profiled}"))
    return found


def steps_of(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without times and memory."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    changing = ("seconds", "tokens_per_second", "peak")
    return [{key: value for key, value in line.items() if not key.startswith(changing)} for line in lines]


@pytest.mark.slow
def test_a_profile_does_not_change_the_results(runs):
    assert same(adapter(runs[True]), adapter(runs[False]))
    assert steps_of(runs[True]) == steps_of(runs[False]) and len(steps_of(runs[True])) == 2
    for name in ("before.json", "responses.jsonl"):
        assert (runs[True] / name).read_bytes() == (runs[False] / name).read_bytes()
    more = {path.name for path in runs[True].iterdir()} - {path.name for path in runs[False].iterdir()}
    assert more == {TEXT, TRACE}


@pytest.mark.slow
def test_the_table_has_every_phase_and_the_step_before(runs):
    text = (runs[True] / TEXT).read_text()
    assert text.startswith("vigos profile: step 2, 2 rollouts, ") and "the seconds of step 1" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    phases = {row[0]: row for row in rows if len(row) == 8}
    assert list(phases) == ["rollout", "teachers", "learn, without the loss", "loss", "the rest", "step"]
    for name in ("rollout", "teachers", "learn, without the loss", "loss"):
        seconds, before, operators, cpu = (float(phases[name][i].replace(",", "")) for i in (2, 4, 5, 6))
        assert 0 < cpu <= seconds and before > 0 and operators > 50
        assert float(phases[name][7]) > 0, "a peak of memory"
    assert any("aten::addmm" in row[1] for row in rows if row[0] != "phase" and len(row) == 5)
    whole = float(phases["step"][2])
    assert sum(float(row[2]) for name, row in phases.items() if name != "step") == pytest.approx(
        whole, abs=0.01
    )


@pytest.mark.slow
def test_the_trace_can_be_opened_and_neither_file_names_a_place(runs):
    packed = gzip.decompress((runs[True] / TRACE).read_bytes()).decode()
    events = json.loads(packed)["traceEvents"]
    marks = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert {"vigos:rollout", "vigos:teachers", "vigos:learn", "vigos:loss", "vigos:step"} <= set(marks)
    assert sum(event.get("cat") == "cpu_op" for event in events) > 1000
    for text in (packed, (runs[True] / TEXT).read_text()):
        for private in ("home-of-somebody", "/tmp", str(Path.home()), "host_name", f'"{platform.node()}"'):
            assert private not in text, private


@pytest.mark.slow
def test_the_third_step_of_the_process_is_recorded_or_the_last(monkeypatch):
    def recorded(step: int, steps: int, *overrides: str) -> int | None:
        learner: Any = SimpleNamespace(step=step)
        return StepProfile(learner, distill_config(*overrides), steps).recorded

    on = "trainer.profile=true"
    assert recorded(0, 50, on) == 3 and recorded(20, 50, on) == 23  # resumed
    assert recorded(0, 2, on) == 2 and recorded(49, 50, on) == 50
    assert recorded(0, 50) is None
    monkeypatch.setattr(process_group, "rank", lambda: 1)
    assert recorded(0, 50, on) is None, "only the first process records"


@pytest.mark.slow
def test_the_key_may_change_when_a_run_is_resumed(runs):
    assert on_resume("trainer.profile") == "same bytes"
    claim(runs[False], distill_config(*FEW, f"out={runs[False]}", "trainer.profile=true", "resume=auto"))
    with pytest.raises(ConfigError, match=r"trainer\.profile .* trainer\.dry_run"):
        distill_config("trainer.profile=true", "trainer.dry_run=true")
