"""Motion from transforms: the pair of frames that tells it, through as many frames as lie between.

``/tf`` is a tree of frames whose edges are published at rates of their own, ``/tf_static`` adds
edges that never change. The transform between two frames is composed along the only way between
them, at the stamps of its most frequent edge; the others are interpolated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.motion_rows import POSITION, QUATERNION, ROW, Stream, name_of, split
from v2w_core.data.bags.rotations import conjugate, interpolate, multiply, rotate, unit
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError

Float64Array = NDArray[np.float64]
Streams = Mapping[str, Stream]
#: Pairs of frames that are taken of a tree of transforms without being named, best first.
_FIXED = ("odom", "map", "world", "earth")
_BODIES = ("base_link", "base_footprint", "base", "body", "chassis", "imu_link")
#: Least way of a frame that moves, in metres.
_MOVES_M = 0.1
#: An edge that is older than this, and than three of its periods, is not known any more.
_STALE_NS = 1_000_000_000
#: Most pairs of frames that a message lists.
_LISTED = 40


def find_transform(
    streams: Streams, topic: str, frames: tuple[str, str] | None
) -> tuple[str, Stream, tuple[Notice, ...]]:
    """The transform that tells the motion: its name, its rows, and how it was chosen.

    Args:
        streams: rows of every edge, by its name.
        topic: the topic's name, for messages.
        frames: the fixed frame and the body's; None finds them: an edge from odom (map, world)
            to base_link (base_footprint, ...) or back, or else the only edge that moves; of
            several robots the only one that moves.

    Raises:
        DataError: a named frame is unknown, nothing connects the two, or several pairs could be
            meant.
    """
    if frames is not None:
        return name_of(*frames), _between(streams, topic, frames), ()
    usual = _usual({name: split(name) for name in streams})
    if len(usual) == 1:
        return usual[0], streams[usual[0]], ()
    hanging = _usual({name: split(name)[::-1] for name in streams}) if not usual else []
    if len(hanging) == 1:  # a tree that hangs from the body
        return find_transform(streams, topic, split(hanging[0])[::-1])
    moving = [name for name in usual or streams if _moves(streams[name])]
    if len(moving) != 1:
        rule = "one pair of frames that tells the motion: --tf-frames PARENT CHILD, of "
        raise DataError(topic, rule + _listing(streams), f"{len(moving) or len(streams)} pairs")
    text = f"{topic}: the motion is that of {moving[0]}, of {len(streams)} pairs of frames the "
    text += "only one that moves"
    notice = Notice("tf_frames", text, "--tf-frames PARENT CHILD names another")
    return moving[0], streams[moving[0]], (notice,)


def _usual(frames: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The transforms whose frames are called as in most robots, of the best pair of names."""
    pairs = ((parent, child) for parent in _FIXED for child in _BODIES)
    fitting = ([name for name, own in frames.items() if _is(own, pair)] for pair in pairs)
    return next((names for names in fitting if names), [])


def _between(streams: Streams, topic: str, frames: tuple[str, str]) -> Stream:
    parent, child = (name.lstrip("/") for name in frames)
    known = {frame for name in streams for frame in split(name)}
    for frame in (parent, child):
        if frame not in known:
            rule = f"two frames of {topic}: {_listing(streams)}"
            raise DataError("--tf-frames", rule, frame)
    way = _way(streams, parent, child)
    if not way:
        rule = f"two frames of {topic} that transforms connect: {_listing(streams)}"
        raise DataError("--tf-frames", rule, " ".join(frames))
    if len(way) == 1 and way[0][1]:
        return streams[way[0][0]]
    base = streams[max(way, key=lambda item: len(streams[item[0]]))[0]]
    # After a clock was set back the same header stamps come twice: arrival tells them apart.
    received = any((np.diff(streams[name].header_ns) < -_STALE_NS).any() for name, _ in way)
    query = base.receive_ns if received else base.header_ns
    place: Float64Array = np.zeros((len(base), 3))
    turn: Float64Array = np.tile([0.0, 0.0, 0.0, 1.0], (len(base), 1))
    for name, forward in way:
        step, by = _at(streams[name], query, received)
        if not forward:
            by = conjugate(by)
            step = -rotate(by, step)
        place, turn = place + rotate(turn, step), multiply(turn, by)
    rows = np.full((len(base), ROW), np.nan)
    rows[:, POSITION], rows[:, QUATERNION] = place, turn
    return replace(base, rows=rows, frames=(parent, child))


def _way(streams: Streams, parent: str, child: str) -> list[tuple[str, bool]]:
    """The edges from one frame to another, each with whether it leads from its parent."""
    edges: dict[str, list[tuple[str, str, bool]]] = {}
    for name in streams:
        first, second = split(name)
        edges.setdefault(first, []).append((second, name, True))
        edges.setdefault(second, []).append((first, name, False))
    found: dict[str, list[tuple[str, bool]]] = {parent: []}
    waiting = deque([parent])
    while waiting:
        frame = waiting.popleft()
        for other, name, forward in edges.get(frame, []):
            if other not in found:
                found[other] = [*found[frame], (name, forward)]
                waiting.append(other)
    return found.get(child, [])


def _at(
    stream: Stream, query: NDArray[np.int64], received: bool
) -> tuple[Float64Array, Float64Array]:
    """Positions [Q, 3] and unit quaternions [Q, 4] of an edge at other times; NaN where unknown."""
    times, first = np.unique(stream.receive_ns if received else stream.header_ns, return_index=True)
    rows = stream.rows[first]
    good = np.isfinite(rows[:, :7]).all(axis=1)
    if not good.any():
        return np.full((len(query), 3), np.nan), np.full((len(query), 4), np.nan)
    times, rows = times[good], rows[good]
    place = np.column_stack([np.interp(query, times, column) for column in rows[:, POSITION].T])
    turn = interpolate(times, unit(rows[:, QUATERNION]), query)
    if not stream.static and len(times) > 1 and np.ptp(rows[:, :7], axis=0).max() > 1e-6:
        right = np.clip(np.searchsorted(times, query), 1, len(times) - 1)
        beside = np.minimum(np.abs(query - times[right]), np.abs(query - times[right - 1]))
        stale = beside > max(_STALE_NS, 3 * float(np.median(np.diff(times))))
        place[stale], turn[stale] = np.nan, np.nan
    return place, turn


def _moves(stream: Stream) -> bool:
    places = stream.rows[:, POSITION]
    good = np.isfinite(places).all(axis=1)
    return bool(good.any() and np.ptp(places[good], axis=0).max() > _MOVES_M)


def _is(frames: tuple[str, ...], names: tuple[str, str]) -> bool:
    """Whether a pair of frames has these names, perhaps with a robot's prefix."""
    return all(
        own == name or own.endswith((f"/{name}", f"_{name}"))
        for own, name in zip(frames, names, strict=True)
    )


def _listing(streams: Streams) -> str:
    """The pairs of frames; of very many the first."""
    names = sorted(streams)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
