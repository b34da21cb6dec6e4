"""Files of bags as recorders, copies and hands leave them behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from backports import zstd
from bagmaker import START_NS, BagMaker, pose_at
from convert_toys import converted, fails
from mcapmaker import write_mcap
from test_bag_motion import codes, right
from test_convert import shown

from v2w_core.data.bags.files import find_bags
from v2w_core.data.episode import list_episodes, read_episode
from v2w_core.spec import ObservationSpec

NUMBERS = list(range(0, 60, 5))


def made(tmp_path: Path, kind: str, name: str = "drive") -> Path:
    """A bag's file, and for rosbag2 its folder with metadata.yaml beside it."""
    bag = BagMaker(tmp_path / name, kind).drive().close()
    return bag if kind == "ros1" else next(i for i in bag.iterdir() if i.suffix != ".yaml")


def whole(bag: Path, out: Path) -> bool:
    (episode,) = converted(bag, out)
    return right(episode) and [shown(frame) for frame in episode.frames()] == NUMBERS


@pytest.mark.parametrize("edit", ["zeroed", "empty", "storage", "qos", "name", "gone", "type"])
@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_metadata_that_was_edited(tmp_path: Path, kind: str, edit: str) -> None:
    file = made(tmp_path, kind)
    path = file.parent / "metadata.yaml"
    about = yaml.safe_load(path.read_text())
    info = about["rosbag2_bagfile_information"]
    if edit == "storage":
        info["storage_identifier"] = {"sqlite3": "mcap", "mcap": "sqlite3"}[kind]
    elif edit == "name":
        info["relative_file_paths"] = ["other.db3"]
    for topic in info["topics_with_message_count"]:
        if edit == "qos":
            topic["topic_metadata"]["offered_qos_profiles"] = ""
        if edit == "type":
            topic["topic_metadata"]["type"] = topic["topic_metadata"]["type"].replace("/msg/", "/")
            topic["message_count"] = 0
    path.write_text(yaml.safe_dump(about))
    if edit == "zeroed":
        path.write_bytes(bytes(500))
    elif edit == "empty":
        path.write_text("")
    elif edit == "gone":
        path.unlink()
    assert whole(file.parent, tmp_path / "out")


@pytest.mark.parametrize("kind", ["sqlite3", "mcap", "ros1"])
@pytest.mark.parametrize("suffix", [".zst", ".zstd"])
def test_files_packed_with_zstandard(tmp_path: Path, kind: str, suffix: str) -> None:
    file = made(tmp_path, kind)
    packed = tmp_path / (file.name + suffix)
    packed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    assert whole(packed, tmp_path / "out")


def test_a_packed_file_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "drive.mcap.zstd"
    packed.write_bytes(zstd.compress(made(tmp_path, "mcap").read_bytes())[:-200])
    assert "zstd -d drive.mcap.zstd" in fails(capsys, packed, tmp_path / "out")


def test_a_bag_of_ros1_whose_recorder_was_killed(tmp_path: Path) -> None:
    file = made(tmp_path, "ros1")
    data = bytearray(file.read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    end = int.from_bytes(data[at : at + 8], "little")
    data[at : at + 8] = bytes(8)
    active = tmp_path / "drive.bag.active"
    active.write_bytes(data[:end])
    file.unlink()
    assert whole(active, tmp_path / "out")


@pytest.mark.parametrize("lost", ["footer", "summary", "tail"])
def test_an_mcap_whose_recorder_was_killed(tmp_path: Path, lost: str) -> None:
    file = made(tmp_path, "mcap")
    data = file.read_bytes()
    end = int.from_bytes(data[-28:-20], "little")
    cut = {"footer": len(data) - 37, "summary": end, "tail": end - 40}[lost]
    file.write_bytes(data[:cut])
    assert whole(file, tmp_path / "out")


def test_a_write_ahead_log_is_read(tmp_path: Path) -> None:
    import sqlite3

    file = made(tmp_path, "sqlite3")
    plain = sqlite3.connect(file)
    plain.execute("PRAGMA journal_mode=WAL")
    rows = plain.execute("SELECT * FROM messages").fetchall()
    plain.execute("DELETE FROM messages")
    plain.commit()
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    plain.executemany(f"INSERT INTO messages VALUES ({','.join('?' * len(rows[0]))})", rows)
    plain.commit()
    target = tmp_path / "killed"
    target.mkdir()
    for item in file.parent.iterdir():
        if "metadata" not in item.name:
            shutil.copy(item, target)
    plain.close()
    assert (target / f"{file.name}-wal").stat().st_size
    assert whole(target, tmp_path / "out")


def test_parts_are_one_recording_in_the_order_of_time(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for number, (low, high) in {3: (0, 1), 10: (1, 2), 1: (2, 3)}.items():
        maker = BagMaker(tmp_path / f"part{number}")
        for n in range(low * 20, high * 20):
            maker.image(START_NS + n * 50_000_000, n)
        for n in range(low * 50 - 2, high * 50 + 2):
            maker.odometry(START_NS + n * 20_000_000, pose_at(n * 0.02))
        (file,) = (i for i in maker.close().iterdir() if i.suffix == ".mcap")
        file.rename(folder / f"drive_{number}.mcap")
    assert len(find_bags(folder)) == 1
    assert whole(folder, tmp_path / "out")


def test_a_folder_of_bags_with_one_that_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drives = tmp_path / "drives"
    for number, kind in enumerate(("mcap", "sqlite3", "ros1", "mcap")):
        made(drives, kind, f"run{number}")
    (broken,) = (i for i in (drives / "run3").iterdir() if i.suffix == ".mcap")
    broken.write_bytes(b"nothing like a bag")
    out = tmp_path / "out"
    episodes = converted(drives, out)
    shown_text = capsys.readouterr()
    assert len(episodes) == 3 and all(right(episode) for episode in episodes)
    assert len({episode.action_spec for episode in episodes}) == 1
    assert "run3 is left out" in shown_text.err
    for number in range(2):
        assert f"run{number}: 1 parts, 12 frames" in shown_text.out
    shutil.rmtree(drives / "run0")
    for item in ("run1", "run2.bag"):
        target = drives / item
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert "damaged" in fails(capsys, drives, tmp_path / "none")


def test_a_file_of_a_bag_that_is_missing_or_broken_is_a_gap(tmp_path: Path) -> None:
    file = made(tmp_path, "mcap")
    folder = file.parent
    about = yaml.safe_load((folder / "metadata.yaml").read_text())
    paths = about["rosbag2_bagfile_information"]["relative_file_paths"]
    paths += ["drive_1.mcap", "drive_2.mcap"]
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about))
    (folder / "drive_1.mcap").write_bytes(b"")
    (episode,) = converted(folder, tmp_path / "out")
    assert codes(episode) == {"missing_files", "file_left_out"}


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize("ros1", [True, False])
def test_ros_channels_of_other_recorders(
    tmp_path: Path, ros1: bool, chunk: int, ended: bool
) -> None:
    """ROS 1 in an MCAP, type names without /msg/, no chunks, no index, another channel beside."""
    maker = BagMaker(tmp_path / "other", "ros1" if ros1 else "mcap").drive()
    channels, numbers = [], {}
    for number, (topic, connection) in enumerate(maker.connections.items(), 1):
        kind = connection.msgtype
        text, _ = maker.store.generate_msgdef(kind, ros_version=1 if ros1 else 2)
        form, encoding = ("ros1msg", "ros1") if ros1 else ("ros2msg", "cdr")
        channels.append((topic, encoding, kind.replace("/msg/", "/"), form, text.encode()))
        numbers[topic] = number
    channels.append(("/scene", "flatbuffer", "foxglove.SceneUpdate", "flatbuffer", b"x"))
    rows = [(numbers[topic], stamp, raw) for stamp, topic, raw in sorted(maker.pending)]
    rows.append((len(channels), START_NS, b"anything"))
    file = tmp_path / "drive.mcap"
    write_mcap(file, channels, rows, chunk=chunk, ended=ended, profile="ros1" if ros1 else "")
    assert whole(file, tmp_path / "out")


def test_an_interrupted_conversion_of_many_bags_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from v2w_core.data import convert as module
    from v2w_core.data.convert import convert
    from v2w_core.data.sources.kinds import KINDS

    drives, out = tmp_path / "drives", tmp_path / "out"
    for number in range(3):
        made(drives, "mcap", f"run{number}")
    resize, seen = module.resize_frame, []

    def stops(frame: np.ndarray, observation: object) -> np.ndarray:
        seen.append(len(seen))
        if len(seen) == stop:
            raise KeyboardInterrupt
        return resize(frame, observation)

    monkeypatch.setattr(module, "resize_frame", stops)
    size, stop = ObservationSpec(16, 24), 30
    with pytest.raises(KeyboardInterrupt):
        convert(KINDS["bag"].open(drives), out, "drives", observation=size)
    assert list_episodes(out) == []
    seen, stop = [], 0
    done = convert(KINDS["bag"].open(drives), out, "drives", observation=size)
    assert len(seen) == 12  # the third bag only
    assert done.lengths == [12, 12, 12]
    assert sorted(item.name for item in out.iterdir()) == [f"drives_00{n}.h5" for n in range(3)]
    episodes = [read_episode(path) for path in list_episodes(out)]
    assert all(right(episode) for episode in episodes)
    seen = []
    convert(KINDS["bag"].open(drives), out, "again", observation=ObservationSpec(8, 12))
    assert len(seen) == 36


def test_of_many_bags_one_whose_pictures_cannot_be_read_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drives = tmp_path / "drives"
    for name, encoding in {"colour": "rgb8", "depth": "16UC1", "next": "rgb8"}.items():
        BagMaker(drives / name).drive(encoding=encoding).close()
    episodes = converted(drives, tmp_path / "out")
    assert len(episodes) == 2 and all(right(episode) for episode in episodes)
    assert "depth: /camera/image_raw" in capsys.readouterr().err
    for name in ("colour", "next"):
        shutil.rmtree(drives / name)
    BagMaker(drives / "other").drive(encoding="32FC1").close()
    assert "depth image" in fails(capsys, drives, tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"\x89MCAP0\r\n" + b"\x05\xff\xff" * 50, bytes(4000)])
def test_files_without_messages(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drive.mcap").write_bytes(content)
    assert "damaged" in fails(capsys, tmp_path / "drive.mcap", tmp_path / "out")


@pytest.mark.parametrize("mode", ["MESSAGE", "FILE", "STORAGE"])
def test_bags_that_rosbag2_compresses(tmp_path: Path, mode: str) -> None:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    maker = BagMaker(tmp_path / "unused").drive()
    maker.writer.close()
    maker.writer = Writer(tmp_path / "drive", version=9, storage_plugin=StoragePlugin.MCAP)
    maker.writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    maker.writer.open()
    maker.path = tmp_path / "drive"
    for topic, old in maker.connections.items():
        new = maker.writer.add_connection(topic, old.msgtype, typestore=maker.store)
        maker.connections[topic] = new
    assert whole(maker.close(), tmp_path / "out")
