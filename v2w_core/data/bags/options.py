"""Everything that a user can say about how a bag is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from v2w_core.data.bags.topics import MOTIONS
from v2w_core.errors import DataError

AXES = ("enu", "ned", "camera")
#: Twice what any clock that counts from 1970 shows.
MAX_OFFSET_S = 4e9
STAMPS = ("auto", "header", "receive")


@dataclass(frozen=True)
class BagOptions:
    """How a bag is read; the defaults find out.

    Attributes:
        image_topic, odom_topic: names of the topics; None finds the only one of a fitting type.
        rate_hz: wanted images per second.
        max_gap_s: longest gap within a segment; None: one and a half periods.
        min_frames: minimum length; shorter segments are left out.
        start_s, end_s: range of images to use, from start_s to before end_s, in seconds after the
            first good image.
        stamps: "header", "receive", or "auto": header stamps where they were set.
        camera_offset_s: added to the camera's header stamps.
        motion_from: "pose", "twist", "tf" or "commands".
        tf_frames: names of the fixed frame and the body's, for transforms.
        axes: axes of the poses: "enu" (ROS), "ned", or "camera" (z forward, x right, y down).
        yaw_offset_deg: added to the recorded heading.
        commands: topic of the velocity commands, which become the actions; None: the displacement
            stands for them.
    """

    image_topic: str | None = None
    odom_topic: str | None = None
    rate_hz: float = 4.0
    max_gap_s: float | None = None
    min_frames: int = 2
    start_s: float = 0.0
    end_s: float | None = None
    stamps: str = "auto"
    camera_offset_s: float = 0.0
    motion_from: str = "pose"
    tf_frames: tuple[str, str] | None = None
    axes: str = "enu"
    yaw_offset_deg: float = 0.0
    commands: str | None = None

    def __post_init__(self) -> None:
        choices = {"stamps": STAMPS, "motion_from": MOTIONS, "axes": AXES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                option = f"--{name.replace('_', '-')}"
                raise DataError(option, f"one of {', '.join(allowed)}", getattr(self, name))
        if self.commands is not None and self.motion_from == "commands":
            rule = "not with --motion-from commands: the motion would be the commands themselves"
            raise DataError("--commands", rule, self.commands)
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise DataError("rate_hz", "a positive number of images a second", self.rate_hz)
        if self.max_gap_s is not None and not self.max_gap_s > 0:
            raise DataError("max_gap_s", "a positive number of seconds", self.max_gap_s)
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise DataError("start_s", "a number of seconds, at least 0", self.start_s)
        if self.end_s is not None and not self.end_s > self.start_s:
            raise DataError(
                "end_s", f"a number of seconds above start_s {self.start_s:g}", self.end_s
            )
        if not abs(self.camera_offset_s) < MAX_OFFSET_S:
            rule = f"a number of seconds below {MAX_OFFSET_S:g}"
            raise DataError("--camera-offset-s", rule, self.camera_offset_s)
        if not abs(self.yaw_offset_deg) <= 360:
            raise DataError("--yaw-offset", "degrees from -360 to 360", self.yaw_offset_deg)
