"""How far a piece of work is: a bar on a terminal, few lines in a log file."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from v2w_core import progress as module
from v2w_core.progress import LINE_EVERY_S, progress, write


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def log(monkeypatch, clock):
    """Standard error, redirected to a file."""
    file = Screen(terminal=False)
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=file))
    return file


def lines(file):
    return file.getvalue().splitlines()


def test_a_log_gets_a_line_now_and_then_and_the_last(log, clock):
    for number in progress(range(10_000), desc="predict", unit="window"):
        assert 0 <= number < 10_000
        clock[0] += 1 / 64
    shown = lines(log)
    assert len(shown) == 10_000 // 64 // LINE_EVERY_S + 1
    assert shown[0] == "predict: 1280 of 10000 (13%), 0:20 so far, about 2:16 left, 64 window/s"
    assert shown[-1] == "predict: 10000 of 10000 (100%), 2:36 so far, 64 window/s"
    assert "\r" not in log.getvalue()
    assert "\x1b" not in log.getvalue()


def test_short_work_gets_the_last_line_only_and_as_a_part_none(log, clock):
    for transient in (False, True):
        for _ in progress(range(100), desc="plan", unit="drive", transient=transient):
            clock[0] += LINE_EVERY_S / 200
    assert len(lines(log)) == 1
    for _ in progress(range(3), desc="part", unit="x", transient=True):
        clock[0] += LINE_EVERY_S
    assert len(lines(log)) > 2


def test_counted_by_hand_with_a_note_from_where_it_was_resumed(log, clock):
    with progress(total=100, desc="train", unit="step", initial=50) as bar:
        clock[0] += 100
        bar.note("loss 0.25")
        bar.update(10)
    assert lines(log) == [
        "train: 60 of 100 (60%), 1:40 so far, about 6:40 left, 10 s/step, loss 0.25"
    ]


def test_unknown_total_and_nothing_done(log, clock):
    assert list(progress(iter("ab"), desc="convert", unit="frame")) == ["a", "b"]
    assert list(progress([], desc="empty", unit="frame")) == []
    assert lines(log) == ["convert: 2, 0:00 so far", "empty: 0, 0:00 so far"]


def test_an_error_says_where_it_stood(log, clock):
    def broken():
        yield 1
        raise OSError

    with pytest.raises(OSError):
        list(progress(broken(), total=5, desc="read", unit="file"))
    assert lines(log) == ["read: 1 of 5 (20%), 0:00 so far"]


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    screen = Screen(terminal=True)
    monkeypatch.setattr("sys.stderr", screen)
    with progress(total=3, desc="drive", unit="step") as bar:
        bar.update(2)
        bar.note("loss 1")
        write("between")
    assert "drive:" in screen.getvalue()
    assert "2/3" in screen.getvalue()
    assert "\r" in screen.getvalue()
    assert capsys.readouterr().out == "between\n"
