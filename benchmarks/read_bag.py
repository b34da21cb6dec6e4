"""Time of one pass over a long recording: v2w's readers beside those of libraries.

    python benchmarks/read_bag.py [--images 20000]

The best of three passes over all messages of a camera and an odometry. Libraries that are not
installed are left out (``pip install mcap``).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from convert_bag import write_bag
from v2w_core.data.bags.container import Container
from v2w_core.data.bags.mcap import McapFile
from v2w_core.data.bags.ros1 import Ros1File
from v2w_core.data.bags.sqlite import SqliteFile

TOPICS = ("/camera/image_raw", "/odom")


def ours(opener: Callable[[Path], Container], file: Path) -> int:
    opened = opener(file)
    count = sum(1 for _ in opened.messages(TOPICS))
    opened.close()
    return count


def by_mcap(file: Path, index: bool) -> int:
    from mcap.reader import make_reader
    from mcap.records import Message
    from mcap.stream_reader import StreamReader

    with file.open("rb") as stream:
        if index:
            found = make_reader(stream).iter_messages(topics=TOPICS, log_time_order=False)
            return sum(1 for _ in found)
        return sum(isinstance(record, Message) for record in StreamReader(stream).records)


def by_rosbags(path: Path) -> int:
    from rosbags.rosbag1 import Reader as Reader1
    from rosbags.rosbag2 import Reader as Reader2

    with Reader1(path) if path.suffix == ".bag" else Reader2(path) as reader:
        return sum(1 for _ in reader.messages())


def as_ros1(bag: Path, target: Path) -> Path:
    """The bag as a ROS 1 bag."""
    from rosbags.convert import convert
    from rosbags.typesys import Stores, get_typestore

    ros1 = get_typestore(Stores.ROS1_NOETIC)
    convert([bag], target, "", 0, None, "", None, ros1, (), (), (), ())
    return target


def report(name: str, read: Callable[[], int]) -> None:
    seconds, count = [], 0
    for _ in range(3):
        begun = time.perf_counter()
        try:
            count = read()
        except ImportError as error:
            print(f"{name:28} {error}")
            return
        seconds.append(time.perf_counter() - begun)
    print(f"{name:28} {min(seconds):.3f} s  {count} messages", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        mcap, sqlite = Path(name) / "mcap", Path(name) / "sqlite3"
        for bag in (mcap, sqlite):
            write_bag(bag, images, "rgb8", bag.name)
        (file,) = mcap.glob("*.mcap")
        (database,) = sqlite.glob("*.db3")
        ros1 = as_ros1(mcap, Path(name) / "ros1.bag")
        print(f"{file.stat().st_size / 1e6:.0f} MB")
        report("MCAP, v2w", lambda: ours(McapFile, file))
        report("MCAP, mcap without index", lambda: by_mcap(file, index=False))
        report("MCAP, mcap with its index", lambda: by_mcap(file, index=True))
        report("MCAP, rosbags", lambda: by_rosbags(mcap))
        report("ROS 1, v2w", lambda: ours(Ros1File, ros1))
        report("ROS 1, rosbags", lambda: by_rosbags(ros1))
        report("SQLite, v2w", lambda: ours(SqliteFile, database))
        report("SQLite, rosbags", lambda: by_rosbags(sqlite))


if __name__ == "__main__":
    main()
