"""Camera stamps for the soak: over DDS as fast as the nodes take them, or into their callbacks.

soak_stamps.py publish NUMBER        a camera of its own, raw and compressed, on this domain
soak_stamps.py feed NUMBER --ros-args ...    a planner_node whose callbacks are called directly

Both print how far they are, once a second.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any

import numpy as np

NS = 1_000_000_000
NUM_PICTURES, RATE_HZ = 64, 30.0
#: Of the stamps that are fed directly, so many are none: repeated, late, years away, of an earlier
#: time.
WRONG_SHARE = 0.01
#: The camera slows down when more than this share of its images is lost.
LOST_SHARE = 0.02
FIRST_HZ, LOOK_S = 200.0, 2.0


def _pictures() -> list[Any]:
    noise = np.random.default_rng(0)
    return [noise.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(NUM_PICTURES)]


class Counted:
    """How many camera frames each node says that it has kept."""

    def __init__(self, node: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        self.frames: dict[str, int] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on, 10)

    def _on(self, message: Any) -> None:
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            name = status.name.partition(":")[0].strip("/")
            if "camera frames" in values:
                self.frames[name] = int(values["camera frames"])


def publish(number: int) -> None:
    """Publish until each of both nodes has kept ``number`` frames; the rate follows the losses."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    from v2w.messages import conversions, images

    rclpy.init()
    node = rclpy.create_node("soak_camera")
    raw = node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
    packed = node.create_publisher(CompressedImage, "image_raw/compressed", qos_profile_sensor_data)
    counted = Counted(node)
    threading.Thread(target=rclpy.spin, args=(node,), daemon=True).start()
    header = conversions.header_message(0, "camera")
    made = [
        (images.image_message(frame, header), images.compressed_message(frame, header))
        for frame in _pictures()
    ]
    while len(counted.frames) < 2:
        time.sleep(0.1)
    time.sleep(2.0)
    before = dict(counted.frames)
    sent, rate_hz, next_look = 0, FIRST_HZ, time.monotonic() + LOOK_S
    last_sent, last_kept, began = 0, 0, time.monotonic()
    due = began
    while True:
        image, compressed = made[sent % NUM_PICTURES]
        image.header = compressed.header = conversions.header_message(time.time_ns(), "camera")
        raw.publish(image)
        packed.publish(compressed)
        sent += 1
        due = max(due + 1.0 / rate_hz, time.monotonic() - 0.01)
        time.sleep(max(0.0, due - time.monotonic()))
        if time.monotonic() < next_look:
            continue
        next_look = time.monotonic() + LOOK_S
        kept = min(counted.frames[name] - before[name] for name in before)
        lost = 1.0 - (kept - last_kept) / (sent - last_sent)
        rate_hz = max(50.0, rate_hz * (0.8 if lost > LOST_SHARE else 1.1))
        last_sent, last_kept = sent, kept
        print(json.dumps({"done": kept, "sent": sent, "rate_hz": round(rate_hz)}), flush=True)
        if kept >= number:
            break
    rclpy.shutdown()


def feed(number: int) -> None:
    """Run planner_node, and call its camera and odometry callbacks ``number`` times each.

    The stamps are those of a camera of 30 Hz that has run until now, for hours; one in a hundred
    is wrong.
    """
    from v2w.nodes import lifecycle
    from v2w.nodes.planner_node import PlannerNode

    def create() -> PlannerNode:
        node = PlannerNode()
        threading.Thread(target=_feed, args=(node, number), daemon=True).start()
        return node

    lifecycle.main(create)


def _feed(node: Any, number: int) -> None:
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import Image

    from v2w.messages import conversions, images

    while not node.status.active:
        time.sleep(0.1)
    into = {one.msg_type: one.callback for one in node._sensors._subscriptions}
    made = [images.image_message(f, conversions.header_message(0, "c")) for f in _pictures()]
    rng = random.Random(0)
    stamp, said = node.now_ns - round(number * NS / RATE_HZ), time.monotonic()
    for index in range(number):
        stamp += round(NS / RATE_HZ)
        seen = stamp
        if rng.random() < WRONG_SHARE:
            late = rng.choice((0, NS // 10, NS, 3600 * NS, -3600 * NS, stamp, stamp - 2**31 * NS))
            seen = stamp - late
        pose = Odometry(header=conversions.header_message(seen, "odom"), child_frame_id="base_link")
        pose.pose.pose = conversions.pose_message(1e-3 * (index % 1000), 0.0, 0.0)
        into[Odometry](pose)
        like = made[index % NUM_PICTURES]
        into[Image](
            Image(
                header=conversions.header_message(seen, "camera"), height=like.height,
                width=like.width, step=like.step, encoding=like.encoding, data=like.data,
            )
        )  # fmt: skip
        if time.monotonic() > said + 1.0:
            said = time.monotonic()
            print(json.dumps({"done": index + 1}), flush=True)
    counters = node.history.report(node.now_ns).counters
    print(
        json.dumps({"done": number, "kept": counters.frames, "dropped": counters.dropped,
                    "jumps": counters.jumps}),
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    {"publish": publish, "feed": feed}[sys.argv.pop(1)](int(sys.argv.pop(1)))
