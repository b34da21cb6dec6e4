from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from v2w.errors import NodeError
from v2w.navigation.camera_format import CameraFormat
from v2w.navigation.history import NS, HistoryConfig
from v2w.navigation.sensor_history import HistoryBuffer
from v2w_core.errors import DataError, V2WError
from v2w_core.spec import ActionSpec, ObservationSpec

SPEC = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-0.5,) * 3, (0.5,) * 3, rate_hz=4.0)
T0 = 1_000 * NS


class Feed:
    """A buffer that is fed as a robot would; counts how many frames were decoded."""

    def __init__(self, **config: float) -> None:
        self.buffer = HistoryBuffer(SPEC, ObservationSpec(16, 24), HistoryConfig(**config))
        self.decoded = 0

    def frame(self, at_s: float, grey: int = 0) -> bool:
        def load() -> np.ndarray:
            self.decoded += 1
            return np.full((48, 64, 3), grey, np.uint8)

        return self.buffer.add_frame(T0 + round(at_s * NS), load)

    def pose(self, at_s: float, x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> bool:
        return self.buffer.add_odometry(T0 + round(at_s * NS), x, y, 0.0, yaw)

    def drive(self, until_s: float, camera_hz: float = 30.0, speed: float = 1.0) -> None:
        for i in range(round(until_s * camera_hz) + 1):
            self.frame(i / camera_hz, grey=i % 250)
        for i in range(round(until_s * 50) + 2):
            self.pose(i / 50, x=speed * i / 50)

    def code(self, now_s: float, at_s: float | None = None) -> str:
        at_ns = None if at_s is None else T0 + round(at_s * NS)
        with pytest.raises(NodeError) as caught:
            self.buffer.snapshot(T0 + round(now_s * NS), at_ns)
        return caught.value.code


def test_a_30_hz_camera_becomes_4_hz_with_the_displacements_in_between() -> None:
    feed = Feed()
    feed.drive(2.0)
    snapshot = feed.buffer.snapshot(T0 + 2 * NS)
    assert snapshot.frames.shape == (4, 16, 24, 3)
    assert snapshot.frames[:, 0, 0, 0] == pytest.approx([37.5, 45, 52.5, 60], abs=0.5)
    steps = np.diff(snapshot.stamps_ns) / NS
    assert steps == pytest.approx([0.25] * 3, abs=0.02)
    assert snapshot.actions[:, 0] == pytest.approx(steps, abs=1e-6)
    assert snapshot.actions[:, 1:] == pytest.approx(0.0)
    assert snapshot.poses[-1][0] == pytest.approx(2.0)


def test_only_the_frames_of_a_snapshot_are_decoded_and_each_once() -> None:
    feed = Feed()
    feed.drive(2.0)
    feed.buffer.snapshot(T0 + 2 * NS)
    feed.buffer.snapshot(T0 + 2 * NS)
    assert feed.decoded == 4


def test_actions_are_in_the_body_frame() -> None:
    feed = Feed()
    for i in range(5):
        feed.frame(i * 0.25)
        feed.pose(i * 0.25, y=0.1 * i, yaw=np.pi / 2)
    actions = feed.buffer.snapshot(T0 + NS).actions
    assert actions == pytest.approx(np.tile([0.1, 0.0, 0.0], (3, 1)), abs=1e-6)


def test_odometry_is_interpolated_at_the_image_stamps() -> None:
    feed = Feed()
    for i in range(5):
        feed.frame(0.1 + i * 0.25)
    for i in range(20):
        feed.pose(i * 0.1, x=0.05 * i)
    assert feed.buffer.snapshot(T0 + round(1.2 * NS)).actions[:, 0] == pytest.approx([0.125] * 3)


def test_a_frame_newer_than_the_odometry_waits() -> None:
    feed = Feed()
    feed.drive(2.0, camera_hz=20.0)
    feed.frame(2.3)
    assert feed.buffer.snapshot(T0 + round(2.3 * NS)).stamps_ns[-1] == T0 + 2 * NS


@pytest.mark.parametrize("missing", ["camera", "odometry"])
def test_nothing_to_start_from(missing: str) -> None:
    feed = Feed()
    for i in range(40):
        if missing != "camera":
            feed.frame(i / 20)
        if missing != "odometry":
            feed.pose(i / 20)
    assert feed.code(2.0) == "HISTORY_UNAVAILABLE"
    assert feed.buffer.size() == 0
    assert feed.buffer.age_s(T0) is None


def test_too_short_and_a_gap() -> None:
    feed = Feed()
    feed.drive(0.6)
    assert feed.code(0.6) == "HISTORY_UNAVAILABLE"
    assert feed.buffer.size() == 3
    gap = Feed()
    for at_s in (0.0, 0.25, 0.9, 1.15, 1.4):
        gap.frame(at_s)
        gap.pose(at_s)
    assert gap.buffer.size() == 3


def test_stale_unless_the_moment_was_asked_for() -> None:
    feed = Feed(max_age_s=0.5)
    feed.drive(2.0)
    assert feed.code(2.6) == "HISTORY_STALE"
    assert len(feed.buffer.snapshot(T0 + 3 * NS, T0 + round(1.5 * NS)).frames) == 4
    assert feed.code(2.0, at_s=-50.0) == "HISTORY_UNAVAILABLE"
    assert feed.code(2.0, at_s=50.0) == "HISTORY_UNAVAILABLE"


@pytest.mark.parametrize("what", ["frame", "pose"])
def test_time_jumping_backwards_clears_everything_and_is_reported(what: str) -> None:
    feed = Feed()
    feed.drive(2.0)
    assert getattr(feed, what)(0.5) is False
    assert feed.buffer.counters.jumps == 1
    assert feed.code(2.0) == "HISTORY_UNAVAILABLE"


def test_a_message_that_is_a_little_late_is_dropped() -> None:
    feed = Feed()
    feed.drive(2.0)
    assert feed.frame(1.9)
    assert feed.frame(2.0)
    assert feed.buffer.counters.dropped == 2
    assert feed.buffer.counters.jumps == 0


def test_a_teleport_is_no_motion() -> None:
    feed = Feed()
    feed.drive(2.0)
    for i in range(10):
        feed.frame(2.1 + i * 0.05)
        feed.pose(2.1 + i * 0.05, x=20.0)
    assert feed.code(2.55) == "HISTORY_UNAVAILABLE"


def test_nan_odometry_is_dropped() -> None:
    feed = Feed()
    feed.pose(0.0, x=float("nan"))
    assert feed.buffer.counters.dropped == 1
    assert feed.buffer.newest_pose() is None


class Slow(int):
    """A count that lets other threads run while it is added to."""

    def __add__(self, other: int) -> Slow:
        value = int(self)
        time.sleep(0.02)
        return Slow(value + other)


def test_messages_of_two_threads_are_all_counted() -> None:
    feed = Feed()
    feed.drive(2.0)
    feed.buffer._counters.dropped = Slow()
    calls = [feed.buffer.count_dropped, lambda: feed.frame(1.9)] * 3
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert feed.buffer.counters.dropped == 6


def test_a_report_is_a_copy() -> None:
    feed = Feed()
    feed.drive(2.0)
    report = feed.buffer.report(T0 + 3 * NS)
    assert (report.size, report.required, report.age_s) == (4, 4, 1.0)
    frames = report.counters.frames
    feed.frame(2.1)
    assert report.counters.frames == frames == feed.buffer.counters.frames - 1


def test_the_buffer_does_not_grow() -> None:
    feed = Feed(buffer_s=1.0)
    feed.drive(20.0)
    assert len(feed.buffer._pictures.frames) <= 31
    assert len(feed.buffer._odometry.stamps) < 400


def test_a_frame_that_cannot_be_decoded_is_a_missing_history() -> None:
    feed = Feed()

    def load() -> np.ndarray:
        raise DataError("image.encoding", "one that is known", "weird")

    for i in range(5):
        feed.buffer.add_frame(T0 + i * NS // 4, load)
        feed.pose(i * 0.25)
    assert feed.code(1.0) == "HISTORY_UNAVAILABLE"


@pytest.mark.parametrize(
    ("names", "units"),
    [(("dx", "dy", "dyaw"), ("m", "m", "deg")), (("throttle", "steering"), ("1", "1"))],
)
def test_an_action_space_that_odometry_cannot_tell_is_refused(
    names: tuple[str, ...], units: tuple[str, ...]
) -> None:
    spec = ActionSpec(names, units, (-1.0,) * len(names), (1.0,) * len(names), 4.0)
    with pytest.raises(V2WError, match="ActionSpec"):
        HistoryBuffer(spec, ObservationSpec(16, 16), HistoryConfig())


def test_large_messages_are_kept_as_pictures_and_left_out_where_frames_lie_close_together() -> None:
    feed = Feed(buffer_s=4.0, max_bytes=10.0)
    kept: list[int] = []
    for index in range(90):
        at_s = index / 30
        feed.pose(at_s)

        def load(number: int = index) -> np.ndarray:
            kept.append(number)
            return np.full((4, 6, 3), number, np.uint8)

        feed.buffer.add_frame(T0 + round(at_s * NS), load, num_bytes=2)
        assert feed.buffer._pictures.num_bytes <= 10
    assert len(kept) < 40, "of 30 frames a second a third is needed"
    feed.pose(3.0)
    before = len(kept)
    snapshot = feed.buffer.snapshot(T0 + 3 * NS)
    assert len(kept) == before + 1, "only the newest one was not decoded yet"
    gaps = np.diff(snapshot.stamps_ns) / NS
    assert np.abs(gaps - 0.25).max() <= 0.1 + 1e-6
    assert [int(frame[0, 0, 0]) for frame in snapshot.frames] == [
        round((int(stamp) - T0) * 30 / NS) for stamp in snapshot.stamps_ns
    ]
    feed.buffer.clear()
    assert feed.buffer._pictures.num_bytes == 0


def test_a_large_message_that_cannot_be_read_is_dropped() -> None:
    feed = Feed(max_bytes=1.0)

    def load() -> np.ndarray:
        raise RuntimeError("cut off")

    for index in range(3):
        feed.buffer.add_frame(round(0.2 * index * NS), load, num_bytes=2)
    assert feed.buffer.counters.dropped == 3
    assert feed.buffer._pictures.num_bytes == 0


def test_one_picture_of_every_format_is_decoded() -> None:
    camera, decoded = CameraFormat(), []
    for kind in ("rgb8", "rgb8", "bgr8", "rgb8"):
        camera.check(kind, lambda kind=kind: decoded.append(kind))
    assert decoded == ["rgb8", "bgr8"]

    def fails() -> None:
        raise DataError("image", "an encoding that is read", "yuv9")

    with pytest.raises(DataError):
        camera.check("yuv9", fails)
    assert "yuv9" in camera.problem
    camera.check("rgb8", fails)
    assert not camera.problem
