"""Channels of Foxglove in an MCAP file: JSON and protobuf, whole or not."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from bagmaker import HEIGHT, START_NS, WIDTH, picture, pose_at
from convert_toys import converted
from mcapmaker import write_mcap
from test_bag_motion import codes, right
from test_convert import shown

STEP_NS = 50_000_000
NUMBERS = list(range(0, 60, 5))


def test_foxglove_channels_in_json(tmp_path: Path) -> None:
    def time_of(stamp: int) -> dict[str, int]:
        return {"sec": stamp // 10**9, "nsec": stamp % 10**9}

    rows = []
    for number in range(60):
        stamp = START_NS + number * 50_000_000
        encoded = cv2.imencode(".png", picture(number)[..., ::-1])[1].tobytes()
        image = {"format": "png", "data": base64.b64encode(encoded).decode()}
        image |= {"timestamp": time_of(stamp), "frame_id": "camera"}
        rows.append((1, stamp, json.dumps(image).encode()))
    for number in range(-2, 152):
        stamp, (x, y, yaw) = START_NS + number * 20_000_000, pose_at(number / 50)
        pose = {
            "position": {"x": x, "y": y, "z": 0.0},
            "orientation": {"x": 0.0, "y": 0.0, "z": np.sin(yaw / 2), "w": np.cos(yaw / 2)},
        }
        message = {"timestamp": time_of(stamp), "frame_id": "map", "pose": pose}
        rows.append((2, stamp, json.dumps(message).encode()))
    channels = [
        ("/camera", "json", "foxglove.CompressedImage", "jsonschema", b"{}"),
        ("/pose", "json", "foxglove.PoseInFrame", "jsonschema", b"{}"),
    ]
    file = write_mcap(tmp_path / "drive.mcap", channels, rows)
    (episode,) = converted(file, tmp_path / "out", "--odom-topic", "/pose")
    assert right(episode) and [shown(frame) for frame in episode.frames()] == NUMBERS


def test_foxglove_channels_in_protobuf(tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf")
    from protobuf_toys import compressed_image, frame_transform, schema

    rows = []
    for number in range(60):
        stamp = START_NS + number * 50_000_000
        encoded = cv2.imencode(".png", picture(number)[..., ::-1])[1].tobytes()
        rows.append((1, stamp, compressed_image(stamp, encoded, "png")))
    for number in range(-2, 152):
        stamp = START_NS + number * 20_000_000
        rows.append((2, stamp, frame_transform(stamp, "odom", "base_link", pose_at(number / 50))))
    channels = [
        ("/camera", "protobuf", "foxglove.CompressedImage", "protobuf", schema()),
        ("/tf", "protobuf", "foxglove.FrameTransform", "protobuf", schema()),
    ]
    file = write_mcap(tmp_path / "drive.mcap", channels, rows, chunk=20)
    (episode,) = converted(file, tmp_path / "out", "--odom-topic", "/tf")
    assert right(episode) and [shown(frame) for frame in episode.frames()] == NUMBERS


def test_garbage_among_foxglove_messages(tmp_path: Path) -> None:
    """Values of other types than the schema's, and JSON that is none, cost their message only."""
    rows = []
    for number in range(60):
        stamp = START_NS + number * STEP_NS
        time = {"sec": stamp // 10**9, "nsec": stamp % 10**9}
        image = {"timestamp": time, "frame_id": "camera", "encoding": "rgb8", "step": 3 * WIDTH}
        image |= {"width": WIDTH, "height": HEIGHT}
        image["data"] = base64.b64encode(picture(number).tobytes()).decode()
        data = json.dumps(image).encode()
        bad = {0: b'{"a":', 1: b"null", 33: b'{"timestamp": {"sec": "x"}, "data": 5}', 34: b"[]"}
        rows.append((1, stamp, bad.get(number, data)))
    for number in range(-2, 152):
        stamp, (x, y, yaw) = START_NS + number * 20_000_000, pose_at(number / 50)
        turn = {"x": 0, "y": 0, "z": float(np.sin(yaw / 2)), "w": float(np.cos(yaw / 2))}
        pose = {"position": {"x": x, "y": y, "z": 0}, "orientation": turn}
        time = {"sec": stamp // 10**9, "nsec": stamp % 10**9}
        message = {"timestamp": time, "frame_id": "map", "pose": pose}
        data = json.dumps(message).encode()
        bad = {-2: b"null", 40: b'{"pose": {"position": {"x": "a"}}}', 41: b'{"timestamp": 1e99}'}
        rows.append((2, stamp, bad.get(number, data)))
    channels = [
        ("/camera", "json", "foxglove.RawImage", "jsonschema", b"{}"),
        ("/pose", "json", "foxglove.PoseInFrame", "jsonschema", b"{}"),
    ]
    file = write_mcap(tmp_path / "drive.mcap", channels, rows)
    options = ("--odom-topic", "/pose", "--rate-hz", "20")
    episodes = converted(file, tmp_path / "out", *options)
    numbers = [shown(frame) for episode in episodes for frame in episode.frames()]
    assert numbers == [*range(2, 33), *range(35, 60)]
    assert codes(episodes[0]) >= {"bad_messages", "stamps_odd"}
