"""Commands of bags: what the robot was told beside what it did, or a clear word that it is one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, VELOCITY, BagMaker, pose_at
from convert_toys import converted, fails

from v2w_core.cli import main
from v2w_core.data.bags.commands import TIMEOUT_S, Commands
from v2w_core.data.notices import notices_from
from v2w_core.geometry import relative_motion

STEP = relative_motion(pose_at(0.0), pose_at(0.25))
TOPIC = ("--commands", "/cmd_vel")


def bag(
    folder: Path,
    *,
    until: float = 3.2,
    stamped: bool = False,
    factor: float = 2.0,
    hz: int = 20,
    bad: float | None = None,
    shift_ns: int = 0,
) -> Path:
    """A drive whose robot is told ``factor`` times what it does, until a time in seconds."""
    maker = BagMaker(folder).drive(3.0)
    for number in range(-hz, round(until * hz)):
        stamp = START_NS + number * 10**9 // hz + shift_ns
        speed = factor * VELOCITY
        if bad is not None and number == 10:
            speed = np.array([bad, 0.0, 0.0])
        if stamped:
            kind = "geometry_msgs/msg/TwistStamped"
            maker.message("/cmd_vel", kind, stamp, "base_link", twist=maker.velocity(*speed))
        else:
            twist = maker.velocity(*speed)
            fields = {"linear": twist.linear, "angular": twist.angular}
            maker.bare("/cmd_vel", "geometry_msgs/msg/Twist", stamp, **fields)
    return maker.close()


@pytest.mark.parametrize("stamped", [False, True])
def test_commands_are_the_actions_and_odometry_the_motion(tmp_path: Path, stamped: bool) -> None:
    (episode,) = converted(bag(tmp_path / "drive", stamped=stamped), tmp_path / "out", *TOPIC)
    assert episode.has_commands and episode.contact is None
    told = relative_motion((0.0, 0.0, 0.0), arc(2.0 * VELOCITY, 0.25))
    assert np.abs(episode.actions - told).max() < 1e-3
    assert np.abs(episode.motion - STEP).max() < 5e-3
    assert episode.action_spec.high[0] > told[0], "bounds are those of the commands"
    assert notices_from(episode.attributes) == []


def arc(velocity: np.ndarray, seconds: float) -> tuple[float, float, float]:
    """Where a constant velocity leads to from the origin."""
    vx, vy, wz = velocity
    yaw = wz * seconds
    sin, cos = np.sin(yaw), np.cos(yaw)
    return (vx * sin - vy * (1 - cos)) / wz, (vx * (1 - cos) + vy * sin) / wz, yaw


def test_without_the_option_the_displacement_stands_for_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (episode,) = converted(bag(tmp_path / "drive"), out)
    assert "commands apart: --commands /cmd_vel" in capsys.readouterr().out
    assert not episode.has_commands
    assert np.array_equal(episode.actions, episode.motion)
    assert main(["data", "info", str(out), "--json", str(tmp_path / "i.json")]) == 0
    assert "displacements" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "i.json").read_text())["episodes"]
    assert (row["actions_are"], row["contact"]) == ("displacements", None)


def test_data_info_says_that_actions_are_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    converted(bag(tmp_path / "drive"), out, *TOPIC)
    assert "commands of /cmd_vel, motion apart" in capsys.readouterr().out
    assert main(["data", "info", str(out)]) == 0
    assert "commands  " in capsys.readouterr().out


def test_a_robot_that_hears_nothing_stands_still_half_a_second_later(tmp_path: Path) -> None:
    (episode,) = converted(bag(tmp_path / "drive", until=1.0), tmp_path / "out", *TOPIC)
    codes = {notice.code for notice in notices_from(episode.attributes)}
    assert codes == {"commands_silent"}
    moves = np.abs(episode.actions[:, 0]) > 0.01
    seconds = (episode.stamps_ns[1:] - episode.stamps_ns[0]) * 1e-9
    assert moves[seconds <= 1.0 + TIMEOUT_S - 0.26].all()
    assert not moves[seconds > 1.0 + TIMEOUT_S + 0.26].any()
    assert np.abs(episode.motion - STEP).max() < 5e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_command_that_is_no_velocity_is_refused(
    tmp_path: Path, bad: float, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    message = fails(capsys, bag(tmp_path / "drive", bad=bad), out, *TOPIC)
    assert "/cmd_vel[30]: twist" in message and "finite velocities" in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--commands", "/told"), "--commands: a topic of the bag"),
        (("--commands", "/odom"), "--commands: a topic of type"),
        ((*TOPIC, "--motion-from", "commands"), "--commands: not with --motion-from commands"),
        (("--commands", "/cmd_vel", "--kind", "recon"), "recon"),
    ],
)
def test_options_that_cannot_be(
    tmp_path: Path,
    options: tuple[str, ...],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert expected in fails(capsys, bag(tmp_path / "drive"), out, *options)


def test_commands_of_another_clock_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    source = bag(tmp_path / "drive", shift_ns=3600 * 10**9)
    message = fails(capsys, source, out, *TOPIC)
    assert "same clock" in message and "--stamps receive" in message


def test_of_several_bags_one_without_commands_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that episodes with commands and without never come from one conversion."""
    bag(tmp_path / "bags" / "a")
    BagMaker(tmp_path / "bags" / "b").drive(3.0).close()
    (episode,) = converted(tmp_path / "bags", tmp_path / "out", *TOPIC)
    assert episode.has_commands
    assert "b is left out" in capsys.readouterr().err


def test_a_command_holds_until_the_next_within_a_step() -> None:
    """Told 1 m/s from 0.1 s on and 3 m/s from 0.2 s on: 0.05 m in the first step of 0.15 s."""
    second = 10**9
    line = np.array([0.1, 0.2, 0.9]) * second
    twist = np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    commands = Commands("/cmd_vel", line.astype(np.int64), twist)
    times = np.array([0.0, 0.15, 0.3, 0.6, 0.8, 1.0]) * second
    steps = commands.over(times.astype(np.int64))
    assert steps.dtype == np.float32
    # 3 m/s is told until 0.7 s: half a second after 0.2 s.
    assert np.allclose(steps[:, 0], [0.05, 0.05 + 0.3, 0.9, 0.3, 0.0], atol=1e-6)
    assert np.allclose(steps[:, 1:], 0.0)


def test_turns_are_integrated_along_the_arc() -> None:
    commands = Commands("/cmd_vel", np.array([0]), np.array([[1.0, 0.0, 3.0]]))
    (step,) = commands.over(np.array([0, 4 * 10**8]))
    exact = arc(np.array([1.0, 0.0, 3.0]), 0.4)
    assert np.allclose(step, exact, atol=1e-3)
