"""The RViz file can be used when opened, and the simulator's transforms are those of REP 103."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ros2_ws/src/v2w"


def test_the_rviz_file_has_tools_views_and_the_topics_of_the_nodes() -> None:
    manager = yaml.safe_load((PACKAGE / "config/v2w.rviz").read_text())["Visualization Manager"]
    tools = [tool["Class"].partition("/")[2] for tool in manager["Tools"]]
    assert {"MoveCamera", "Select", "FocusCamera", "Measure"} <= set(tools)
    assert manager["Views"]["Current"]["Class"] and len(manager["Views"]["Saved"]) >= 2
    assert manager["Transformation"]["Current"]["Class"] == "rviz_default_plugins/TF"
    sources = "".join(path.read_text() for path in (PACKAGE / "v2w/nodes").glob("*.py"))
    topics = [d["Topic"]["Value"] for d in manager["Displays"] if "Topic" in d]
    own = [topic for topic in topics if topic.startswith("planner_node/")]
    assert len(own) == 3
    for topic in own:
        assert topic.replace("planner_node/", '"~/') + '"' in sources


def test_transforms_of_the_simulated_robot() -> None:
    pytest.importorskip("geometry_msgs")
    from v2w.messages.transforms import OPTICAL, camera_transform, planar_transform

    body = planar_transform((1.0, -2.0, np.pi / 2), 3_000_000_007, "odom", "base_link")
    assert (body.header.frame_id, body.child_frame_id) == ("odom", "base_link")
    assert (body.header.stamp.sec, body.header.stamp.nanosec) == (3, 7)
    move, turn = body.transform.translation, body.transform.rotation
    assert (move.x, move.y, move.z) == (1.0, -2.0, 0.0)
    assert (turn.z, turn.w) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
    camera = camera_transform(1.25, 0, "base_link", "camera_optical_frame")
    assert camera.transform.translation.z == 1.25
    x, y, z, w = OPTICAL
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    forward, right, down = rotation @ [0, 0, 1], rotation @ [1, 0, 0], rotation @ [0, 1, 0]
    assert forward == pytest.approx([1, 0, 0]), "the camera looks along x of the body"
    assert right == pytest.approx([0, -1, 0])
    assert down == pytest.approx([0, 0, -1])
