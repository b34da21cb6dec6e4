"""v2w_msgs/Rollout messages from what a model imagined. Uses message classes only; no rclpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from v2w_msgs.msg import Rollout
from v2w_msgs.srv import Imagine

from v2w.messages import conversions, images
from v2w.navigation.history import NS, Snapshot, UInt8Array
from v2w_core.geometry import from_pose
from v2w_core.spec import ActionSpec

NONE, JPEG, PNG, RAW = FORMATS = (
    Imagine.Request.NONE, Imagine.Request.JPEG, Imagine.Request.PNG, Imagine.Request.RAW,
)  # fmt: skip


def rollout_message(
    spec: ActionSpec,
    snapshot: Snapshot,
    actions: ArrayLike,
    poses: ArrayLike,
    *,
    odom_frame: str,
    base_frame: str,
) -> Any:
    """A v2w_msgs/Rollout with actions and path; it has no frames, and its cost is NaN.

    Args:
        spec: the model's action space.
        snapshot: the history that the rollout starts from.
        actions: [horizon, A] in physical units.
        poses: [horizon, 3], (x m, y m, yaw rad) after each step, relative to the newest frame.
        odom_frame: frame of the path; base_frame: frame of the actions.
    """
    stamp = int(snapshot.stamps_ns[-1])
    here = snapshot.poses[-1][[0, 1, 3]]
    path = np.concatenate([here[None], from_pose(here, poses)])
    return Rollout(
        header=conversions.header_message(stamp, odom_frame),
        actions=conversions.sequence_message(actions, spec, stamp, base_frame),
        path=conversions.path_message(path, stamp, spec.dt_s, odom_frame),
        cost=math.nan,
        uncertainty=math.nan,
    )


def fill_frames(
    rollout: Any,
    frames: UInt8Array,
    spec: ActionSpec,
    *,
    base_frame: str,
    frame_format: int,
    quality: int,
) -> None:
    """Add frames to a v2w_msgs/Rollout, each stamped with the time that it shows.

    Args:
        rollout: gets the frames; its stamp is that of the newest frame of the history.
        frames: RGB uint8 [horizon, H, W, 3], one frame every ``spec.dt_s``.
        base_frame: frame_id of the images.
        frame_format: JPEG, PNG or RAW.
        quality: of JPEG, 1 to 100.
    """
    start = conversions.stamp_ns(rollout.header.stamp)
    step_ns = round(NS * spec.dt_s)
    for index, frame in enumerate(frames):
        header = conversions.header_message(start + (index + 1) * step_ns, base_frame)
        if frame_format == RAW:
            rollout.frames.append(images.image_message(frame, header))
        else:
            kind = "png" if frame_format == PNG else "jpeg"
            rollout.compressed_frames.append(
                images.compressed_message(frame, header, kind, quality)
            )
