"""What a robot was told: velocity commands of a bag, integrated over the steps between images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.clocks import SECOND, Int64Array, TimeLine
from v2w_core.data.bags.motion_rows import TWIST, Stream
from v2w_core.data.bags.poses import integrate_twist
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError
from v2w_core.geometry import actions_from_poses, first_unusable

#: A command holds until the next one, but no longer than this: then bases stop.
TIMEOUT_S = 0.5
#: Pieces into which time is cut for the integration of turns.
_PIECE_NS = SECOND // 20


@dataclass(frozen=True)
class Commands:
    """Velocity commands in the order of time.

    Attributes:
        topic: where they were read.
        line_ns: int64 [M], increasing, on the line of all epochs.
        twist: float64 [M, 3], forward and left (m/s), turning (rad/s).
    """

    topic: str
    line_ns: Int64Array
    twist: NDArray[np.float64]

    def over(self, times_ns: Int64Array) -> NDArray[np.float32]:
        """Displacements that were told, float32 [T-1, 3], between T times on the same line.

        They are dx m, dy m, dyaw rad in the body frame at the beginning of each step, as a robot
        would move that follows every command at once. Before the first command, and
        :data:`TIMEOUT_S` after the last, it is told to stand still.
        """
        ends = np.minimum(
            self.line_ns + round(TIMEOUT_S * SECOND), np.append(self.line_ns[1:], 1 << 62)
        )
        pieces = np.arange(times_ns[0], times_ns[-1], _PIECE_NS)
        cuts = np.unique(np.concatenate([self.line_ns, ends, times_ns, pieces]))
        cuts = cuts[(cuts >= times_ns[0]) & (cuts <= times_ns[-1])]
        latest = np.searchsorted(self.line_ns, cuts, side="right") - 1
        holds = (latest >= 0) & (cuts < ends[latest])
        twist = np.where(holds[:, None], self.twist[latest], 0.0)
        poses = integrate_twist((cuts - cuts[0]) / SECOND, twist, held=True)
        steps = actions_from_poses(poses[np.searchsorted(cuts, times_ns)])
        return np.asarray(steps, dtype=np.float32)

    def silence(self, parts: Sequence[Int64Array]) -> tuple[Notice, ...]:
        """What should be known about parts of a recording (their times) without any command."""
        silent = whole = 0.0
        for times_ns in parts:
            inside = (self.line_ns >= times_ns[0]) & (self.line_ns <= times_ns[-1])
            known = np.concatenate([times_ns[:1], self.line_ns[inside], times_ns[-1:]])
            silent += float(np.maximum(np.diff(known) / SECOND - TIMEOUT_S, 0.0).sum())
            whole += float(times_ns[-1] - times_ns[0]) / SECOND
        if silent < 0.1 * whole:
            return ()
        text = f"{self.topic}: no command for {silent:.1f} of {whole:.1f} s; after {TIMEOUT_S:g} s "
        text += "without one the robot counts as told to stand still"
        remedy = "is it the topic that the base listens to?"
        return (Notice("commands_silent", text, remedy, {"silent_s": round(silent, 2)}),)


def commands_of(stream: Stream, line: TimeLine, topic: str, times_ns: Int64Array) -> Commands:
    """The commands of a stream.

    Args:
        stream: its rows of velocities.
        line: its messages in the order of time.
        topic: name in errors.
        times_ns: int64 [T], times of the images on the same line.

    Raises:
        DataError: a velocity is not finite or far too large, a message cannot be decoded, or there
            is no command in the time of the images.
    """
    if stream.bad:
        rule = "commands that can be decoded: what the robot was told then is not known"
        raise DataError(f"{topic}: messages", rule, f"{stream.bad} that cannot")
    first = np.unique(line.line_ns, return_index=True)[1]
    stamps, twist = line.line_ns[first], stream.rows[line.index[first]][:, TWIST]
    bad = first_unusable(twist)
    if bad is not None:
        message = int(line.index[first][bad[0]])
        rule = "finite velocities; cut the recording with --start-s and --end-s, or leave out "
        rule += "--commands"
        raise DataError(f"{topic}[{message}]: twist", rule, twist[bad[0]].tolist())
    if not ((stamps > times_ns[0] - SECOND) & (stamps <= times_ns[-1])).any():
        rule = "commands in the time of the images; do both use the same clock? If not, --stamps "
        rule += "receive"
        spans = [f"{t[0] / SECOND:.3f}..{t[-1] / SECOND:.3f} s" for t in (stamps, times_ns)]
        raise DataError(f"{topic}: commands", rule, f"{spans[0]}, images {spans[1]}")
    return Commands(topic, stamps, twist)
