"""Cameras that fail while a plan is driven: the time from the fault to the stop, at the topic."""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from base_robot import BaseRobot
from fault_harness import (
    FRAME_S,
    LATE_S,
    NAME,
    PICTURE,
    drives,
    ended,
    fine,
    loses_camera,
    report,
)
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_harness import wait_for
from sensor_msgs.msg import Image
from v2w_msgs.srv import Plan as PlanService

from v2w.errors import CODES
from v2w.messages.images import compressed_message


def sends(robot: BaseRobot, picture: np.ndarray, kind: str = "jpeg") -> None:
    """The same picture in every message."""

    def change(message: Any) -> None:
        if isinstance(message, Image):
            data = np.broadcast_to(picture, (message.height, message.width, 3)).tobytes()
        else:
            message.format = kind
            data = compressed_message(picture, message.header, kind).data
        message.data = array.array("B", data)

    robot.change_image = change


def freezes(robot: BaseRobot) -> None:
    kept: list[Any] = []

    def change(message: Any) -> None:
        kept.append(message.data)
        message.data = kept[0]

    robot.change_image = change


def goes(robot: BaseRobot, value: int) -> None:
    sends(robot, np.full((48, 64, 3), value, np.uint8))


def recodes(robot: BaseRobot, encoding: str) -> None:
    robot.change_image = lambda message: setattr(message, "encoding", encoding)


def shortens(robot: BaseRobot) -> None:
    robot.change_image = lambda message: setattr(message, "data", message.data[:100])


def sends_png(robot: BaseRobot) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    sends(robot, noise, "png")


def sends_something_else(robot: BaseRobot) -> None:
    robot.change_image = lambda message: setattr(message, "data", array.array("B", b"GIF89a" * 9))


def claims_a_gigapixel(robot: BaseRobot) -> None:
    def change(message: Any) -> None:
        data = bytearray(
            compressed_message(np.zeros((8, 8, 3), np.uint8), message.header, "png").data
        )
        data[16:24] = (2**15).to_bytes(4, "big") * 2
        message.data = array.array("B", data)

    robot.change_image = change


Fault = tuple[Callable[[BaseRobot], None], float, str]
EITHER: dict[str, Fault] = {
    "stops": (loses_camera, 0.5, "no camera image"),
    "freezes": (freezes, 4 * FRAME_S, "frozen"),
    "goes black": (partial(goes, value=0), 4 * FRAME_S, "dark"),
    "goes white": (partial(goes, value=255), 4 * FRAME_S, "contrast"),
}
RAW: dict[str, Fault] = EITHER | {
    "changes encoding": (partial(recodes, encoding="bgr8"), 2 * FRAME_S, "changed from"),
    "is unreadable": (partial(recodes, encoding="32FC1"), 2 * FRAME_S, "depth"),
    "sends short data": (shortens, 2 * FRAME_S, "too few"),
}
COMPRESSED: dict[str, Fault] = EITHER | {
    "changes encoding": (sends_png, 2 * FRAME_S, "changed from 64x48 JPEG to 64x48 PNG"),
    "is unreadable": (sends_something_else, 2 * FRAME_S, "neither JPEG nor PNG"),
    "sends short data": (shortens, 2 * FRAME_S, "cut off after 100 bytes"),
    "claims a gigapixel": (claims_a_gigapixel, 2 * FRAME_S, "pixels"),
}


def stops(robot: BaseRobot, what: str, cases: dict[str, Fault]) -> None:
    fault, within_s, why = cases[what]
    _, result = drives(robot)
    measured = robot.stops(lambda: fault(robot))
    report(f"camera {what}", measured)
    assert measured[0] < within_s + LATE_S
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.error_code == CODES["NOT_DRIVEN"]
    assert why in answer.result.error_msg and answer.result.error_msg.startswith("stopped: camera")
    wait_for(lambda: why in robot.status.message, 5.0, "the status to say why")


@pytest.mark.parametrize("what", RAW)
def test_a_camera_that_fails_stops_the_robot(base: BaseRobot, what: str) -> None:
    stops(base, what, RAW)


@pytest.mark.parametrize("what", ["freezes", "goes black"])
def test_an_image_goal_needs_a_camera_that_is_alive(base: BaseRobot, what: str) -> None:
    fault, _, why = RAW[what]
    fault(base)
    wait_for(lambda: not fine(base), 5.0, "the status to say so")
    request = PlanService.Request(goal_type=1, goal_image=PICTURE)
    answer = base.call(PlanService, f"{NAME}/plan", request)
    assert answer.error_code == CODES["NO_VALID_PLAN"]
    assert why in answer.error_msg
    assert not base.moving


@pytest.fixture(scope="module")
def compressed(base_robot: BaseRobot) -> None:
    """From here on the camera is another one; a node takes that when it is activated."""
    base_robot.compress()
    topic = "image_raw"
    wait_for(lambda: not base_robot.node.count_publishers(topic), 10.0, "the raw camera to go")
    for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=number))
        assert base_robot.call(ChangeState, f"{NAME}/change_state", request).success


@pytest.mark.parametrize("what", COMPRESSED)
@pytest.mark.usefixtures("compressed")
def test_a_compressed_camera_that_fails_stops_the_robot(base: BaseRobot, what: str) -> None:
    stops(base, what, COMPRESSED)
