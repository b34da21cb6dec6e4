"""Faults of the simulated base's camera and odometry, each a function of the base."""

from __future__ import annotations

import array
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image

from driven_robot import BaseRobot
from v2w.messages import conversions

Fault = Callable[[BaseRobot], None]


def loses_camera(robot: BaseRobot) -> None:
    """No image comes any more."""
    robot.change_image = lambda message: False


def freezes(robot: BaseRobot) -> None:
    """Every image has the pixels of the first, with a fresh stamp."""
    kept: list[Any] = []

    def change(message: Image) -> None:
        kept.append(message.data)
        message.data = kept[0]

    robot.change_image = change


def shows(robot: BaseRobot, value: int) -> None:
    """Every pixel has one value."""

    def change(message: Image) -> None:
        message.data = array.array("B", np.full(len(message.data), value, np.uint8).tobytes())

    robot.change_image = change


def recodes(robot: BaseRobot, encoding: str) -> None:
    """Images say that they have another encoding."""
    robot.change_image = lambda message: setattr(message, "encoding", encoding)


def shortens(robot: BaseRobot) -> None:
    """Images have 100 bytes."""
    robot.change_image = lambda message: setattr(message, "data", message.data[:100])


def loses_odometry(robot: BaseRobot) -> None:
    """No odometry comes any more."""
    robot.change_odometry = lambda message: False


def shifts(robot: BaseRobot, x: float = 0.0, yaw: float = 0.0) -> None:
    """The odometry says another place [m, rad]."""

    def change(message: Odometry) -> None:
        ox, oy, _, oyaw = conversions.planar_pose(message.pose.pose)
        message.pose.pose = conversions.pose_message(ox + x, oy, oyaw + yaw)

    robot.change_odometry = change


def sticks(robot: BaseRobot) -> None:
    """The odometry repeats a pose, with fresh stamps."""
    kept: list[Any] = []

    def change(message: Odometry) -> None:
        kept.append(message.pose.pose)
        message.pose.pose = kept[0]

    robot.change_odometry = change


def is_blocked(robot: BaseRobot) -> None:
    """Commands move the robot no more."""
    robot.blocked = True


def is_ahead_then_silent(robot: BaseRobot) -> None:
    """Three messages are stamped 10 s ahead, then none comes."""
    seen: list[int] = []

    def change(message: Odometry) -> Any:
        seen.append(1)
        message.header.stamp.sec += 10
        return len(seen) <= 3 or False

    robot.change_odometry = change


def says(robot: BaseRobot, part: str, name: str, value: float) -> None:
    """A number of the pose is another one."""
    robot.change_odometry = lambda message: setattr(getattr(message.pose.pose, part), name, value)


CAMERA: dict[str, Fault] = {
    "camera stops": loses_camera,
    "camera freezes": freezes,
    "camera goes black": partial(shows, value=0),
    "camera goes white": partial(shows, value=255),
    "camera changes encoding": partial(recodes, encoding="bgr8"),
    "camera is unreadable": partial(recodes, encoding="32FC1"),
    "camera sends short data": shortens,
}
ODOMETRY: dict[str, Fault] = {
    "odometry jumps 5 m": partial(shifts, x=5.0),
    "odometry jumps half a turn": partial(shifts, yaw=math.pi),
    "odometry frozen, fresh stamps": sticks,
    "robot blocked": is_blocked,
    "odometry 10 s ahead, then silent": is_ahead_then_silent,
    "odometry ends": loses_odometry,
    "odometry is NaN": partial(says, part="position", name="x", value=math.nan),
    "odometry is 1e300": partial(says, part="position", name="y", value=1e300),
    "quaternion of 1e200": partial(says, part="orientation", name="z", value=1e200),
}
