"""Bags whose files are damaged, cut off, packed or of another kind: what is there is read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from bagmaker import START_NS, BagMaker, pose_at
from convert_toys import converted, fails
from mcapmaker import MAGIC, chunks_of, write_mcap
from test_bag_files import made, whole
from test_bag_motion import codes, right

from v2w_core.data.bags.files import find_bags
from v2w_core.data.sources.bag import scan_bag


def as_mcap(path: Path, seconds: float = 3.0, **options: object) -> Path:
    """A drive as an MCAP file of another recorder."""
    maker = BagMaker(path.with_name(f"{path.stem}-unused")).drive(seconds)
    channels, numbers = [], {}
    for number, (topic, connection) in enumerate(maker.connections.items(), 1):
        text, _ = maker.store.generate_msgdef(connection.msgtype)
        channels.append((topic, "cdr", connection.msgtype, "ros2msg", text.encode()))
        numbers[topic] = number
    rows = [(numbers[topic], stamp, raw) for stamp, topic, raw in sorted(maker.pending)]
    return write_mcap(path, channels, rows, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["zstd", "lz4"])
def test_packed_chunks_whole_and_cut_off(tmp_path: Path, method: str) -> None:
    file = as_mcap(tmp_path / "drive.mcap", chunk=40, method=method)
    assert whole(file, tmp_path / "out")
    data = file.read_bytes()
    file.write_bytes(data[: int(0.7 * len(data))])
    (episode,) = converted(file, tmp_path / "cut")
    assert right(episode) and len(episode) >= 7 and codes(episode) == {"file_cut"}


def test_chunks_of_an_unknown_method_are_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = as_mcap(tmp_path / "drive.mcap", chunk=40, method="zip")
    message = fails(capsys, file, tmp_path / "out")
    assert "mcap compress" in message and "(got zip)" in message and "amage" not in message


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (9 + 24, struct.pack("<I", 12345)),  # the checksum
        (9 + 16, struct.pack("<Q", 1 << 40)),  # the size unpacked
        (9 + 24, bytes(4) + struct.pack("<IQ", 0, 1000) + bytes(5)),  # a record without a kind
        (9 + 40 + 1, struct.pack("<Q", 1 << 50)),  # the size of its first message
    ],
)
def test_a_chunk_that_lies_is_a_gap(tmp_path: Path, offset: int, value: bytes) -> None:
    file = as_mcap(tmp_path / "drive.mcap", chunk=30)
    data = bytearray(file.read_bytes())
    at = chunks_of(bytes(data))[3]
    struct.pack_into("<I", data, at + 9 + 24, 0)
    data[at + offset : at + offset + len(value)] = value
    file.write_bytes(data)
    episodes = converted(file, tmp_path / "out")
    assert sum(map(len, episodes)) >= 8 and all(right(episode) for episode in episodes)
    assert all("damaged_chunks" in codes(episode) for episode in episodes)


def test_a_record_that_claims_more_than_the_file(tmp_path: Path) -> None:
    file = as_mcap(tmp_path / "drive.mcap", ended=False)
    data = bytearray(file.read_bytes())
    at = len(MAGIC)
    while at < 0.7 * len(data):
        last, at = at, at + 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    struct.pack_into("<Q", data, last + 1, 1 << 60)
    file.write_bytes(data)
    (episode,) = converted(file, tmp_path / "out")
    assert right(episode) and len(episode) >= 7 and codes(episode) == {"file_cut"}


def test_records_that_are_not_known_are_stepped_over(tmp_path: Path) -> None:
    file = as_mcap(tmp_path / "drive.mcap", chunk=40)
    data = file.read_bytes()
    at = chunks_of(data)[2]
    extra = bytes([0x90]) + struct.pack("<Q", 7) + b"private"
    file.write_bytes(data[:at] + extra + data[at:])
    assert whole(file, tmp_path / "out")


@pytest.mark.parametrize("method", ["none", "bz2", "lz4"])
@pytest.mark.parametrize("lost", ["nothing", "index", "tail"])
def test_a_bag_of_ros1(tmp_path: Path, method: str, lost: str) -> None:
    from rosbags.rosbag1 import Writer

    maker = BagMaker(tmp_path / "drive", "ros1").drive()
    if method != "none":
        maker.writer.close()
        maker.path.unlink()
        maker.writer = Writer(maker.path)
        maker.writer.set_compression(Writer.CompressionFormat[method.upper()])
        maker.writer.chunk_threshold = 1 << 16
        maker.writer.open()
        for topic, old in maker.connections.items():
            new = maker.writer.add_connection(topic, old.msgtype, typestore=maker.store)
            maker.connections[topic] = new
    file = maker.close()
    data = bytearray(file.read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    end = int.from_bytes(data[at : at + 8], "little")
    if lost == "index":  # it points into the middle
        data[at : at + 8] = (end // 2).to_bytes(8, "little")
    elif lost == "tail":
        data[at : at + 8] = bytes(8)
        data = data[: int(0.7 * end)]
    file.write_bytes(data)
    if lost != "tail":
        assert whole(file, tmp_path / "out")
        return
    (episode,) = converted(file, tmp_path / "out")
    assert right(episode) and len(episode) >= 7 and codes(episode) == {"file_cut"}


def test_bags_of_ros1_that_are_encrypted_or_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path, "ros1")
    data = file.read_bytes()
    found = data.index(b"index_pos=")
    values = (b"op=\x03", data[found : found + 18], b"encryptor=rosbag/AesCbcEncryptor")
    fields = b"".join(struct.pack("<I", len(value)) + value for value in values)
    file.write_bytes(data[:13] + struct.pack("<I", len(fields)) + fields + bytes(4) + data[4109:])
    message = fails(capsys, file, tmp_path / "out")
    assert "AesCbcEncryptor" in message and "rosbag decrypt" in message
    file.write_bytes(b"#ROSBAG V1.2\n" + bytes(500))
    message = fails(capsys, file, tmp_path / "out")
    assert "V1.2" in message and "rosbag fix" in message and "amage" not in message


def test_a_database_with_a_hole(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive", "sqlite3").drive(20.0).close()
    (file,) = (item for item in bag.iterdir() if item.suffix == ".db3")
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 5 * 4096] = bytes(5 * 4096)
    file.write_bytes(data)
    (episode,) = converted(bag, tmp_path / "out")
    exact = [pose_at((stamp - START_NS) * 1e-9)[:2] for stamp in episode.stamps_ns]
    assert np.abs(episode.poses[:, :2] - exact).max() < 5e-3
    assert len(episode) == 80 and codes(episode) == {"file_cut", "uneven_steps"}


def test_a_database_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "drive.db3"
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE topics (id, name, type, serialization_format)")
    # A view that never ends is no table of messages.
    steps = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    database.execute(f"CREATE VIEW messages AS {steps} SELECT i AS id, 1 AS topic_id FROM n")
    database.commit()
    database.close()
    message = fails(capsys, file, tmp_path / "out")
    assert "that rosbag2 recorded" in message and "amage" not in message


def test_a_recorders_log_is_read_and_nothing_left_beside_it(tmp_path: Path) -> None:
    file = made(tmp_path, "sqlite3")
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("UPDATE messages SET timestamp = timestamp")
    database.commit()
    target = tmp_path / "killed"
    target.mkdir()
    for item in file.parent.glob("*.db3*"):
        if not item.name.endswith("-shm"):
            shutil.copy(item, target)
    database.close()
    before = sorted(target.iterdir())
    assert whole(target, tmp_path / "out")
    assert sorted(target.iterdir()) == before


def test_a_bag_without_messages_is_not_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive")
    maker.writer.add_connection("/camera", "sensor_msgs/msg/Image", typestore=maker.store)
    message = fails(capsys, maker.close(), tmp_path / "out")
    assert "recorder wrote none" in message and "amage" not in message


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lambda data: lzma.compress(data, preset=0)),
        (".lz4", lz4.frame.compress),
    ],
)
def test_files_that_were_packed_by_hand(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    file = made(tmp_path, "ros1")
    packed = tmp_path / (file.name + suffix)
    packed.write_bytes(pack(file.read_bytes()))
    file.unlink()
    assert whole(packed, tmp_path / "out")


def test_parts_of_which_one_is_missing(tmp_path: Path) -> None:
    for number in (0, 2):
        as_mcap(tmp_path / f"drive_{number}.mcap")
        shutil.rmtree(tmp_path / f"drive_{number}-unused")
    (files,) = find_bags(tmp_path)
    assert files.notices[0].code == "missing_files" and "drive_1.mcap" in files.notices[0].text


def test_folders_in_folders_each_once(tmp_path: Path) -> None:
    (tmp_path / "days" / "tuesday").mkdir(parents=True)
    made(tmp_path / "days" / "monday", "sqlite3", "run")
    made(tmp_path / "days" / "tuesday", "ros1", "run")
    (tmp_path / "days" / "tuesday" / "back").symlink_to(tmp_path / "days")
    episodes = converted(tmp_path / "days", tmp_path / "out")
    assert len(episodes) == 2 and all(right(episode) for episode in episodes)
    assert {episode.source.split()[-1] for episode in episodes} == {"monday/run", "tuesday/run.bag"}


def test_single_messages_that_are_garbage(tmp_path: Path) -> None:
    """Also the first ones: not the type is wrong, but these messages."""
    maker = BagMaker(tmp_path / "drive").drive()
    rows = sorted(maker.pending)
    seen: dict[str, int] = {}
    for place, (stamp, topic, raw) in enumerate(rows):
        seen[topic] = seen.get(topic, 0) + 1
        if seen[topic] in (1, 2, 33):
            rows[place] = stamp, topic, raw[:6]
    maker.pending = rows
    notices = {notice.code: notice for notice in scan_bag(maker.close(), rate_hz=20.0).notices}
    assert "3 messages cannot be decoded" in notices["bad_messages"].text
    assert notices["stamps_odd"].numbers == {"messages": 3}
