"""Peers that come and die while a plan is driven, or made: clients, and other planners."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from base_robot import BaseRobot
from fault_harness import DRIVES, LATE_S, NAME, drives, fine, report
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_harness import DOMAINS, PATIENCE_S, Nodes, Robot, wait_for

CLIENT = """
import rclpy
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService
kind, length = input().split()
ahead = PoseStamped()
ahead.header.frame_id = "base_link"
ahead.pose.position.x = 5.0
goal = {"goal_pose": ahead, "time_budget": Duration(sec=1, nanosec=500_000_000)}
if length == "long":
    goal |= {"num_iterations": 1000, "num_candidates": 1024}
rclpy.init()
node = rclpy.create_node("other_client")
if kind == "action":
    client = ActionClient(node, PlanAction, "planner_node/plan")
    client.wait_for_server()
    future = client.send_goal_async(PlanAction.Goal(**goal))
    rclpy.spin_until_future_complete(node, future)
else:
    client = node.create_client(PlanService, "planner_node/plan")
    client.wait_for_service()
    client.call_async(PlanService.Request(**goal))
    rclpy.spin_once(node, timeout_sec=0.3)
print("sent", flush=True)
rclpy.spin(node)
"""


class Client:
    """A process that sends a goal when it is told to."""

    def __init__(self, domain: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT], env=os.environ | {"ROS_DOMAIN_ID": str(domain)},
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def sends(self, kind: str, length: str) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        print(kind, length, file=stdin, flush=True)
        assert stdout.readline() == "sent\n"

    def dies(self) -> None:
        self.process.kill()


@pytest.fixture
def client(base: BaseRobot, driver: Nodes) -> Iterator[Client]:
    started = Client(driver.domain)
    yield started
    started.dies()
    started.process.wait()


@pytest.mark.parametrize("kind", ["action", "service"])
def test_a_plan_whose_client_died_is_not_driven(
    base: BaseRobot, driver: Nodes, client: Client, kind: str
) -> None:
    client.sends(kind, "long")
    time.sleep(0.3)
    count = len(base.commands)
    said = driver.log(NAME).count("the client is gone")
    client.dies()
    wait_for(lambda: driver.log(NAME).count("the client is gone") > said, 5.0, "the log")
    time.sleep(0.5)
    assert not base.moving and len(base.commands) == count
    base.ready()


def test_the_motion_ends_when_the_client_of_its_action_dies(
    base: BaseRobot, client: Client
) -> None:
    client.sends("action", "short")
    wait_for(lambda: base.moving, 10.0, "driving")
    measured = base.stops(client.dies)
    report("the action's client is killed while driving", measured)
    assert measured[0] < 0.5 + LATE_S
    wait_for(lambda: "client is gone" in base.status.stopped_because, 5.0, "the status to say why")
    time.sleep(0.3)
    assert not base.moving, "the plan was dropped"


def test_another_publisher_of_commands_is_named(base: BaseRobot) -> None:
    other = base.node.create_publisher(Twist, "cmd_vel", 1)
    wait_for(
        lambda: any("base_robot publishes" in line for line in base.status.checks), 10.0, "a note"
    )
    base.node.destroy_publisher(other)


def test_an_interrupted_planner_stops_the_robot(base_robot: BaseRobot, driver: Nodes) -> None:
    wait_for(lambda: fine(base_robot), 20.0, "all checks")
    drives(base_robot)
    measured = base_robot.stops(lambda: driver.processes[NAME].send_signal(signal.SIGTERM))
    report("SIGTERM", measured)
    assert measured[0] < 0.3 + LATE_S
    assert driver.processes[NAME].wait(20.0) == 0


def test_of_two_planners_of_a_name_one_is_active(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A request of a transition reaches both, so that they are activated at the same moment."""
    domain = next(DOMAINS)
    planners = [Nodes(domain, tmp_path_factory.mktemp("logs")) for _ in range(2)]
    peer = Robot(domain, publishes=False)

    def asks(transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        peer.call(ChangeState, f"{NAME}/change_state", request)

    def say(count: int, *texts: str) -> None:
        def all_do() -> bool:
            return sum(nodes.log(NAME).count(t) for nodes in planners for t in texts) == count

        wait_for(all_do, PATIENCE_S, f"{count} times {texts}")

    done, refused = "activate: done", "two planners must not drive one robot"
    values = DRIVES | {"checkpoint": str(checkpoint), "autostart": False}
    try:
        for nodes in planners:
            nodes.start([NAME], {NAME: values})
        both = len(planners)
        wait_for(lambda: peer.node.count_publishers(f"{NAME}/status") == both, PATIENCE_S, "both")
        asks(Transition.TRANSITION_CONFIGURE)
        say(2, "configure: done")
        asks(Transition.TRANSITION_ACTIVATE)
        say(2, done, refused)
        active, other = sorted(planners, key=lambda nodes: done not in nodes.log(NAME))
        assert done in active.log(NAME) and "is being activated" in other.log(NAME)
        asks(Transition.TRANSITION_ACTIVATE)
        say(1, "another /planner_node is active")
        active.processes[NAME].kill()
        active.processes[NAME].wait()
        asks(Transition.TRANSITION_ACTIVATE)
        say(2, done)
        assert done in other.log(NAME)
    finally:
        peer.close()
        codes = [nodes.stop()[NAME] for nodes in planners]
    assert sorted(codes) == [-signal.SIGKILL, 0]
