"""The commands' watchdog: what it passes on, and when it stops the base."""

from __future__ import annotations

import math

import pytest

from v2w.safety.command_watchdog import NS, CommandWatchdog
from v2w.safety.limits import STOP, Twist

AHEAD: Twist = (0.4, 0.0, 0.1)


class Base:
    """A base that keeps the last command, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.sent: list[Twist] = []
        self.now_s = 0.0
        self.watchdog = CommandWatchdog(self.sent.append, lambda: round(self.now_s * NS), 0.25)

    def after(self, seconds: float) -> str:
        self.now_s += seconds
        return self.watchdog.look()


@pytest.fixture
def base() -> Base:
    return Base()


def test_commands_pass_as_they_are_while_they_come(base: Base) -> None:
    for _ in range(10):
        assert base.watchdog.command(AHEAD) == ""
        assert base.after(0.2) == ""
    assert base.sent == [AHEAD] * 10


def test_the_base_is_stopped_once_when_commands_end(base: Base) -> None:
    base.watchdog.command(AHEAD)
    assert base.after(0.2) == ""
    assert base.after(0.1) == "no command for 0.30 s"
    assert base.after(5.0) == ""
    assert base.sent == [AHEAD, STOP]
    base.watchdog.command(AHEAD)
    assert base.sent[-1] == AHEAD, "a new plan is driven"


def test_a_base_that_stands_is_left_alone(base: Base) -> None:
    assert base.after(9.0) == ""
    base.watchdog.command(AHEAD)
    base.watchdog.command(STOP)
    assert base.after(9.0) == ""
    assert not base.watchdog.end()
    assert base.sent == [AHEAD, STOP]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_stop(base: Base, bad: float) -> None:
    base.watchdog.command(AHEAD)
    assert "nan" in base.watchdog.command((0.1, 0.0, bad)) or math.isinf(bad)
    assert base.sent[-1] == STOP and not base.watchdog.moving


def test_its_end_is_a_stop(base: Base) -> None:
    base.watchdog.command(AHEAD)
    assert base.watchdog.end()
    assert base.sent == [AHEAD, STOP]
