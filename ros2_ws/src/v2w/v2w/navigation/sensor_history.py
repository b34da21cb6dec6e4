"""What the robot saw and how it moved, at the model's rate. Knows no ROS: stamps are integers."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from v2w.errors import NodeError
from v2w.navigation.camera_format import CameraFormat
from v2w.navigation.camera_frames import CameraFrames, Frame
from v2w.navigation.history import (
    NS,
    HistoryConfig,
    HistoryCounters,
    HistoryReport,
    Snapshot,
    UInt8Array,
)
from v2w_core.errors import V2WError
from v2w_core.geometry import actions_from_poses, interpolate_poses
from v2w_core.spec import ActionSpec, ObservationSpec


@dataclass
class _Odometry:
    stamps: list[int] = field(default_factory=list)
    poses: list[tuple[float, float, float, float]] = field(default_factory=list)


class HistoryBuffer:
    """The camera frames and poses of the last seconds. Every method may be called from any thread.

    Args:
        action: the model's action space, which must be dx, dy and dyaw.
        observation: size of the frames of a snapshot.
        config: what a snapshot consists of.

    Attributes:
        camera: whether its pictures can be read.

    Raises:
        V2WError: an action space that odometry cannot measure.
    """

    def __init__(
        self, action: ActionSpec, observation: ObservationSpec, config: HistoryConfig
    ) -> None:
        columns = action.planar_indices()
        units = tuple(action.units[column] for column in columns)
        if action.dim != 3 or units != ("m", "m", "rad"):
            rule = (
                "dx [m], dy [m], dyaw [rad] and nothing else: which is all that odometry measures"
            )
            raise V2WError("ActionSpec", rule, list(zip(action.names, action.units, strict=True)))
        self.config = config
        self._counters = HistoryCounters()
        self._action = action
        self._step_ns = round(NS * action.dt_s)
        self._lock = threading.Lock()
        self._pictures = CameraFrames(observation, config, self._step_ns, self._lock)
        self._odometry = _Odometry()
        self.camera = CameraFormat()

    # -- what comes in --------------------------------------------------------------------------

    def add_frame(self, stamp_ns: int, load: Callable[[], UInt8Array], num_bytes: int = 0) -> bool:
        """Add a camera frame.

        Args:
            stamp_ns: when it was taken [ns].
            load: decodes it to RGB uint8 [H, W, 3]; called only if a snapshot needs the frame, or
                if too many bytes are kept.
            num_bytes: what ``load`` keeps in memory.

        Returns:
            False when time jumped backwards and everything before was removed.
        """
        with self._lock:
            frames = self._pictures.frames
            verdict = self._order(stamp_ns, frames[-1].stamp_ns if frames else None)
            if verdict != "drop":
                self._pictures.add(stamp_ns, load, num_bytes)
                self._counters.frames += 1
        num_bad = self._pictures.shrink()
        if num_bad:
            with self._lock:
                self._counters.dropped += num_bad
        return verdict != "jump"

    def add_odometry(self, stamp_ns: int, x: float, y: float, z: float, yaw: float) -> bool:
        """Add a pose of the odometry, in metres and radians; NaN and infinity are dropped.

        Returns:
            False when time jumped backwards and everything before was removed.
        """
        with self._lock:
            if not np.isfinite((x, y, z, yaw)).all():
                self._counters.dropped += 1
                return True
            odometry = self._odometry
            verdict = self._order(stamp_ns, odometry.stamps[-1] if odometry.stamps else None)
            if verdict != "drop":
                odometry = self._odometry  # a jump has replaced it
                odometry.stamps.append(stamp_ns)
                odometry.poses.append((x, y, z, yaw))
                self._counters.odometry += 1
                # One pose older than the buffer stays: the oldest frame lies after it.
                horizon = stamp_ns - round(NS * (self.config.buffer_s + 1.0))
                keep = bisect_right(odometry.stamps, horizon)
                if keep > 64:
                    del odometry.stamps[: keep - 1], odometry.poses[: keep - 1]
            return verdict != "jump"

    def count_dropped(self) -> None:
        """Count a message that could not be used and was not added."""
        with self._lock:
            self._counters.dropped += 1

    def clear(self) -> None:
        """Remove all frames and poses; the counters stay."""
        with self._lock:
            self._forget()
            self.camera = CameraFormat()

    def _order(self, stamp_ns: int, newest: int | None) -> str:
        if newest is None or stamp_ns > newest:
            return "keep"
        if newest - stamp_ns <= round(NS * self.config.jump_s):
            self._counters.dropped += 1
            return "drop"
        self._counters.jumps += 1
        self._forget()
        return "jump"

    def _forget(self) -> None:
        self._pictures.clear()
        self._odometry = _Odometry()

    # -- what is there --------------------------------------------------------------------------

    @property
    def counters(self) -> HistoryCounters:
        """A copy of the counters."""
        with self._lock:
            return replace(self._counters)

    def report(self, now_ns: int) -> HistoryReport:
        """Size, age and counters of one moment."""
        with self._lock:
            return HistoryReport(
                self._size(), self.config.num_frames, self._age_s(now_ns),
                replace(self._counters), self.camera.problem,
            )  # fmt: skip

    def newest_pose(self) -> tuple[int, tuple[float, float, float, float]] | None:
        """(stamp_ns, (x, y, z, yaw)) of the newest odometry, or None."""
        with self._lock:
            if not self._odometry.stamps:
                return None
            return self._odometry.stamps[-1], self._odometry.poses[-1]

    def size(self) -> int:
        """Number of frames at the model's rate that a snapshot could have now."""
        with self._lock:
            return self._size()

    def age_s(self, now_ns: int) -> float | None:
        """Age of the newest frame that odometry covers [s], or None."""
        with self._lock:
            return self._age_s(now_ns)

    def _size(self) -> int:
        anchor = self._anchor(None)
        return 0 if anchor is None else len(self._select(anchor))

    def _age_s(self, now_ns: int) -> float | None:
        anchor = self._anchor(None)
        return None if anchor is None else (now_ns - self._pictures.frames[anchor].stamp_ns) / NS

    def snapshot(self, now_ns: int, at_ns: int | None = None) -> Snapshot:
        """The history that ends now, or at ``at_ns``.

        Args:
            now_ns: the time now [ns]; a history that is older than max_age_s is refused.
            at_ns: a moment in the past [ns], for which the age does not matter.

        Raises:
            NodeError: HISTORY_UNAVAILABLE (no camera, no odometry, too few frames, a jump of the
                odometry) or HISTORY_STALE; the message says what is missing.
        """
        with self._lock:
            anchor = self._anchor(at_ns)
            if anchor is None:
                raise self._missing(at_ns)
            chosen = self._select(anchor)
            stamps = np.array([frame.stamp_ns for frame in chosen], dtype=np.int64)
            age_s = (now_ns - int(stamps[-1])) / NS
            if at_ns is None and age_s > self.config.max_age_s:
                rule = f"a frame with odometry at most {self.config.max_age_s:g} s old"
                raise NodeError("history", rule, f"{age_s:.2f} s", code="HISTORY_STALE")
            if len(chosen) < self.config.num_frames:
                rule = (
                    f"{self.config.num_frames} frames {self._step_ns / NS:g} s apart; "
                    "wait, or raise the camera rate"
                )
                raise NodeError("history", rule, f"{len(chosen)}", code="HISTORY_UNAVAILABLE")
            poses = interpolate_poses(self._odometry.stamps, self._odometry.poses, stamps)
        actions = self._actions(poses)
        frames = np.stack([self._pictures.image(frame) for frame in chosen])
        return Snapshot(frames, actions, stamps, poses)

    def _anchor(self, at_ns: int | None) -> int | None:
        """Index of the newest frame (at or before ``at_ns``) with odometry on both sides."""
        stamps = self._odometry.stamps
        if not stamps:
            return None
        limit = stamps[-1] if at_ns is None else min(stamps[-1], at_ns)
        index = bisect_right(self._pictures.frames, limit, key=lambda frame: frame.stamp_ns) - 1
        if index < 0 or self._pictures.frames[index].stamp_ns < stamps[0]:
            return None
        if at_ns is not None and at_ns - self._pictures.frames[index].stamp_ns > self._step_ns:
            return None
        return index

    def _select(self, anchor: int) -> list[Frame]:
        """Frames on the grid that ends at the anchor, oldest first, as far back as it is filled."""
        tolerance = self._step_ns * self.config.tolerance
        oldest_pose = self._odometry.stamps[0]
        chosen = [self._pictures.frames[anchor]]
        index = anchor
        for step in range(1, self.config.num_frames):
            target = self._pictures.frames[anchor].stamp_ns - step * self._step_ns
            best = self._pictures.nearest(target, index)
            if best is None:
                break
            frame = self._pictures.frames[best]
            if abs(frame.stamp_ns - target) > tolerance or frame.stamp_ns < oldest_pose:
                break
            chosen.append(frame)
            index = best
        return chosen[::-1]

    def _actions(self, poses: NDArray[np.float64]) -> NDArray[np.float32]:
        columns = list(self._action.planar_indices())
        actions = np.zeros((len(poses) - 1, self._action.dim), dtype=np.float32)
        actions[:, columns] = actions_from_poses(poses)
        reach = np.maximum(np.abs(self._action.low), np.abs(self._action.high))
        outside = np.abs(actions) > self.config.max_motion * reach
        if outside.any():
            row, column = (int(i) for i in np.argwhere(outside)[0])
            name, unit = self._action.names[column], self._action.units[column]
            limit = f"{self.config.max_motion:g} times the model's {reach[column]:g} {unit}"
            rule = f"{name} within {limit}"
            value = f"{actions[row, column]:.2f} {unit} in one step: the odometry jumped"
            raise NodeError("history", rule, value, code="HISTORY_UNAVAILABLE")
        return actions

    def _missing(self, at_ns: int | None) -> NodeError:
        if not self._pictures.frames:
            value = self.camera.problem or "no camera image"
        elif not self._odometry.stamps:
            value = "no odometry"
        elif at_ns is not None:
            oldest, newest = (
                self._pictures.frames[0].stamp_ns / NS,
                self._pictures.frames[-1].stamp_ns / NS,
            )
            value = f"{at_ns / NS:.3f} s, but the buffer holds {oldest:.3f} s to {newest:.3f} s"
        else:
            value = "no image whose stamp lies between two odometry stamps"
        rule = "camera images with odometry around them"
        return NodeError("history", rule, value, code="HISTORY_UNAVAILABLE")
