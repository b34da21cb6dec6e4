"""Command-line arguments that repair what a bag has wrong, and the printing of its warnings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2w_core.data.notices import Notice

#: The options, as argparse calls them.
REPAIRS = (
    "motion_from",
    "tf_frames",
    "axes",
    "yaw_offset_deg",
    "stamps",
    "camera_offset_s",
    "commands",
)
#: Maximum number of printed warnings.
MAX_LINES = 20


def add_repairs(add: Callable[..., object]) -> None:
    """Adds the options that repair what a recording has wrong."""
    add(
        "--motion-from",
        metavar="WHAT",
        help="pose (default), twist (integrate velocities), tf, or commands (integrate cmd_vel)",
    )
    add(
        "--commands",
        metavar="TOPIC",
        help="velocity commands (Twist, TwistStamped), integrated, as actions beside the motion "
        "(default: the displacement stands for both)",
    )
    add(
        "--tf-frames",
        nargs=2,
        metavar=("PARENT", "CHILD"),
        help="frames of the motion in /tf (default: found, odom and base_link first)",
    )
    add("--axes", help="axes of the poses: enu (default, ROS), ned, or camera (z forward)")
    add(
        "--yaw-offset",
        dest="yaw_offset_deg",
        type=float,
        metavar="DEGREES",
        help="add to the recorded heading, where the robot seems to drive sideways",
    )
    add(
        "--stamps",
        help="header, receive, or auto (default: header stamps where they were set)",
    )
    add(
        "--camera-offset-s",
        type=float,
        metavar="S",
        help="add to the camera's header stamps, where its computer's clock is off",
    )


def repairs_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, for :class:`~v2w_core.data.bags.options.BagOptions`."""
    given = {name: getattr(args, name) for name in REPAIRS if getattr(args, name) is not None}
    if "tf_frames" in given:
        given["tf_frames"] = tuple(given["tf_frames"])
    return given


def print_notices(notices: Sequence[Notice]) -> None:
    """Prints warnings, a line each; of many the first."""
    for notice in notices[:MAX_LINES]:
        print(f"warning: {notice}", file=sys.stderr)
    if len(notices) > MAX_LINES:
        print(f"warning: ... and {len(notices) - MAX_LINES} more", file=sys.stderr)
