"""Time and memory of ``v2w convert`` for a long recording of small pictures.

    python benchmarks/convert_bag.py [--images 20000] [--encoding rgb8] [--kind mcap]

A camera of 20 Hz and odometry of 50 Hz are written to a bag, which is converted at 4 Hz in a
process of its own. Prints a JSON line: seconds, those of the processor (which other programs on the
machine change little), and the largest resident memory in MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

START_NS = 1_700_000_000_000_000_000
CAMERA_NS, ODOMETRY_NS = 50_000_000, 20_000_000


def write_bag(path: Path, num_images: int, encoding: str, kind: str) -> None:
    """A bag of pictures of 48x96 of a robot that drives a circle."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 255, (6, 12, 3), np.uint8), (96, 48)) for _ in range(16)]
    raw, compressed = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
    image_kind = compressed if encoding == "jpeg" else raw

    def header(stamp_ns: int, frame: str) -> object:
        stamp = types["builtin_interfaces/msg/Time"](
            sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
        )
        return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)

    def image(index: int, stamp_ns: int) -> object:
        picture = pictures[index % len(pictures)]
        if encoding == "jpeg":
            data = cv2.imencode(".jpg", picture)[1].reshape(-1)
            return types[compressed](header=header(stamp_ns, "camera"), format="jpeg", data=data)
        return types[raw](
            header=header(stamp_ns, "camera"), height=48, width=96, encoding="rgb8",
            is_bigendian=0, step=288, data=picture.reshape(-1),
        )  # fmt: skip

    def odometry(stamp_ns: int) -> object:
        yaw = 0.25 * (stamp_ns - START_NS) * 1e-9
        pose = types["geometry_msgs/msg/Pose"](
            position=types["geometry_msgs/msg/Point"](
                x=2 * float(np.sin(yaw)), y=2 - 2 * float(np.cos(yaw)), z=0.0
            ),
            orientation=types["geometry_msgs/msg/Quaternion"](
                x=0.0, y=0.0, z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2))
            ),
        )
        vector = types["geometry_msgs/msg/Vector3"]
        twist = types["geometry_msgs/msg/Twist"](
            linear=vector(x=0.5, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=0.25)
        )
        zero = np.zeros(36)
        return types["nav_msgs/msg/Odometry"](
            header=header(stamp_ns, "odom"),
            child_frame_id="base_link",
            pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=zero),
            twist=types["geometry_msgs/msg/TwistWithCovariance"](twist=twist, covariance=zero),
        )

    with Writer(path, version=9, storage_plugin=plugin) as writer:
        camera = writer.add_connection("/camera/image_raw", image_kind, typestore=store)
        odom = writer.add_connection("/odom", "nav_msgs/msg/Odometry", typestore=store)
        images = [(START_NS + k * CAMERA_NS, camera, k) for k in range(num_images)]
        last_ns = num_images * CAMERA_NS // ODOMETRY_NS
        poses = [(START_NS + k * ODOMETRY_NS, odom, k) for k in range(last_ns)]
        for stamp_ns, connection, index in sorted(images + poses, key=lambda item: item[0]):
            is_image = connection is camera
            message = image(index, stamp_ns) if is_image else odometry(stamp_ns)
            data = store.serialize_cdr(message, image_kind if is_image else "nav_msgs/msg/Odometry")
            writer.write(connection, stamp_ns + 1_000_000, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--encoding", choices=("rgb8", "jpeg"), default="rgb8")
    parser.add_argument("--kind", choices=("mcap", "sqlite3"), default="mcap")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bag, out = Path(name) / "bag", Path(name) / "out"
        write_bag(bag, args.images, args.encoding, args.kind)
        begun = time.perf_counter()
        command = [sys.executable, "-m", "v2w_core.cli", "convert", str(bag), str(out)]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - begun
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "seconds": round(seconds, 2),
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
        "resident_mb": round(used.ru_maxrss / 1000),
    }
    print(json.dumps(vars(args) | result))


if __name__ == "__main__":
    main()
