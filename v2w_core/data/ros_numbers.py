"""Stamps and poses of ROS messages -> numbers: one check for bags and for nodes. Needs no ROS."""

from __future__ import annotations

import math
from typing import Any

from v2w_core.errors import DataError
from v2w_core.geometry import MAX_COORDINATE_M, yaw_from_quaternion

NS = 1_000_000_000
#: Largest seconds of a stamp: what ROS's 32 bits hold, less an hour for what is counted from it.
MAX_STAMP_S = 2**31 - 1 - 3600
#: How far the norm of a quaternion may be from 1: publishers round it, or send single precision.
MAX_NORM_ERROR = 0.05


def stamp_ns(seconds: int, nanoseconds: int, *, field: str = "stamp") -> int:
    """The seconds and nanoseconds of a stamp or a duration as nanoseconds.

    Raises:
        DataError: a negative time, one beyond :data:`MAX_STAMP_S`, or a second of nanoseconds.
    """
    if not 0 <= seconds <= MAX_STAMP_S or not 0 <= nanoseconds < NS:
        rule = f"from 0 to {MAX_STAMP_S} seconds and less than {NS} nanoseconds"
        raise DataError(field, rule, f"sec {seconds}, nanosec {nanoseconds}")
    return int(seconds) * NS + int(nanoseconds)


def planar_pose(pose: Any, *, field: str = "pose") -> tuple[float, float, float, float]:
    """geometry_msgs/Pose -> (x, y, z, yaw), metres and radians.

    Args:
        pose: any object with the fields of the message.
        field: what errors call it.

    Raises:
        DataError: NaN, infinity, a coordinate beyond MAX_COORDINATE_M, or a quaternion whose norm
            is more than :data:`MAX_NORM_ERROR` off 1.
    """
    p, q = pose.position, pose.orientation
    try:
        place = float(p.x), float(p.y), float(p.z)
        turn = float(q.x), float(q.y), float(q.z), float(q.w)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(field, "numbers", str(error)) from error
    norm = math.hypot(*turn)  # never overflows, and is NaN or infinite where a number is
    near = all(abs(value) <= MAX_COORDINATE_M for value in place)
    if not near or not abs(norm - 1.0) <= MAX_NORM_ERROR:
        rule = (
            f"finite numbers: coordinates within {MAX_COORDINATE_M:g} m of 0 and a unit quaternion"
        )
        raise DataError(field, rule, f"position {place}, quaternion {turn}")
    x, y, z, w = (value / norm for value in turn)
    return (*place, yaw_from_quaternion(x, y, z, w))
