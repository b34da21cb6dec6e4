"""Resampling of camera images at a steady rate, with poses interpolated from odometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from v2w_core.errors import DataError
from v2w_core.geometry import actions_from_poses, interpolate_poses, wrap_angle
from v2w_core.spec import ActionSpec

Int64Array = NDArray[np.int64]

#: Longest gap in the odometry across which poses are interpolated.
MAX_ODOMETRY_GAP_S = 1.0
#: Longest odometry period for which poses are extrapolated beyond the first and last message.
MAX_EXTRAPOLATION_S = 0.1
#: Relative tolerance within which the camera's rate counts as a multiple of the wanted rate.
_RATE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Segment:
    """An unbroken part of T images at the wanted rate.

    Attributes:
        indices: int64 [T], indices of the images in the recording.
        stamps_ns: int64 [T], their stamps.
        poses: float64 [T, 4], x y z (m) and yaw (rad) at those stamps.
        commands: float32 [T-1, 3], what the robot was told from one image to the next; None:
            unknown.
    """

    indices: Int64Array
    stamps_ns: Int64Array
    poses: NDArray[np.float64]
    commands: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def actions(self) -> NDArray[np.float32]:
        """The commands, or where they are unknown the motion, float32 [T-1, 3]."""
        return self.motion if self.commands is None else self.commands

    @property
    def motion(self) -> NDArray[np.float32]:
        """Displacements (dx m, dy m, dyaw rad) between successive images, float32 [T-1, 3]."""
        return cast(NDArray[np.float32], actions_from_poses(self.poses).astype(np.float32))

    @property
    def step_range_s(self) -> tuple[float, float]:
        """The shortest and the longest time from one image to the next."""
        steps = np.diff(self.stamps_ns) * 1e-9
        return float(steps.min()), float(steps.max())


def plan_segments(
    image_stamps_ns: Int64Array,
    odom_stamps_ns: Int64Array,
    odom_poses: NDArray[np.float64],
    *,
    rate_hz: float,
    max_gap_s: float | None = None,
    min_frames: int = 2,
    broken: Int64Array | None = None,
    bad: NDArray[np.bool_] | None = None,
) -> list[Segment]:
    """Chooses images at ``rate_hz``, interpolates their poses and splits at gaps.

    For each tick of the rate the nearest image is chosen, if it lies within half a period. Where
    ticks without an image make a gap above ``max_gap_s``, a new segment starts. If the camera runs
    at about one, two or three times the rate, every n-th image is chosen. The pose of an image at
    most one odometry period before or after the odometry is extrapolated.

    Args:
        image_stamps_ns: [N] stamps, not decreasing; repeated stamps count once.
        odom_stamps_ns: [M] strictly increasing.
        odom_poses: [M, 4] x y z yaw.
        rate_hz: wanted images per second.
        max_gap_s: longest gap within a segment; None: one and a half periods, so that every missing
            image starts a new segment.
        min_frames: minimum length; shorter segments are dropped.
        broken: rows of the odometry from which nothing leads to the next; no segment crosses them.
        bad: [N], images without a picture: a gap where one of them would be chosen.

    Raises:
        DataError: a rate above the camera's, no image within the odometry's time, or no segment
            that is long enough.
    """
    breaks_ns = odom_stamps_ns[:0] if broken is None else odom_stamps_ns[broken]
    ends_ns = odom_stamps_ns[:0] if broken is None else odom_stamps_ns[broken + 1]
    odom_stamps_ns, odom_poses = _extrapolated(odom_stamps_ns, odom_poses)
    kept = np.unique(image_stamps_ns, return_index=True)[1].astype(np.int64)
    stamps = image_stamps_ns[kept]
    camera_s = _check_rate(stamps, rate_hz)
    part_of = np.searchsorted(breaks_ns, stamps, side="left")
    covered = _with_odometry(stamps, odom_stamps_ns)
    if ends_ns.size:
        covered &= ~((part_of > 0) & (stamps < ends_ns[np.maximum(part_of - 1, 0)]))
    if not covered.any():
        rule = (
            "images within the odometry's time; do both use the same clock? If not, "
            "--camera-offset-s SECONDS or --stamps receive"
        )
        raise DataError("recording", rule, _spans(stamps, odom_stamps_ns))
    gap_ticks = (1.5 if max_gap_s is None else max(max_gap_s * rate_hz, 1.0)) + 1e-6
    segments, longest = [], 0
    for number in np.unique(part_of[covered]):
        inside = np.flatnonzero(covered & (part_of == number))
        ticks, chosen, early = _choose(stamps[inside], 1.0 / rate_hz, camera_s)
        if bad is not None:
            good = ~bad[kept[inside[chosen]]]
            ticks, chosen, early = ticks[good], chosen[good], early[good]
        cuts = np.flatnonzero(np.diff(ticks) > gap_ticks) + 1
        for part in np.split(np.arange(chosen.size), cuts):
            part = _trimmed(part, early)
            longest = max(longest, len(part))
            if len(part) >= max(min_frames, 2):
                images = inside[chosen[part]]
                poses = interpolate_poses(odom_stamps_ns, odom_poses, stamps[images])
                segments.append(Segment(kept[images], stamps[images], poses))
    if not segments:
        rule = f"{max(min_frames, 2)} images in a row at {rate_hz:g} Hz; allow a larger gap"
        raise DataError("recording", rule, f"at most {longest} in a row")
    return segments


def rates_of(camera_hz: float, near_hz: float) -> list[float]:
    """Rates that a camera's rate divides into even steps, the nearest to ``near_hz`` first."""
    divisors = range(1, max(2, round(2 * camera_hz / near_hz) + 1))
    rates = sorted((camera_hz / n for n in divisors), key=lambda rate: abs(rate - near_hz))
    return [round(rate, 2) for rate in rates[:3]]


def action_spec_for(
    actions: NDArray[np.float32],
    rate_hz: float,
    low: tuple[float, ...] | None = None,
    high: tuple[float, ...] | None = None,
) -> ActionSpec:
    """ActionSpec (dx m, dy m, dyaw rad) for displacements [N, 3].

    ``low`` and ``high`` default to the data's range widened by :func:`bounds_around`.
    """
    around = bounds_around(actions.min(axis=0), actions.max(axis=0))
    return ActionSpec(
        names=("dx", "dy", "dyaw"),
        units=("m", "m", "rad"),
        low=low or around[0],
        high=high or around[1],
        rate_hz=rate_hz,
    )


def bounds_around(
    smallest: NDArray[np.float32], largest: NDArray[np.float32]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(low, high): the data's range [A], widened by a tenth (at least 0.01) on each side."""
    low, high = smallest.astype(np.float64), largest.astype(np.float64)
    margin = np.maximum(0.1 * (high - low), 0.01)
    rounded = np.round(low - margin, 4), np.round(high + margin, 4)
    return tuple(rounded[0].tolist()), tuple(rounded[1].tolist())


def _check_rate(stamps: Int64Array, rate_hz: float) -> float:
    """The camera's typical period in seconds, where it is not too long."""
    if stamps.size < 2:
        raise DataError("recording", "at least 2 images with different stamps", stamps.size)
    camera_hz = 1e9 / float(np.median(np.diff(stamps)))
    if rate_hz > camera_hz * (1 + _RATE_TOLERANCE):
        rule = f"at most the camera's {camera_hz:.2f} Hz: choose a lower rate"
        raise DataError("rate_hz", rule, rate_hz)
    return 1.0 / camera_hz


def _extrapolated(
    stamps: Int64Array, poses: NDArray[np.float64]
) -> tuple[Int64Array, NDArray[np.float64]]:
    """The odometry with one more row at each end, extrapolated with constant velocity."""
    if stamps.size < 2:
        return stamps, poses
    limit = round(MAX_EXTRAPOLATION_S * 1e9)
    before, after = stamps[1] - stamps[0], stamps[-1] - stamps[-2]
    if before <= limit:
        stamps = np.concatenate([stamps[:1] - before, stamps])
        poses = np.concatenate([[_mirrored(poses[1], poses[0])], poses])
    if after <= limit:
        stamps = np.concatenate([stamps, stamps[-1:] + after])
        poses = np.concatenate([poses, [_mirrored(poses[-2], poses[-1])]])
    return stamps, poses


def _mirrored(pose: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    result = 2.0 * centre - pose
    result[3] = wrap_angle(centre[3] + wrap_angle(centre[3] - pose[3]))
    return result


def _with_odometry(stamps: Int64Array, odom: Int64Array) -> NDArray[np.bool_]:
    inside = (stamps >= odom[0]) & (stamps <= odom[-1])
    if odom.size < 2:
        return inside
    right = np.clip(np.searchsorted(odom, stamps, side="left"), 1, odom.size - 1)
    silence_ns = odom[right] - odom[right - 1]
    exact = (stamps == odom[right]) | (stamps == odom[right - 1])
    return inside & (exact | (silence_ns <= MAX_ODOMETRY_GAP_S * 1e9))


def _choose(
    stamps: Int64Array, period_s: float, camera_s: float
) -> tuple[Int64Array, Int64Array, NDArray[np.float64]]:
    """The image nearest to each tick; ticks without an image are left out.

    Returns:
        indices of the ticks, indices of the images, and how early each image is, in camera periods.
    """
    seconds = (stamps - stamps[0]).astype(np.float64) * 1e-9
    multiple = round(period_s / camera_s)
    off = abs(period_s / camera_s - multiple)
    if 1 <= multiple <= 3 and off <= _RATE_TOLERANCE * multiple:
        seconds, period_s = _steady(seconds, camera_s), multiple * camera_s
    ticks = np.floor(seconds / period_s + 0.5 - 1e-9).astype(np.int64)
    early = ticks * period_s - seconds
    order = np.lexsort((np.abs(early), ticks))
    first = np.unique(ticks[order], return_index=True)[1]
    chosen = order[first].astype(np.int64)
    return ticks[chosen], chosen, early[chosen] / camera_s


def _trimmed(part: Int64Array, early: NDArray[np.float64]) -> Int64Array:
    """The part without a first or last image that lies more than 0.6 periods off its tick."""
    if part.size and early[part[-1]] > 0.6:
        part = part[:-1]
    if part.size and early[part[0]] < -0.6:
        part = part[1:]
    return part


def _steady(seconds: NDArray[np.float64], camera_s: float) -> NDArray[np.float64]:
    """Times of the images on a camera clock without jitter, with gaps for lost images."""
    steady = np.zeros_like(seconds)
    number, expected = 0, 0.0
    for index in range(1, len(seconds)):
        step = max(1, round((seconds[index] - expected) / camera_s))
        number += step
        expected += step * camera_s
        expected += 0.5 * (seconds[index] - expected)  # follow the real clock's drift
        steady[index] = number * camera_s
    return steady


def _spans(images: Int64Array, odometry: Int64Array) -> str:
    return (
        f"images {images[0] * 1e-9:.3f}..{images[-1] * 1e-9:.3f} s, "
        f"odometry {odometry[0] * 1e-9:.3f}..{odometry[-1] * 1e-9:.3f} s"
    )
