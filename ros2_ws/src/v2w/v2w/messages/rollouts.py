"""v2w_msgs/Rollout from what a model imagined."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from v2w_msgs.msg import Rollout
from v2w_msgs.srv import Imagine

from v2w.messages import conversions, images
from v2w.navigation.sensor_history import NS, Snapshot

if TYPE_CHECKING:
    from v2w.nodes.model_node import ModelNode

NONE, JPEG, PNG, RAW = FORMATS = (
    Imagine.Request.NONE, Imagine.Request.JPEG, Imagine.Request.PNG, Imagine.Request.RAW,
)  # fmt: skip


def rollout_message(node: ModelNode, snapshot: Snapshot, actions: Any) -> Any:
    """A v2w_msgs/Rollout with actions and path; frames and cost are left empty (NaN)."""
    spec = node.model.config.action
    stamp = int(snapshot.stamps_ns[-1])
    here = snapshot.poses[-1][[0, 1, 3]]
    path = conversions.planar_path(actions, spec, here)
    return Rollout(
        header=conversions.header_message(stamp, node.odom_frame),
        actions=conversions.sequence_message(actions, spec, stamp, node.base_frame),
        path=conversions.path_message(path, stamp, spec.dt_s, node.odom_frame),
        cost=math.nan,
        uncertainty=math.nan,
    )


def fill_frames(
    node: ModelNode, rollout: Any, frames: Any, frame_format: int, quality: int
) -> None:
    """Add frames uint8 [horizon, H, W, 3] to a rollout, each stamped with the time it shows."""
    start = conversions.stamp_ns(rollout.header.stamp)
    step_ns = round(NS * node.model.config.action.dt_s)
    for index, frame in enumerate(frames):
        header = conversions.header_message(start + (index + 1) * step_ns, node.base_frame)
        if frame_format == RAW:
            rollout.frames.append(images.image_message(frame, header))
        else:
            kind = "png" if frame_format == PNG else "jpeg"
            rollout.compressed_frames.append(
                images.compressed_message(frame, header, kind, quality)
            )
