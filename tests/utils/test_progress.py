"""The progress of long work is shown while a unit of work is not finished."""

from __future__ import annotations

import time

import pytest

from vigos_cli.utils import progress
from vigos_cli.utils.progress import Bar, sampled


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves by itself."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_inside_a_batch_the_line_has_tokens_rate_and_the_longest_time_left(clock, capsys):
    with Bar("bench", 10, answers=2) as bar:
        assert bar.line() == "bench 0/10, 0 s so far"
        clock[0] += 60
        sampled(tokens=1200, answers=1.5)
        sampled(tokens=1200, answers=0.5)  # together one item of two answers: nine times as much is left
        assert bar.line() == "bench 0/10, at most 9 min left, 2,400 tokens, 40 tokens/s"
        bar.advance(by=5)
        assert bar.line() == "bench 5/10, 60 s left, 2,400 tokens, 40 tokens/s"
        bar.advance(by=5)
    assert capsys.readouterr().err == "bench 10/10, 0 s left, 2,400 tokens, 40 tokens/s\n"


def test_an_unfinished_step_does_not_make_the_forecast_longer(clock):
    with Bar("distill", 3) as bar:
        clock[0] += 60
        bar.advance("loss 0.5")
        assert bar.line() == "distill 1/3, 2 min left, 0.02/s  loss 0.5"
        clock[0] += 45
        assert bar.line() == "distill 1/3, 75 s left, 0.01/s  loss 0.5"


def test_work_done_before_counts_neither_for_rate_nor_for_time(clock):
    with Bar("bench", 10) as bar:
        bar.skip(8)
        clock[0] += 30
        bar.advance()
        assert bar.line() == "bench 9/10, 30 s left, 0.03/s"


def test_a_line_is_written_while_nothing_is_counted(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with Bar("bench", 10):
        time.sleep(0.3)
    written = capsys.readouterr().err.splitlines()
    assert len(written) >= 3 and set(written) == {"bench 0/10, 0 s so far"}


def test_a_quiet_bar_and_a_closed_bar_write_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with Bar("bench", 1, quiet=True) as bar:
        bar.advance()
        time.sleep(0.1)
    with Bar("other", 2):
        pass
    time.sleep(0.1)
    sampled(tokens=5, answers=1)  # no bar is open
    assert capsys.readouterr().err == ""


def test_the_innermost_bar_counts(clock):
    with Bar("outer", 2) as outer:
        with Bar("inner", 2) as inner:
            clock[0] += 1
            sampled(tokens=7, answers=0)
            assert "7 tokens" in inner.line() and "tokens" not in outer.line()
        sampled(tokens=5, answers=0)
        assert "5 tokens" in outer.line()


def test_on_a_terminal_the_bar_shows_the_part_of_the_work(clock, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with Bar("bench", 4, answers=1) as bar:
        clock[0] += 2
        sampled(tokens=100, answers=0.5)
        (task,) = bar._bar.tasks  # type: ignore[union-attr]
        assert task.completed == 0.5 and task.fields["rate"] == "100 tokens, 50 tokens/s"


def test_work_after_sampling_is_named_and_promises_no_time(clock):
    with Bar("rollout", 8, answers=1) as bar:
        clock[0] += 60
        sampled(tokens=600, answers=8)
        with bar.phase("teachers score"):
            clock[0] += 40
            assert bar.line() == "rollout 0/8, 2 min so far, 600 tokens, 10 tokens/s  teachers score"
        bar.advance(by=4)  # 4 of 8 took 100 s with the scoring
        assert bar.line() == "rollout 4/8, 2 min left, 600 tokens, 10 tokens/s"
        clock[0] += 60
        sampled(tokens=600, answers=4)
        with bar.phase("teachers score"):
            assert bar.line() == "rollout 4/8, 40 s left, 1,200 tokens, 10 tokens/s  teachers score"


def test_a_slow_rate_is_not_zero(clock):
    with Bar("distill", 1) as bar:
        clock[0] += 100
        sampled(tokens=36, answers=0)
        assert bar.line() == "distill 0/1, 2 min so far, 36 tokens, 0.36 tokens/s"
