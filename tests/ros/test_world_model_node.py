from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from ros_harness import PATIENCE_S, Nodes, Robot, sequence, wait_for
from sensor_msgs.msg import Image
from v2w_msgs.msg import ModelStatus
from v2w_msgs.srv import Imagine

from v2w.errors import CODES
from v2w.messages import images
from v2w.messages.conversions import header_message

NONE, PNG, RAW = Imagine.Request.NONE, Imagine.Request.PNG, Imagine.Request.RAW
FORWARD = np.tile(np.float32([0.1, 0.0, 0.0]), (4, 1))


@pytest.fixture(scope="module", autouse=True)
def world_model(nodes: Nodes, robot: Robot, checkpoint: Path) -> None:
    patient = {"max_history_age": 3.0}  # a busy machine may pause for longer than the default
    patient |= {"queue_mib": 1, "max_answer_mib": 1}
    values = {"checkpoint": str(checkpoint), "device": "cpu", "status_period": 0.2} | patient
    nodes.start(["world_model_node"], {"world_model_node": values})
    robot.ready("world_model_node")


def test_imagine_answers_one_rollout_a_candidate(robot: Robot) -> None:
    turn = np.tile(np.float32([0.0, 0.0, 0.3]), (4, 1))
    answer = robot.imagine(candidates=[sequence(FORWARD), sequence(turn)], seed=3)
    assert (answer.error_code, answer.error_msg) == (0, "")
    assert [rollout.candidate_index for rollout in answer.rollouts] == [0, 1]
    first = answer.rollouts[0]
    assert len(first.compressed_frames) == 4
    assert not first.frames
    assert math.isnan(first.cost)
    assert images.rgb_from_compressed(first.compressed_frames[0]).shape == (32, 32, 3)
    assert len(first.path.poses) == 5
    ends = [first.path.poses[i].pose.position.x for i in (0, -1)]
    assert ends[1] - ends[0] == pytest.approx(0.4, abs=1e-5)
    stamps = [frame.header.stamp for frame in first.compressed_frames]
    steps = [s.sec + s.nanosec * 1e-9 for s in (first.header.stamp, *stamps)]
    assert np.diff(steps) == pytest.approx([0.25] * 4, abs=1e-3)


@pytest.mark.parametrize("frame_format", [NONE, PNG, RAW])
def test_frame_formats(robot: Robot, frame_format: int) -> None:
    answer = robot.imagine(candidates=[sequence(FORWARD)], frame_format=frame_format)
    rollout = answer.rollouts[0]
    wanted = {
        NONE: (0, 0),
        PNG: (4, 0),
        RAW: (0, 4),
    }
    assert (len(rollout.compressed_frames), len(rollout.frames)) == wanted[frame_format]


def test_the_same_moment_and_seed_give_the_same_frames(robot: Robot) -> None:
    stamp = robot.imagine(candidates=[sequence(FORWARD)]).rollouts[0].header.stamp
    answers = [
        robot.imagine(
            candidates=[sequence(FORWARD)], seed=seed, history_stamp=stamp,
            frame_format=RAW,
        )
        for seed in (5, 5, 6)
    ]  # fmt: skip
    first, again, other = (bytes(a.rollouts[0].frames[-1].data) for a in answers)
    assert first == again
    assert first != other


BAD = np.where(np.arange(12).reshape(4, 3) == 4, np.float32("nan"), FORWARD)


@pytest.mark.parametrize(
    ("candidates", "named"),
    [
        ([], "candidates"),
        ([sequence(FORWARD, names=["dx", "dy", "yaw"])], "names"),
        ([sequence(FORWARD, units=["m", "m", "deg"])], "units"),
        ([sequence(FORWARD, horizon=3)], "3 x 3"),
        ([sequence(FORWARD[:, :2])], "4 x 3"),
        ([sequence(FORWARD), sequence(FORWARD[:3])], "horizon"),
        ([sequence(FORWARD * 100.0)], "within"),
        ([sequence(BAD)], "finite"),
        ([sequence(np.tile(FORWARD, (17, 1)))], "from 1 to 64 steps"),
        ([sequence(FORWARD, dt=sequence(FORWARD).dt.__class__(sec=1))], "dt"),
    ],
)
def test_bad_candidates_are_refused(robot: Robot, candidates: list, named: str) -> None:
    answer = robot.imagine(candidates=candidates)
    assert answer.error_code == CODES["INVALID_REQUEST"]
    assert named in answer.error_msg
    assert not answer.rollouts


def test_bad_frame_format(robot: Robot) -> None:
    answer = robot.imagine(candidates=[sequence(FORWARD)], frame_format=9)
    assert answer.error_code == CODES["INVALID_REQUEST"]


def test_an_answer_that_would_be_too_large_is_refused_with_the_figures(robot: Robot) -> None:
    many = [sequence(np.tile(FORWARD, (2, 1)))] * 64
    answer = robot.imagine(candidates=many, frame_format=RAW)
    assert answer.error_code == CODES["INVALID_REQUEST"]
    assert "512 frames, up to 2 MiB" in answer.error_msg and "max_answer_mib" in answer.error_msg
    assert not answer.rollouts


def test_a_moment_that_is_not_in_the_buffer(robot: Robot) -> None:
    stamp = robot.node.get_clock().now().to_msg()
    stamp.sec -= 1000
    answer = robot.imagine(candidates=[sequence(FORWARD)], history_stamp=stamp)
    assert answer.error_code == CODES["HISTORY_UNAVAILABLE"]


def test_concurrent_requests_are_all_answered_in_the_order_in_which_they_came(
    robot: Robot,
) -> None:
    client = robot.node.create_client(Imagine, "world_model_node/imagine")
    assert client.wait_for_service(PATIENCE_S)
    answered: list[int] = []
    futures = []
    served = robot.status["world_model_node"].requests_served
    for number in range(6):
        # the first ones take longest: whoever is quick must not pass them
        many = [sequence(np.tile(FORWARD, (2, 1)))] * (200 if number < 2 else 1)
        request = Imagine.Request(candidates=many, frame_format=NONE)
        futures.append(client.call_async(request))
        futures[-1].add_done_callback(lambda _, n=number: answered.append(n))
        time.sleep(0.05)
    wait_for(lambda: len(answered) == 6, PATIENCE_S, "all answers")
    assert answered == list(range(6))
    assert [future.result().error_code for future in futures] == [0] * 6
    wait_for(
        lambda: robot.status["world_model_node"].requests_served == served + 6,
        PATIENCE_S,
        "the status to count them",
    )
    status = robot.status["world_model_node"]
    assert (status.backend, status.device, status.precision) == ("eager", "cpu", "fp32")
    assert not status.degraded and not status.engine_key
    assert status.requests_waiting == 0
    assert 0 < status.median_step_time < status.median_request_time
    robot.node.destroy_client(client)


def test_diagnostics(robot: Robot) -> None:
    seen: list[DiagnosticArray] = []
    robot.node.create_subscription(DiagnosticArray, "/diagnostics", seen.append, 10)
    wait_for(lambda: seen, PATIENCE_S, "diagnostics")
    values = {entry.key: entry.value for entry in seen[-1].status[0].values}
    assert values["state"] == "READY"
    assert values["back end"] == "eager on cpu, fp32"
    assert values["engine"] == "none built"
    for stage in ("encode", "imagine", "decode", "step"):
        p50, p95 = (float(x) for x in values[f"{stage} p50 / p95 [ms]"].split(" / "))
        assert 0.0 < p50 <= p95
    assert int(values["camera frames"]) > 5


def imagines(robot: Robot) -> bool:
    return robot.imagine(candidates=[sequence(FORWARD)]).error_code == 0


def test_of_a_large_camera_fewer_messages_are_queued(robot: Robot, nodes: Nodes) -> None:
    """480 KB a message: two of them fit into the MiB that this node may queue."""
    large = robot.node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
    picture = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)

    def shorter() -> bool:
        stamp = robot.node.get_clock().now().nanoseconds
        large.publish(images.image_message(picture, header_message(stamp, "camera")))
        time.sleep(0.1)
        return "0.5 MiB, 2 are queued" in nodes.log("world_model_node")

    wait_for(shorter, PATIENCE_S, "a shorter queue")
    robot.node.destroy_publisher(large)
    count = nodes.log("world_model_node").count("are queued")
    robot.ready("world_model_node")
    wait_for(lambda: imagines(robot), PATIENCE_S, "frames of the queue that is shorter")
    assert nodes.log("world_model_node").count("are queued") == count == 1


def test_a_stale_history_is_refused_and_recovers(robot: Robot) -> None:
    robot.camera_on = False
    wait_for(
        lambda: " old" in robot.status["world_model_node"].message, PATIENCE_S, "a stale history"
    )
    assert robot.status["world_model_node"].state == ModelStatus.WAITING_FOR_HISTORY
    answer = robot.imagine(candidates=[sequence(FORWARD)])
    assert answer.error_code == CODES["HISTORY_STALE"]
    robot.camera_on = True
    robot.ready("world_model_node")
    wait_for(lambda: imagines(robot), PATIENCE_S, "frames that are fresh again")


def test_time_jumping_backwards_clears_the_history(robot: Robot, nodes: Nodes) -> None:
    robot.camera_on = robot.odometry_on = False
    time.sleep(0.1)
    robot.offset_s = -100.0
    robot.camera_on = robot.odometry_on = True
    wait_for(lambda: "jumped backwards" in nodes.log("world_model_node"), PATIENCE_S, "a warning")
    answer = robot.imagine(candidates=[sequence(FORWARD)])
    assert answer.error_code in (CODES["HISTORY_UNAVAILABLE"], CODES["HISTORY_STALE"])
    robot.offset_s = 0.0
    robot.ready("world_model_node")
    wait_for(lambda: imagines(robot), PATIENCE_S, "frames that are fresh again")


def test_it_stops_cleanly(nodes: Nodes, robot: Robot) -> None:
    assert nodes.stop() == {"world_model_node": 0}
    assert "Traceback" not in nodes.log("world_model_node")
