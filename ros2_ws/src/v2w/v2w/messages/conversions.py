"""Plain data <-> messages other than images. Uses message classes only; no rclpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.data import ros_numbers
from v2w_core.data.ros_numbers import NS
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions
from v2w_core.spec import ActionSpec


def stamp_ns(stamp: Any) -> int:
    """builtin_interfaces/Time (or Duration) -> nanoseconds.

    Raises:
        V2WError: a negative time, one beyond MAX_STAMP_S, or a second of nanoseconds and more.
    """
    return ros_numbers.stamp_ns(int(stamp.sec), int(stamp.nanosec))


def time_message(nanoseconds: int) -> Any:
    """Nanoseconds -> builtin_interfaces/Time."""
    from builtin_interfaces.msg import Time

    return Time(sec=nanoseconds // NS, nanosec=nanoseconds % NS)


def duration_message(seconds: float) -> Any:
    """Seconds -> builtin_interfaces/Duration."""
    from builtin_interfaces.msg import Duration

    nanoseconds = round(seconds * NS)
    return Duration(sec=nanoseconds // NS, nanosec=nanoseconds % NS)


def header_message(nanoseconds: int, frame_id: str) -> Any:
    """Nanoseconds and a frame -> std_msgs/Header."""
    from std_msgs.msg import Header

    return Header(stamp=time_message(nanoseconds), frame_id=frame_id)


def planar_pose(pose: Any) -> tuple[float, float, float, float]:
    """geometry_msgs/Pose -> (x, y, z, yaw), metres and radians.

    The quaternion is normalised: publishers round it, or send single precision.

    Raises:
        V2WError: NaN, infinity, a coordinate of more than 1e6 m, or a quaternion whose norm is more
            than 5 % off 1.
    """
    return ros_numbers.planar_pose(pose)


def pose_message(x: float, y: float, yaw: float) -> Any:
    """(x m, y m, yaw rad) -> geometry_msgs/Pose."""
    from geometry_msgs.msg import Point, Pose, Quaternion

    half = yaw / 2.0
    turn = Quaternion(x=0.0, y=0.0, z=math.sin(half), w=math.cos(half))
    return Pose(position=Point(x=float(x), y=float(y), z=0.0), orientation=turn)


def path_message(poses: ArrayLike, start_ns: int, step_s: float, frame_id: str) -> Any:
    """Poses (x, y, yaw) [N, 3], one every ``step_s`` from ``start_ns`` on -> nav_msgs/Path."""
    from geometry_msgs.msg import PoseStamped
    from nav_msgs.msg import Path

    path = Path(header=header_message(start_ns, frame_id))
    for index, (x, y, yaw) in enumerate(np.asarray(poses, dtype=np.float64)):
        header = header_message(start_ns + round(index * step_s * NS), frame_id)
        path.poses.append(PoseStamped(header=header, pose=pose_message(x, y, yaw)))
    return path


def planar_path(actions: ArrayLike, spec: ActionSpec, start: ArrayLike) -> NDArray[np.float64]:
    """Poses that actions lead along.

    Args:
        actions: [..., horizon, A] in physical units.
        spec: their action space, which must be planar.
        start: (x m, y m, yaw rad).

    Returns:
        Poses (x, y, yaw) [..., horizon + 1, 3]; the first is ``start``.
    """
    steps = np.asarray(actions, dtype=np.float64)[..., list(spec.planar_indices())]
    return integrate_actions(steps, start)


def sequence_message(actions: ArrayLike, spec: ActionSpec, start_ns: int, frame_id: str) -> Any:
    """Actions [horizon, A] in physical units -> v2w_msgs/ActionSequence."""
    from v2w_msgs.msg import ActionSequence

    array = np.asarray(actions, dtype=np.float32)
    return ActionSequence(
        header=header_message(start_ns, frame_id),
        dt=duration_message(spec.dt_s),
        names=list(spec.names),
        units=list(spec.units),
        horizon=len(array),
        data=array.reshape(-1).tolist(),
    )


def candidates_from(
    messages: Sequence[Any], spec: ActionSpec, *, max_candidates: int, max_horizon: int
) -> NDArray[np.float32]:
    """v2w_msgs/ActionSequence[] -> checked candidates [K, horizon, A] in physical units.

    Raises:
        V2WError: no candidates or too many; names, units or dt that are not the checkpoint's; a
            length that is not horizon * A; unequal horizons; NaN; values out of bounds.
    """
    if not 1 <= len(messages) <= max_candidates:
        raise V2WError("candidates", f"from 1 to {max_candidates} sequences", len(messages))
    rows = []
    horizon = int(messages[0].horizon)
    if not 1 <= horizon <= max_horizon:
        raise V2WError("candidates[0].horizon", f"from 1 to {max_horizon} steps", horizon)
    for index, message in enumerate(messages):
        field = f"candidates[{index}]"
        for name in ("names", "units"):
            wanted, given = getattr(spec, name), tuple(getattr(message, name))
            if given != wanted:
                raise V2WError(f"{field}.{name}", f"{list(wanted)}", list(given))
        dt_s = stamp_ns(message.dt) / NS
        if not math.isclose(dt_s, spec.dt_s, rel_tol=1e-3):
            raise V2WError(f"{field}.dt", f"{spec.dt_s:g} s, the checkpoint's", f"{dt_s:g} s")
        if int(message.horizon) != horizon:
            raise V2WError(f"{field}.horizon", f"{horizon}, as in the first", message.horizon)
        if len(message.data) != horizon * spec.dim:
            rule = f"{horizon} x {spec.dim} = {horizon * spec.dim} numbers"
            raise V2WError(f"{field}.data", rule, len(message.data))
        rows.append(np.asarray(message.data, dtype=np.float32).reshape(horizon, spec.dim))
    return spec.validate(np.stack(rows), field="candidates")


def trajectory_markers(
    paths: NDArray[np.float64], costs: NDArray[np.float64], start_ns: int, frame_id: str
) -> Any:
    """Candidate paths [N, horizon + 1, 3] -> visualization_msgs/MarkerArray.

    The colour of a path goes from green for the lowest cost to red for the highest. Candidates
    without a finite cost, which screening or the deadline left out, are not drawn.
    """
    from geometry_msgs.msg import Point
    from std_msgs.msg import ColorRGBA
    from visualization_msgs.msg import Marker, MarkerArray

    markers = MarkerArray()
    markers.markers.append(Marker(action=Marker.DELETEALL))
    paths, costs = paths[np.isfinite(costs)], costs[np.isfinite(costs)]
    if not len(costs):
        return markers
    spread = float(np.ptp(costs)) or 1.0
    for index, (path, cost) in enumerate(zip(paths, costs, strict=True)):
        share = float(cost - costs.min()) / spread
        line = Marker(
            header=header_message(start_ns, frame_id), ns="candidates", id=index,
            type=Marker.LINE_STRIP, action=Marker.ADD,
            color=ColorRGBA(r=share, g=1.0 - share, b=0.1, a=0.8),
        )  # fmt: skip
        line.pose.orientation.w = 1.0
        line.scale.x = 0.02
        line.points = [Point(x=float(x), y=float(y), z=0.05) for x, y, _ in path]
        markers.markers.append(line)
    return markers
