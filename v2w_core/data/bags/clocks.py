"""Order and clocks: which stamps count, where a clock was set back, what two clocks tell.

Header stamps that fall for a few messages only are a disorder, and sorted. Where they stay behind,
the clock was set back (a simulation was reset, a bag was played again): a new epoch begins, and
nothing is ever paired across it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.notices import Notice
from v2w_core.errors import DataError

Int64Array = NDArray[np.int64]
SECOND = 1_000_000_000
#: Number of messages within which header stamps may be out of order.
FEW = 10
#: A stamp that lies so far from both of its neighbours was never set, or is garbage.
FAR_NS = 5 * SECOND
#: Clocks of two topics whose offsets differ by more are told; images take time to arrive.
LATE_S, EARLY_S, DRIFT_S = 0.25, -0.15, 0.15
#: A drift that is told from this share of the time on, where it stands out of the noise.
DRIFT_RATE = 0.003
#: Time between two epochs on the common time line.
EPOCH_GAP_NS = 3600 * SECOND


@dataclass(frozen=True)
class Times:
    """Stamps of a topic that can be used, K of N messages in the file's order.

    Attributes:
        topic: name, for messages.
        index: int64 [K], numbers of the messages.
        stamps_ns: int64 [K], the stamps that count.
        receive_ns: int64 [K].
        steps: positions in these arrays where the clock was set back.
        by_header: whether ``stamps_ns`` are header stamps.
        notices: what was odd about them.
    """

    topic: str
    index: Int64Array
    stamps_ns: Int64Array
    receive_ns: Int64Array
    steps: Int64Array
    by_header: bool
    notices: tuple[Notice, ...]


@dataclass(frozen=True)
class TimeLine:
    """Messages of a topic in the order of their stamps, epoch after epoch.

    Attributes:
        index: int64 [K], numbers of the messages.
        stamps_ns: int64 [K], stamps, increasing within an epoch.
        line_ns: int64 [K], the same on one line on which epochs follow each other with a gap.
        epoch: int64 [K], number of the epoch.
    """

    index: Int64Array
    stamps_ns: Int64Array
    line_ns: Int64Array
    epoch: Int64Array

    def __len__(self) -> int:
        return len(self.index)

    def where(self, mask: NDArray[np.bool_]) -> TimeLine:
        return TimeLine(
            self.index[mask], self.stamps_ns[mask], self.line_ns[mask], self.epoch[mask]
        )


def choose_stamps(
    topic: str,
    header_ns: Int64Array,
    receive_ns: Int64Array,
    *,
    stamps: str = "auto",
    offset_s: float = 0.0,
) -> Times:
    """The stamps of a topic that count, without those that were never set.

    Args:
        topic: name in notices and errors.
        header_ns, receive_ns: int64 [N] in the file's order.
        stamps: "header", "receive", or "auto": receive stamps where header stamps were not set.
        offset_s: added to header stamps.

    Raises:
        DataError: neither kind of stamps was set.
    """
    notices = []
    unset = _never_set(header_ns)
    by_header = stamps == "header" or (stamps == "auto" and not unset)
    if unset and stamps != "receive":
        rule = f"header stamps that increase; all of this topic's are {unset}"
        if stamps == "header" or _never_set(receive_ns):
            rule += ": use --stamps receive" if not _never_set(receive_ns) else ""
            raise DataError(f"{topic}: header.stamp", rule, int(header_ns[0]))
        text = f"{topic}: header stamps were never set (all {unset}); receive stamps are used"
        remedy = "these are late by the way to the recorder; set header.stamp in the driver"
        notices.append(Notice("stamps_unset", text, remedy, {"messages": len(header_ns)}))
    chosen = header_ns + round(offset_s * SECOND) if by_header else receive_ns
    own = len(np.unique(header_ns)) / max(len(header_ns), 1)
    if by_header and own < 0.4 and not _never_set(receive_ns):
        rule = "header stamps of their own; most of this topic's repeat: use --stamps receive"
        raise DataError(f"{topic}: header.stamp", rule, f"{own:.0%} are different")
    good = _usable(header_ns) if by_header else np.ones(len(chosen), bool)
    if not good.all():
        count = int((~good).sum())
        text = f"{topic}: {count} of {len(good)} messages have a stamp far from their neighbours'"
        text += f" (the first is {header_ns[~good][0] / SECOND:.3f} s) and are left out"
        notices.append(Notice("stamps_odd", text, "what they leave is a gap", {"messages": count}))
    index = np.flatnonzero(good).astype(np.int64)
    kept = chosen[index]
    steps, disorder = _steps(kept, receive_ns[index])
    if disorder:
        text = f"{topic}: {disorder} messages were out of order by their stamps and are sorted"
        notices.append(Notice("disorder", text, "nothing to do", {"messages": disorder}))
    if steps.size:
        back = float(kept[steps[0] - 1] - kept[steps[0]]) / SECOND
        text = f"{topic}: the clock ran backwards {len(steps)} times (first by {back:.3f} s, at "
        text += f"message {int(index[steps[0]])}); a new episode starts there"
        numbers = {"times": len(steps), "back_s": round(back, 3)}
        notices.append(Notice("clock_set_back", text, "nothing to do", numbers))
    return Times(topic, index, kept, receive_ns[index], steps, by_header, tuple(notices))


def compare_clocks(camera: Times, motion: Times) -> tuple[Notice, ...]:
    """What the header stamps of camera and odometry tell, measured by when they were recorded."""
    if not (camera.by_header and motion.by_header):
        return ()
    late = [_lateness(times) for times in (camera, motion)]
    if any(item is None for item in late):
        return ()
    first, second = (item for item in late if item is not None)
    apart = float(np.median(first) - np.median(second))
    drift = _change(first) - _change(second)
    seconds = float(np.ptp(camera.stamps_ns)) / SECOND
    noise = sum(float(np.median(np.abs(np.diff(item)))) for item in (first, second))
    drifts = abs(drift) > max(DRIFT_RATE * seconds, 4 * noise, 0.02) or abs(drift) > DRIFT_S
    notices = []
    shown = f"{camera.topic} {np.median(first):.3f} s, {motion.topic} {np.median(second):.3f} s"
    if not EARLY_S <= apart <= LATE_S:
        side = "behind" if apart > 0 else "ahead of"
        text = f"the camera's clock is {abs(apart):.3f} s {side} the odometry's: header stamps are "
        text += f"older than their arrival by {shown}"
        remedy = f"two computers' clocks? --camera-offset-s {apart:.3f} mends it, so does --stamps "
        remedy += "receive"
        notices.append(Notice("camera_clock", text, remedy, {"offset_s": round(apart, 3)}))
    if drifts:
        text = (
            f"the camera's clock and the odometry's drift apart by {drift:+.3f} s in the recording"
        )
        remedy = "--stamps receive, or synchronise the computers' clocks (chrony, PTP)"
        notices.append(Notice("clock_drift", text, remedy, {"drift_s": round(drift, 3)}))
    return tuple(notices)


def _change(late: NDArray[np.float64]) -> float:
    """How much later the last quarter is than the first, by their medians."""
    quarter = -(-len(late) // 4)
    return float(np.median(late[-quarter:]) - np.median(late[:quarter]))


def time_lines(topics: Sequence[Times]) -> list[TimeLine]:
    """The messages of several topics on one line, each in the order of its stamps."""
    epochs = _epochs(topics)
    shift: dict[int, int] = {}
    end = None
    for epoch in sorted({int(e) for item in epochs for e in np.unique(item)}):
        stamps = [t.stamps_ns[e == epoch] for t, e in zip(topics, epochs, strict=True)]
        low = min(int(item.min()) for item in stamps if item.size)
        high = max(int(item.max()) for item in stamps if item.size)
        shift[epoch] = 0 if end is None else end + EPOCH_GAP_NS - low
        end = high + shift[epoch]
    lines = []
    for times, epoch_of in zip(topics, epochs, strict=True):
        line = times.stamps_ns + np.array([shift[int(e)] for e in epoch_of], np.int64)
        order = np.argsort(line, kind="stable")
        lines.append(
            TimeLine(times.index[order], times.stamps_ns[order], line[order], epoch_of[order])
        )
    return lines


def _never_set(stamps: Int64Array) -> str:
    """ "zero" or "the same" where stamps tell nothing; empty where they do."""
    if (stamps == 0).mean() > 0.5:
        return "zero"
    return "the same" if stamps.size > 1 and (stamps == stamps[0]).all() else ""


def _usable(stamps: Int64Array) -> NDArray[np.bool_]:
    """Which stamps were set: not zero among others, and not far from both neighbours."""
    good = np.ones(len(stamps), bool)
    others = stamps[stamps > 0]
    if others.size and int(others[0]) > FAR_NS:
        good &= stamps > 0
    kept = np.flatnonzero(good)
    values = stamps[kept]
    at = 0
    jumps = np.flatnonzero(np.abs(np.diff(values)) > FAR_NS) + 1
    for start in jumps.tolist():
        if start < at:
            continue
        before = int(values[start - 1])
        back = np.flatnonzero(np.abs(values[start + 1 : start + 4] - before) < FAR_NS)
        if back.size and values[start + 1 + back[0]] >= before - SECOND:
            at = start + 1 + int(back[0])
            good[kept[start:at]] = False
    return good


def _steps(stamps: Int64Array, receive: Int64Array) -> tuple[Int64Array, int]:
    """Positions where the clock was set back, and the number of messages in a wrong order."""
    falls = np.flatnonzero(np.diff(stamps) < 0) + 1
    if not falls.size:
        return np.zeros(0, np.int64), 0
    steps, start, disorder = [], 0, 0
    for fall in falls.tolist():
        if fall <= start:
            continue
        highest = int(stamps[max(start, fall - 2 * FEW) : fall].max())
        ahead = stamps[fall : fall + FEW]
        recovers = bool((ahead >= highest).any()) and not _offset_steps(
            stamps, receive, fall, highest - int(stamps[fall])
        )
        few_left = fall + FEW >= len(stamps) and highest - int(stamps[fall]) < FAR_NS
        if recovers or few_left:
            disorder += 1
        else:
            steps.append(fall)
            start = fall
    return np.array(steps, np.int64), disorder


def _offset_steps(stamps: Int64Array, receive: Int64Array, fall: int, back_ns: int) -> bool:
    """Whether messages after a fall are all older on arrival, by as much as the stamps fell."""
    late = receive - stamps
    before, after = late[max(fall - FEW, 0) : fall], late[fall : fall + FEW]
    if min(len(before), len(after)) < FEW // 2:
        return False  # too few to tell
    older = float(np.median(after) - np.median(before))
    spread = float(_spread(before) + _spread(after))  # a radio link holds messages back by chance
    return older > max(0.6 * back_ns, 3 * spread) and 0.6 * back_ns > 0.02 * SECOND


def _spread(late: Int64Array) -> float:
    return float(np.median(np.abs(late - np.median(late))))


def _lateness(times: Times) -> NDArray[np.float64] | None:
    """Seconds from header to receive stamp; None where receive stamps say nothing of their own."""
    late = (times.receive_ns - times.stamps_ns).astype(np.float64) / SECOND
    if _never_set(times.receive_ns) or (late == 0).all():
        return None
    return late


def _epochs(topics: Sequence[Times]) -> list[Int64Array]:
    """Number of the epoch of every message: clocks that were set back together share them."""
    ordinal = [
        np.searchsorted(times.steps, np.arange(len(times.index)), side="right").astype(np.int64)
        for times in topics
    ]
    if not any(times.steps.size for times in topics):
        return ordinal
    if any((np.diff(times.receive_ns) < -SECOND).any() for times in topics):
        return ordinal  # the recorder's clock was set back as well: count
    found = sorted(
        (int(times.receive_ns[step]), number, int(step))
        for number, times in enumerate(topics)
        for step in times.steps
    )
    events: list[list[tuple[int, int, int]]] = []
    for item in found:
        near = events and item[0] - events[-1][-1][0] <= 2 * SECOND
        same = near and all(item[1] != other[1] for other in events[-1])
        if same:
            events[-1].append(item)
        else:
            events.append([item])
    result = []
    for number, times in enumerate(topics):
        cuts = []
        for event in events:
            own = [step for _, topic, step in event if topic == number]
            when = event[0][0]
            cuts.append(own[0] if own else int(np.searchsorted(times.receive_ns, when)))
        places = np.arange(len(times.index))
        result.append(np.searchsorted(np.array(cuts), places, side="right").astype(np.int64))
    return result
