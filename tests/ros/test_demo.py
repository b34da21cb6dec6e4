from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ros_harness import DOMAINS, wait_for

from v2w_core.cli import main

pytest.importorskip("vizdoom")
SMALL = (
    "--candidates", "8", "--iterations", "2", "--max-steps", "2", "--backend", "eager",
)  # fmt: skip


class Demo:
    """A running ``v2w demo``; its output is collected in a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.path = log
        command = [sys.executable, "-m", "v2w_core.cli", "demo", "--domain-id", str(next(DOMAINS))]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def log(self) -> str:
        return self.path.read_text(errors="replace")

    def nodes(self) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # one that has just ended
                if "_node" in " ".join(child.cmdline()):
                    found.append(child)
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    running: list[Demo] = []

    def start(*arguments: str) -> Demo:
        running.append(Demo(tmp_path / "log", *arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
            one.process.wait(timeout=90)


def test_a_model_that_knows_nothing_misses_and_everything_is_written(
    demo: Callable[..., Demo], tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "demo"
    running = demo(*SMALL, "--checkpoint", str(checkpoint), "--out", str(out))
    assert running.process.wait(timeout=240) == 1, running.log
    assert "Traceback" not in running.log
    assert {path.name for path in out.iterdir()} == {"result.json", "drive.mp4", "report.html"}
    assert (out / "drive.mp4").read_bytes()[4:8] == b"ftyp"
    page = (out / "report.html").read_text()
    assert "Goal 1: an image, missed" in page
    assert "Goal 2: a pose, missed" in page
    result = json.loads((out / "result.json").read_text())
    assert (result["num_goals"], result["num_reached"]) == (2, 0)
    for goal in result["goals"]:
        assert goal["reached"] is False
        assert goal["final_distance_m"] > 0.0
        assert 0.0 <= goal["final_yaw_error_rad"] <= 3.15
        assert 1 <= goal["num_plans"] <= 2
        assert 0.0 < goal["plan_s_p50"] <= goal["plan_s_p95"]
        assert goal["frames_imagined"] > 0
    pose = result["goals"][1]
    assert pose["steps_driven"] == 2
    moved = [abs(a - b) for a, b in zip(pose["start_pose"], pose["final_pose"], strict=True)]
    assert max(moved) > 0.05, "the velocity commands reached the simulated robot"


def is_alive(node: psutil.Process) -> bool:
    """Whether it runs; one that has ended and waits to be collected does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return node.is_running() and node.status() != psutil.STATUS_ZOMBIE
    return False


def test_ctrl_c_stops_the_nodes_and_leaves_nothing(
    demo: Callable[..., Demo], tmp_path: Path, checkpoint: Path
) -> None:
    running = demo("--checkpoint", str(checkpoint), "--out", str(tmp_path / "demo"))
    wait_for(lambda: len(running.nodes()) == 3, 120.0, "three node processes")
    nodes = running.nodes()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=90) == 130, running.log
    wait_for(lambda: not any(is_alive(node) for node in nodes), 10.0, "the nodes to end")
    assert not (tmp_path / "demo").exists()


def test_a_checkpoint_that_is_damaged_ends_the_demo_with_2(
    demo: Callable[..., Demo], tmp_path: Path, checkpoint: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in checkpoint.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[:2000] if path.suffix == ".safetensors" else data)
    running = demo("--checkpoint", str(broken), "--out", str(tmp_path / "demo"))
    assert running.process.wait(timeout=200) == 2, running.log
    assert "cannot start" in running.log
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--goals", "0"), "--goals"),
        (("--max-steps", "0"), "--max-steps"),
        (("--candidates", "1"), "--candidates"),
        (("--time-limit-s", "nan"), "--time-limit-s"),
        (("--checkpoint", "/nowhere"), "checkpoint"),
        (("--out", __file__), "--out"),
        (("--world", "castle"), "--world"),
        (("--world-seed", "-1"), "--world-seed"),
    ],
)
def test_bad_arguments_exit_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], named: str
) -> None:
    assert main(["demo", *arguments]) == 2
    assert named in capsys.readouterr().err
