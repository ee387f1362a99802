"""A run that was killed and resumed, or split over processes, equals an uninterrupted one."""

import json
import shutil
import signal
import time
from dataclasses import asdict

import pytest
import warm
from conftest import distill_config
from runs import RUN, adapter, same, steps_logged, vigos

from vigos_cli.config.provenance import same_run
from vigos_cli.training.distill import distill
from vigos_cli.utils.errors import ConfigError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    vigos(out)
    return out


def killed_when(out, reached, sig=signal.SIGKILL) -> int:
    """Start the run, send it a signal once `reached()` says so, and return its exit code."""
    process = warm.start(warm.vigos, [*RUN, f"out={out}", "resume=auto"])
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if reached():
            process.send_signal(sig)
            break
        time.sleep(0.005)
    return process.wait(timeout=300)


def assert_as_uninterrupted(out, whole):
    assert same(adapter(out), adapter(whole))
    strip = ("seconds", "tokens_per_second", "peak")
    lines = [
        [{k: v for k, v in json.loads(line).items() if not k.startswith(strip)} for line in text.splitlines()]
        for text in ((folder / "metrics.jsonl").read_text() for folder in (out, whole))
    ]
    assert lines[0] == lines[1]
    after = [json.loads((folder / "summary.json").read_text())["after"] for folder in (out, whole)]
    assert after[0] == after[1]


@pytest.mark.slow
def test_a_run_with_its_own_prompt_texts_can_be_resumed(tmp_path):
    texts = tmp_path / "mine.yaml"
    texts.write_text("structured: 'Describe the image, think, then answer: {question}'\n")
    few = ("trainer.steps=1", "trainer.batch=2", "bench.tasks.priorworld.rows=1", "bench.samples=0")

    def run(name: str, *overrides: str):
        return distill(distill_config(*few, f"out={tmp_path / name}", "resume=auto", *overrides))

    first = run("a", f"prompt.path={texts}")
    assert run("a", f"prompt.path={texts}") == json.loads(json.dumps(first))
    trained = f"adapter.path={tmp_path / 'a' / 'adapter'}"
    second = run("b", trained)
    assert second and second["config"]["prompt"]["structured"].startswith("Describe the image, think")
    assert run("b", trained) == json.loads(json.dumps(second))


@pytest.mark.slow
def test_a_resumed_4bit_run_equals_an_uninterrupted_one_exactly(tmp_path):
    """The folder is that of a run that was killed after its checkpoint in the middle."""
    few = ("adapter=qlora", *RUN[1:], "trainer.steps=4", "bench.samples=0", "resume=auto")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    summary = distill(distill_config(*few, f"out={whole}"))
    assert summary and summary["quantised_modules"] > 0
    shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("step-000004", "summary.json", "adapter"))
    distill(distill_config(*few, f"out={cut}"))
    assert_as_uninterrupted(cut, whole)
    assert any(value.any() for name, value in adapter(whole).items() if "lora_B" in name), (
        "the adapter changed"
    )


@pytest.mark.slow
def test_a_run_killed_at_several_moments_ends_with_the_same_adapter(tmp_path, whole):
    out = tmp_path / "run"
    moments = [
        lambda: (out / "config.json").exists(),  # during the first evaluation
        lambda: steps_logged(out) >= 1,  # between checkpoints
        lambda: any((out / "checkpoints").glob(".draft-*/adapter.safetensors")),  # while saving
        lambda: steps_logged(out) >= 3,  # during a rollout or the update
        lambda: steps_logged(out) >= 6,  # after the last step, during the last evaluation
    ]
    for reached in moments:
        assert killed_when(out, reached) == -signal.SIGKILL
        assert not (out / "summary.json").exists()
    vigos(out, "resume=auto")
    assert_as_uninterrupted(out, whole)
    again = vigos(out, "resume=auto")
    assert "finished already" in again.stdout


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_exit_code_130(tmp_path, whole):
    out = tmp_path / "run"
    assert killed_when(out, lambda: steps_logged(out) >= 3, sig=signal.SIGINT) == 130
    logged = steps_logged(out)
    assert (out / "checkpoints" / f"step-{logged:06d}" / "state.json").exists(), (
        "no checkpoint of the last step"
    )
    vigos(out, "resume=auto")
    assert_as_uninterrupted(out, whole)


@pytest.mark.slow
def test_two_processes_learn_the_same_as_one(tmp_path):
    """Only one step, because Adam then amplifies the rounding differences of tiny gradients."""
    settings = ["trainer.steps=1", "trainer.optimizer=adamw", "loss.reduction=term_tokens"]
    vigos(tmp_path / "one", *settings)
    both = warm.start_both(warm.vigos, [*RUN, *settings, f"out={tmp_path / 'two'}"])
    assert [process.wait(600) for process in both] == [0, 0], both[0].printed(1)
    one, two = (json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("one", "two"))
    for key in ("loss", "grad_norm", "supervised_tokens", "rollouts", "valid_rate", "divergence/description"):
        assert one[key] == pytest.approx(two[key], rel=1e-5), key
    reports = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert reports[0]["before"] == reports[1]["before"]
    assert reports[1]["processes"] == 2


def test_a_resumed_run_with_another_configuration_is_refused():
    saved = asdict(distill_config())
    same_run(saved, distill_config("out=elsewhere", "resume=auto"))
    with pytest.raises(ConfigError, match=r"trainer\.lr"):
        same_run(saved, distill_config("trainer.lr=1"))
