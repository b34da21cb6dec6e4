"""Poses as transforms, for the TF of the simulated robot. Uses message classes only; no rclpy."""

from __future__ import annotations

from typing import Any

from v2w.messages import conversions

#: From the body frame (x forward, y left, z up) to that of a camera that looks forward (x right,
#: y down, z forward), as a quaternion x, y, z, w (REP 103).
OPTICAL = (-0.5, 0.5, -0.5, 0.5)


def planar_transform(
    pose: tuple[float, float, float], stamp_ns: int, parent: str, child: str
) -> Any:
    """A pose (x m, y m, yaw rad) of ``child`` in ``parent`` -> geometry_msgs/TransformStamped."""
    message = conversions.pose_message(*pose)
    transform = _transform(stamp_ns, parent, child)
    place = transform.transform.translation
    place.x, place.y = message.position.x, message.position.y
    transform.transform.rotation = message.orientation
    return transform


def camera_transform(height_m: float, stamp_ns: int, parent: str, child: str) -> Any:
    """A camera above the origin of the body that looks forward -> geometry_msgs/TransformStamped.

    Args:
        height_m: of the camera above the origin of the body frame.
        stamp_ns: of the transform, which does not change.
        parent: the body frame.
        child: the optical frame of the camera.
    """
    transform = _transform(stamp_ns, parent, child)
    transform.transform.translation.z = float(height_m)
    rotation = transform.transform.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = OPTICAL
    return transform


def _transform(stamp_ns: int, parent: str, child: str) -> Any:
    from geometry_msgs.msg import TransformStamped

    header = conversions.header_message(stamp_ns, parent)
    return TransformStamped(header=header, child_frame_id=child)
