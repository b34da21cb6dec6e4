"""A 30 Hz camera of 640x480 and both model nodes: lost frames and CPU, idle and while one plans.

Camera, odometry and nodes run in separate processes; frames cross DDS on this machine. The
nodes' own counters (/diagnostics) are compared with what was published. While planner_node plans,
its CPU is that of the plans too; world_model_node beside it shows what receiving alone takes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

NS = 1_000_000_000
NODES = ("planner_node", "world_model_node")


def camera(seconds: float, rate_hz: float, size: tuple[int, int], compressed: bool) -> None:
    """The camera process: publish regularly, print how many frames went out."""
    import rclpy
    from nav_msgs.msg import Odometry
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    from v2w.messages import conversions, images

    rclpy.init()
    node = rclpy.create_node("bench_camera")
    kind, topic = (CompressedImage, "image_raw/compressed") if compressed else (Image, "image_raw")
    frames = node.create_publisher(kind, topic, qos_profile_sensor_data)
    odometry = node.create_publisher(Odometry, "odom", qos_profile_sensor_data)
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    make = images.compressed_message if compressed else images.image_message
    message = make(picture, conversions.header_message(0, "camera"))
    both = len(NODES)
    while min(frames.get_subscription_count(), odometry.get_subscription_count()) < both:
        time.sleep(0.05)
    time.sleep(2.0)  # readers learn of a writer later than it learns of them
    print("go", flush=True)
    start, worst = time.monotonic(), 0.0
    for index in range(round(seconds * rate_hz)):
        late = time.monotonic() - start - index / rate_hz
        if late < 0:
            time.sleep(-late)
        worst = max(worst, late)
        header = conversions.header_message(time.time_ns(), "odom")
        pose = Odometry(header=header, child_frame_id="base_link")
        pose.pose.pose = conversions.pose_message(0.1 * index / rate_hz, 0.0, 0.0)
        odometry.publish(pose)
        message.header = header
        frames.publish(message)
    print(f"{round(seconds * rate_hz)} {worst:.3f}", flush=True)
    time.sleep(1.0)
    rclpy.shutdown()


class Probe:
    """Subscribes to the diagnostics of the nodes and requests plans."""

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from v2w_msgs.srv import Plan

        rclpy.init()
        self.node = rclpy.create_node("bench_probe")
        self.values: dict[str, dict[str, str]] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on, 10)
        self._kind = Plan
        self._client = self.node.create_client(Plan, "planner_node/plan")
        threading.Thread(target=rclpy.spin, args=(self.node,), daemon=True).start()

    def _on(self, message: Any) -> None:
        status = message.status[0]
        self.values[status.name.split(":")[0].strip("/")] = {e.key: e.value for e in status.values}

    def frames(self, name: str) -> int | None:
        """Camera frames that a node has received; None before its first report."""
        count = self.values.get(name, {}).get("camera frames")
        return None if count is None else int(count)

    def plan(self) -> tuple[int, float]:
        """(error_code, planning time in seconds) of one plan with an image goal."""
        from v2w.messages import conversions, images

        goal = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        request = self._kind.Request(goal_type=1)
        request.goal_image = images.compressed_message(goal, conversions.header_message(0, ""))
        future = self._client.call_async(request)
        while not future.done():
            time.sleep(0.02)
        answer = future.result()
        return answer.error_code, conversions.stamp_ns(answer.planning_time) / NS


def run(args: argparse.Namespace, probe: Probe, checkpoint: Path, plans: bool) -> dict[str, Any]:
    """One measurement: ``args.seconds`` of camera, with or without plans one after the other."""
    import psutil

    from v2w.bringup import node_processes

    values = {"checkpoint": str(checkpoint), "status_period": 0.25}
    commands = node_processes.commands(NODES, overrides=dict.fromkeys(NODES, values))
    probe.values = {}
    running = {name: subprocess.Popen(command) for name, command in commands.items()}
    try:
        while any(probe.frames(name) != 0 for name in NODES):
            assert all(p.poll() is None for p in running.values()), "a node ended"
            time.sleep(0.1)
        own = [sys.executable, __file__, "--camera", "--seconds", str(args.seconds)]
        own += ["--rate", str(args.rate), "--width", str(args.width), "--height", str(args.height)]
        source = subprocess.Popen(
            own + ["--compressed"] * args.compressed, stdout=subprocess.PIPE, text=True
        )
        assert source.stdout is not None
        source.stdout.readline()
        seen = {name: psutil.Process(process.pid) for name, process in running.items()}
        before, began = {n: sum(p.cpu_times()[:2]) for n, p in seen.items()}, time.monotonic()
        times: list[float] = []
        while plans and time.monotonic() - began < args.seconds - 1.0:
            code, planning_s = probe.plan()
            if code == 0:
                times.append(planning_s)
            else:
                time.sleep(0.2)
        sent, worst = source.stdout.readline().split()
        elapsed = time.monotonic() - began
        used = {n: (sum(p.cpu_times()[:2]) - before[n]) / elapsed for n, p in seen.items()}
        source.wait()
        time.sleep(1.0)
        result: dict[str, Any] = {"published": int(sent), "camera_latest_s": float(worst)}
        for name in NODES:
            result[f"{name}_lost"] = int(sent) - (probe.frames(name) or 0)
            result[f"{name}_cores"] = round(used[name], 3)
        result["num_plans"] = len(times)
        result["plan_s_p50"] = round(float(np.median(times)), 3) if times else None
        return result
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def main() -> None:
    """Run both measurements and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0, help="camera, Hz")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--compressed", action="store_true", help="JPEG instead of raw images")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--camera", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera:
        camera(args.seconds, args.rate, (args.height, args.width), args.compressed)
        return
    from v2w.bringup import ros_environment
    from v2w_core.checkpoint import default_checkpoint

    ros_environment.reexecute_with_ros()
    os.environ.update(ros_environment.isolated(dict(os.environ), ros_environment.pick_domain_id()))
    checkpoint = args.checkpoint or default_checkpoint()
    probe = Probe()
    results = {
        name: run(args, probe, checkpoint, name == "planning") for name in ("idle", "planning")
    }
    print(f"{args.rate:g} Hz, {args.width}x{args.height}, {args.seconds:g} s, {checkpoint.name}")
    print(f"{'':24} {'idle':>10} {'planning':>10}")
    for key in results["idle"]:
        print(f"{key:24} {results['idle'][key]!s:>10} {results['planning'][key]!s:>10}")
    if args.json:
        with tempfile.NamedTemporaryFile("w", dir=args.json.parent, delete=False) as file:
            json.dump(results, file, indent=2)
        os.replace(file.name, args.json)


if __name__ == "__main__":
    main()
