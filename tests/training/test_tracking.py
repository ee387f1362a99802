"""Metrics and answers with pictures are stored by each tracker, and a missing key is not an error."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from PIL import Image

from vigos_cli.config.schema import TrackingConfig
from vigos_cli.training import tracking
from vigos_cli.training.tracking import Tracker
from vigos_cli.types import Response, Sample
from vigos_cli.utils.errors import ConfigError, UserError

LINE = {"step": 1, "loss": 0.5, "grad_norm": None, "eval": {"score": 0.25, "families": {"x": 1.0}}}
SAMPLE = Sample("a", "What?", "red", (Image.new("RGB", (8, 8), "red"),))
ANSWER = Response("a", 0, "text", "", "red", True, False, 3)


def track(name: str, out, **options) -> None:
    tracker = Tracker(TrackingConfig(name=name, **options), out, {"seed": 1}, from_step=0)
    tracker.log(LINE)
    tracker.evaluation("after", 1, {"score": 0.75, "n": {}}, [SAMPLE], [ANSWER])
    tracker.close()
    assert json.loads((out / "metrics.jsonl").read_text()) == LINE


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])  # online mode without a key becomes offline
def test_wandb_keeps_config_metrics_and_completions(tmp_path, monkeypatch, mode, capsys):
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    track("wandb", tmp_path, mode=mode)
    (run,) = tmp_path.glob("wandb/offline-run-*")
    (store,) = run.glob("*.wandb")
    deadline = time.monotonic() + 30  # a separate process writes the file a little later
    while b"after/completions" not in (kept := store.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert b"after/completions" in kept and b"loss" in kept and b"eval/score" in kept and b"seed" in kept
    assert list(run.glob("files/media/table/after/completions*.json"))
    staged = [file.read_bytes()[:8] for file in tmp_path.glob(".local/share/wandb/artifacts/staging/*")]
    assert b"\x89PNG\r\n\x1a\n" in staged  # `wandb sync` uploads pictures from this folder
    assert ("runs offline" in capsys.readouterr().err) == (mode == "online")


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A machine on which nobody has used wandb."""
    for name in ("WANDB_API_KEY", "NETRC", "WANDB_RUN_ID", "WANDB_MODE", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def stores(out) -> dict[str, str]:
    """The ids of the offline runs in a folder."""
    return {run.name: run.name.rsplit("-", 1)[1] for run in out.glob("wandb/offline-run-*")}


@pytest.mark.slow
def test_a_restarted_run_continues_the_same_wandb_run(tmp_path, alone):
    first, other = tmp_path / "first", tmp_path / "other"
    for out in (first, other, first):
        out.mkdir(exist_ok=True)
        if stores(out):  # names of offline runs have a resolution of one second
            time.sleep(1.1)
        with Tracker(TrackingConfig(name="wandb"), out, {"seed": 1}, from_step=0) as tracker:
            tracker.log({"step": 1, "loss": 0.5})
    assert len(stores(first)) == 2 and len(set(stores(first).values())) == 1
    assert json.loads((first / "wandb-run.json").read_text())["id"] in stores(first).values()
    assert not set(stores(first).values()) & set(stores(other).values())


@pytest.mark.slow
def test_the_run_id_of_a_sweep_agent_is_used(tmp_path, alone, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "fromagent")
    with Tracker(TrackingConfig(name="wandb"), tmp_path, {}, from_step=0):
        pass
    assert set(stores(tmp_path).values()) == {"fromagent"}
    assert json.loads((tmp_path / "wandb-run.json").read_text())["id"] == "fromagent"


@pytest.mark.slow
def test_wandb_keeps_a_step_that_is_logged_again(tmp_path, alone):
    """This happens if a run resumes from a checkpoint older than its last logged step."""
    with Tracker(TrackingConfig(name="wandb"), tmp_path, {}, from_step=0) as tracker:
        for line in ({"step": 5, "early": 1.0}, {"step": 3, "again": 2.0}, {"step": 4, "later": 3.0}):
            tracker.log(line)
        tracker.evaluation("after", 2, {"score": 0.75}, [SAMPLE], [ANSWER])
    (store,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 30
    while b"after/completions" not in (kept := store.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(name in kept for name in (b"early", b"again", b"later", b"after/score", b"after/completions"))


class Recorded:
    """A fake wandb run that records its calls."""

    def __init__(self):
        self.logged, self.metrics, self.codes = [], {}, []

    def log(self, values, step=None):
        self.logged.append((values, step))

    def define_metric(self, name, step_metric=None):
        self.metrics[name] = step_metric

    def finish(self, exit_code=None):
        self.codes.append(exit_code)


@pytest.fixture
def recorded(monkeypatch):
    import wandb

    run, starts = Recorded(), []
    monkeypatch.setattr(wandb, "init", lambda **options: starts.append(options) or run)
    return run, starts


def test_wandb_is_told_how_a_run_ended(tmp_path, recorded):
    run, starts = recorded
    config = TrackingConfig(name="wandb")
    with pytest.raises(ZeroDivisionError), Tracker(config, tmp_path, {}, from_step=0) as tracker:
        tracker.log({"step": 1, "loss": 0.5})
        raise ZeroDivisionError
    assert run.codes == [1]
    with pytest.raises(KeyboardInterrupt), Tracker(config, tmp_path, {}, from_step=0):
        raise KeyboardInterrupt
    with Tracker(config, tmp_path, {}, from_step=0) as tracker:
        tracker.close()
        tracker.close(failed=True)
    assert run.codes == [1, 1, 0], "the first call counts"
    assert {start["id"] for start in starts} == {json.loads((tmp_path / "wandb-run.json").read_text())["id"]}
    assert {start["resume"] for start in starts} == {"allow"}


def test_charts_use_the_optimizer_step_as_axis(tmp_path, recorded):
    run, _ = recorded
    with Tracker(TrackingConfig(name="wandb"), tmp_path, {}, from_step=0) as tracker:
        tracker.log(LINE)
    assert run.metrics == {"step": None, "*": "step"}
    assert run.logged == [({"loss": 0.5, "eval/score": 0.25, "step": 1}, None)]


def test_a_tracker_closes_its_file_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), Tracker(TrackingConfig(), tmp_path, {}, from_step=0) as tracker:
        tracker.log(LINE)
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="closed file"):
        tracker.log(LINE)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == LINE


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        track("tensorboard", tmp_path)


def test_an_unknown_tracker_is_named():
    with pytest.raises(ConfigError, match="did you mean wandb"):
        TrackingConfig(name="wandbb")


class BrokenStore:
    """A store that fails from its second step on."""

    def log(self, step, values):
        if step > 1:
            raise TimeoutError("no answer")

    def completions(self, name, step, rows): ...

    def close(self, failed):
        raise AssertionError("a store that has failed is left alone")


def test_a_run_goes_on_without_a_store_that_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "open_store", lambda *_: BrokenStore())
    with Tracker(TrackingConfig(name="wandb"), tmp_path, {}, from_step=0) as tracker:
        for step in (1, 2, 3):
            tracker.log({"step": step, "loss": 0.5})
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert capsys.readouterr().err.count("tracking=wandb failed (no answer): the run goes on without it") == 1


def test_wandb_gives_up_uploading_at_the_end(tmp_path, alone):
    tracker = Tracker(TrackingConfig(name="wandb"), tmp_path, {}, from_step=0)
    assert tracker._store._run.settings.finish_timeout == tracking.FINISH  # type: ignore[attr-defined]
    tracker.close()


def test_wandb_is_offline_if_its_server_does_not_answer(tmp_path, alone, monkeypatch, capsys):
    import wandb
    from wandb.errors import CommError

    calls = []

    def refuse(**options):
        calls.append(options["mode"])
        if options["mode"] == "online":
            raise CommError("timed out")
        return SimpleNamespace(define_metric=lambda *_, **__: None, log=calls.append, finish=lambda **_: None)

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setattr(wandb, "teardown", lambda: calls.append("teardown"))
    with Tracker(TrackingConfig(name="wandb", mode="online"), tmp_path, {}, from_step=0) as tracker:
        tracker.log({"step": 1, "loss": 0.5})
    assert calls == ["online", "teardown", "offline", {"loss": 0.5, "step": 1}]
    assert "wandb runs offline (timed out)" in capsys.readouterr().err
