"""Jumps of a track: where an odometry restarted at zero, or a localisation corrected itself.

A jump is no motion: it never becomes an action, nor a bound of actions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.poses import Track
from v2w_core.data.notices import Notice
from v2w_core.geometry import wrap_angle

Float64Array = NDArray[np.float64]
#: A jump is longer than this (m, rad), and this many times faster than its neighbours.
LEAST_M, LEAST_RAD, TIMES = 0.1, 0.3, 5.0
#: Number of neighbours on each side; the two fastest of them may be jumps themselves.
NEIGHBOURS = 15
#: Share of steps that lead back to where the robot was, in an odometry that is one.
MOST_RETURNS = 0.08
_FEW = 6


def without_jumps(track: Track) -> Track:
    """The track, broken at its jumps, with a notice of them."""
    if len(track) < _FEW:
        return track
    moved = np.diff(track.poses, axis=0)
    step_s = np.maximum(np.diff(track.seconds), 1e-6)
    way, turn = np.linalg.norm(moved[:, :3], axis=1), np.abs(wrap_angle(moved[:, 3]))
    way[track.broken] = turn[track.broken] = 0.0
    if (shaken := _there_and_back(track.poses, way)) > MOST_RETURNS:
        text = f"the odometry jumps there and back in {shaken:.0%} of its steps"
        remedy = "do two publish on this topic? Record each on a topic of its own, or another "
        remedy += "odometry (--odom-topic, --motion-from twist)"
        notice = Notice("two_sources", text, remedy, {"share": round(shaken, 3)})
        return replace(track, notices=(*track.notices, notice))
    jumps = _too_fast(way, step_s, LEAST_M) | _too_fast(turn, step_s, LEAST_RAD)
    speed = np.hypot(track.twist[:, 0], track.twist[:, 1])
    jumps |= _beyond_twist(way, step_s, np.nan_to_num(speed))
    if not jumps.any():
        return track
    at = np.flatnonzero(jumps)
    longest = int(at[np.argmax(way[at])])
    restarts = np.abs(track.poses[at + 1][:, [0, 1, 3]]).max(axis=1) < 0.05
    what = "restarts at zero" if restarts.any() else "jumps"
    seconds = track.seconds[longest]
    text = f"the odometry {what}: {len(at)} jumps, the longest of {way[longest]:.2f} m and "
    text += f"{turn[longest]:.2f} rad {seconds:.1f} s after its first message"
    remedy = "a new episode starts at each; use an odometry that does not correct itself (wheels, "
    remedy += "the odom frame) if there are many"
    numbers = {
        "jumps": len(at),
        "longest_m": round(float(way[longest]), 3),
        "at_s": round(float(seconds), 3),
    }
    notice = Notice("restart" if restarts.any() else "jump", text, remedy, numbers)
    broken = np.union1d(track.broken, at).astype(np.int64)
    return replace(track, broken=broken, notices=(*track.notices, notice))


def _there_and_back(poses: Float64Array, way: Float64Array) -> float:
    """Share of the long steps after which the next one leads back."""
    two = np.linalg.norm(poses[2:, :3] - poses[:-2, :3], axis=1)
    back = (way[:-1] > LEAST_M / 2) & (two < 0.3 * way[:-1])
    return float(back.mean()) if back.size else 0.0


def _too_fast(moved: Float64Array, step_s: Float64Array, least: float) -> NDArray[np.bool_]:
    """Steps [M - 1] that are several times as fast as any neighbour but two."""
    suspects = np.flatnonzero(moved > least)
    result = np.zeros(len(moved), bool)
    if suspects.size > len(moved) / 4:  # so many long steps are no exception but the motion
        typical = np.median(moved[suspects] / step_s[suspects])
        suspects = suspects[moved[suspects] / step_s[suspects] > TIMES * typical]
    speed = moved / step_s
    for index in suspects.tolist():
        near = np.r_[speed[max(index - NEIGHBOURS, 0) : index], speed[index + 1 :][:NEIGHBOURS]]
        third = float(np.sort(near)[-3]) if near.size >= 3 else 0.0
        # A pose that is published more often than it is computed stands still in between.
        result[index] = speed[index] > TIMES * third
    return result


def _beyond_twist(
    way: Float64Array, step_s: Float64Array, speed: Float64Array
) -> NDArray[np.bool_]:
    """Steps far beyond what the twist allows, where it agrees with the poses elsewhere."""
    allowed = np.maximum(speed[:-1], speed[1:]) * step_s
    ratio = (
        float(np.median(way[allowed > 1e-3] / allowed[allowed > 1e-3]))
        if (allowed > 1e-3).sum() > 20
        else 0.0
    )
    if not 0.5 < ratio < 2.0:
        return np.zeros(len(way), bool)
    return np.asarray(way > 3 * LEAST_M + 3 * allowed)
