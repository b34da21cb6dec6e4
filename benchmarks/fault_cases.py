"""The faults of faults.py: each is driven, or planned into, once for each call.

A case returns what was measured of it: ``seconds`` from the fault to the zero command at the topic
and ``metres`` that the robot went meanwhile, or ``held``, whether what must not happen did not.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger
from v2w_msgs.srv import Plan as PlanService

from driven_robot import AHEAD, LONG, PLANNER, Driver, Nodes, pose_goal, wait_for
from sensor_faults import CAMERA, ODOMETRY, freezes, loses_camera, shifts, shows
from v2w.errors import CODES
from v2w.messages.conversions import duration_message
from v2w.messages.images import compressed_message

Measured = dict[str, Any]
PICTURE = compressed_message(np.full((32, 32, 3), 90, np.uint8), AHEAD.header)


class Scene:
    """A planner that drives a robot, and what it takes to disturb both.

    Args:
        nodes: has planner_node.
        values: its parameters.
        driver: of the robot.
    """

    def __init__(self, nodes: Nodes, values: dict[str, Any], driver: Driver) -> None:
        self.nodes, self.values = nodes, values
        self.driver, self.robot = driver, driver.robot

    @property
    def process(self) -> Any:
        """The planner's process."""
        return self.nodes.processes[PLANNER]

    def tidy(self) -> None:
        """The robot stands, nothing is wrong with it, and the planner says so."""
        self.robot.reset()
        if self.process.poll() is not None:
            self.nodes.start([PLANNER], {PLANNER: self.values})
            time.sleep(2.0)
        self.robot.call(Trigger, f"{PLANNER}/stop", Trigger.Request())
        time.sleep(1.5)  # the last case leaves the history
        self.driver.wait_until_fine()

    def plan(self, **fields: Any) -> Any:
        """The answer of ~/plan, the service."""
        return self.robot.call(PlanService, f"{PLANNER}/plan", PlanService.Request(**fields))

    def suspended(self) -> None:
        """The planner's process stands still for 1 s."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        self.process.send_signal(signal.SIGCONT)


Case = Callable[[Scene], Measured]


def stops(scene: Scene, fault: Callable[[], Any]) -> Measured:
    """The robot drives, something happens, and a zero command must come."""
    _, result = scene.driver.drives()
    seconds, metres = scene.robot.stops(fault)
    why = scene.driver.ended(result).result.error_msg
    return {"seconds": seconds, "metres": metres, "why": why}


def with_fault(fault: Callable[[Any], None]) -> Case:
    """A fault of the camera or the odometry while the robot drives."""
    return lambda scene: stops(scene, lambda: fault(scene.robot))


def no_clock(scene: Scene) -> Measured:
    """use_sim_time is switched on where nobody publishes /clock."""
    try:
        return stops(scene, lambda: scene.driver.set_parameter("use_sim_time", True))
    finally:
        scene.driver.set_parameter("use_sim_time", False)


def clock_stops(scene: Scene) -> Measured:
    """/clock ends while the robot drives by it."""
    node = scene.robot.node
    publisher = node.create_publisher(Clock, "/clock", 10)
    timer = node.create_timer(
        0.02, lambda: publisher.publish(Clock(clock=node.get_clock().now().to_msg()))
    )
    try:
        scene.driver.set_parameter("use_sim_time", True)
        time.sleep(0.5)
        return stops(scene, timer.cancel)
    finally:
        node.destroy_timer(timer)
        node.destroy_publisher(publisher)
        scene.driver.set_parameter("use_sim_time", False)


def cancelled(scene: Scene) -> Measured:
    """The goal is cancelled while it is driven."""
    handle, result = scene.driver.drives()
    seconds, metres = scene.robot.stops(handle.cancel_goal_async)
    scene.driver.ended(result)
    return {"seconds": seconds, "metres": metres}


def told_to_stop(scene: Scene) -> Measured:
    """~/stop while a plan is driven."""
    client = scene.robot.node.create_client(Trigger, f"{PLANNER}/stop")
    assert client.wait_for_service(30.0)
    try:
        return stops(scene, lambda: client.call_async(Trigger.Request()))
    finally:
        scene.robot.node.destroy_client(client)


def pre_empted_while_driven(scene: Scene) -> Measured:
    """A newer goal comes while one is driven: until the older one's robot stops."""
    _, older = scene.driver.drives()
    newer: list[Any] = []

    def fault() -> None:
        newer.append(scene.driver.send(**LONG, time_budget=duration_message(1.0)))

    seconds, metres = scene.robot.stops(fault)
    scene.driver.ended(older)
    scene.driver.ended(newer[0][1])
    return {"seconds": seconds, "metres": metres}


def pre_empted_while_planned(scene: Scene) -> Measured:
    """A newer goal comes while a long plan is made: until the newer one is driven."""
    _, older = scene.driver.send(**LONG, time_budget=duration_message(20.0))
    time.sleep(0.5)
    began, driving = time.monotonic(), []

    def note(message: Any) -> None:
        if message.feedback.phase:
            driving.append(time.monotonic() - began)

    _, newer = scene.driver.send(note, goal_pose=AHEAD)
    wait_for(lambda: driving or newer.done(), 60.0, "the newer goal")
    scene.driver.ended(older)
    if not driving:
        raise AssertionError(newer.result().result.error_msg)
    return {"seconds": driving[0]}


def not_driven(scene: Scene, answer: Any, count: int, why: str) -> Measured:
    """Whether an answer says ``why`` no command came."""
    time.sleep(0.3)
    moved = any(
        twist.linear.x or twist.linear.y or twist.angular.z
        for _, twist in scene.robot.commands[count:]
    )
    return {
        "held": not moved and not answer.driven and why in answer.error_msg,
        "why": answer.error_msg,
    }


def while_planned(scene: Scene, fault: Callable[[Scene], None], why: str) -> Measured:
    """Something happens while a plan is made, which must not be driven then."""
    count = len(scene.robot.commands)
    _, result = scene.driver.send(**LONG, time_budget=duration_message(1.5))
    time.sleep(0.4)
    fault(scene)
    return not_driven(scene, scene.driver.ended(result).result, count, why)


def carried(scene: Scene) -> None:
    """The robot is carried 5 m."""
    scene.robot.true_pose = np.add(scene.robot.true_pose, (5.0, 0.0, 0.0))


def restarted(scene: Scene) -> None:
    """The odometry begins at 0 again."""
    x, _, yaw = scene.robot.true_pose
    shifts(scene.robot, x=-x, yaw=-yaw)


def blind_image_goal(scene: Scene, fault: Callable[[Any], None], why: str) -> Measured:
    """An image goal while the camera shows nothing."""
    fault(scene.robot)
    wait_for(lambda: not scene.driver.fine(), 10.0, "the status to say so")
    count = len(scene.robot.commands)
    answer = scene.plan(goal_type=1, goal_image=PICTURE)
    measured = not_driven(scene, answer, count, why)
    measured["held"] = measured["held"] and answer.error_code == CODES["NO_VALID_PLAN"]
    return measured


def hardly_planned(scene: Scene) -> Measured:
    """A plan with a budget of 1 ms."""
    count = len(scene.robot.commands)
    answer = scene.plan(goal_pose=AHEAD, time_budget=duration_message(0.001))
    return not_driven(scene, answer, count, "candidates were scored")


def goal_nowhere(scene: Scene) -> Measured:
    """A goal at 1e300 m."""
    count = len(scene.robot.commands)
    answer = scene.plan(goal_pose=pose_goal(1e300, 0.0, frame_id="base_link"))
    return not_driven(scene, answer, count, "coordinates within")


CLIENT = """
import sys, rclpy
from rclpy.action import ActionClient
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService
from v2w.messages.conversions import duration_message
from driven_robot import LONG
rclpy.init()
node = rclpy.create_node("other_client")
if sys.argv[1] == "action":
    client = ActionClient(node, PlanAction, "planner_node/plan")
    client.wait_for_server()
    goal = PlanAction.Goal(**LONG, time_budget=duration_message(1.5))
    rclpy.spin_until_future_complete(node, client.send_goal_async(goal))
else:
    client = node.create_client(PlanService, "planner_node/plan")
    client.wait_for_service()
    client.call_async(PlanService.Request(**LONG, time_budget=duration_message(1.5)))
    rclpy.spin_once(node, timeout_sec=0.3)
print("sent", flush=True)
rclpy.spin(node)
"""


def client_dies(scene: Scene, kind: str) -> Measured:
    """The client of the action, or of the service, is killed while its plan is made."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, kind],
        env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None and client.stdout.readline() == b"sent\n"
    time.sleep(0.3)
    count, said = len(scene.robot.commands), scene.nodes.log(PLANNER).count("the client is gone")
    client.kill()
    time.sleep(2.5)
    client.wait()
    noticed = scene.nodes.log(PLANNER).count("the client is gone") > said
    return {"held": noticed and len(scene.robot.commands) == count}


def made_while_moving(scene: Scene) -> Measured:
    """A plan is made while the last one is driven: how far the robot ends from its end."""
    first = scene.plan(goal_pose=AHEAD)
    while not first.driven:  # a check refused it: the machine is busy
        first = scene.plan(goal_pose=AHEAD)
    wait_for(lambda: scene.robot.moving, 10.0, "driving")
    time.sleep(0.7)
    second = scene.plan(goal_pose=AHEAD)
    wait_for(lambda: not scene.robot.moving, 20.0, "the end")
    time.sleep(0.2)
    end = (second if second.driven else first).path.poses[-1].pose.position
    away = math.dist(scene.robot.true_pose[:2], (end.x, end.y))
    return {"metres_from_planned_end": away}


def second_planner(scene: Scene) -> Measured:
    """Another planner_node of the same name is started."""
    with tempfile.TemporaryDirectory() as folder:
        second = Nodes(scene.nodes.domain, Path(folder))
        second.start([PLANNER], {PLANNER: scene.values})
        code = second.processes[PLANNER].wait(timeout=100.0)
        said = "is active" in second.log(PLANNER)
    return {"held": code == 2 and said and scene.process.poll() is None}


def interrupted(scene: Scene) -> Measured:
    """SIGTERM while a plan is driven."""
    scene.driver.drives()
    seconds, metres = scene.robot.stops(lambda: scene.process.send_signal(signal.SIGTERM))
    scene.process.wait(30.0)
    return {"seconds": seconds, "metres": metres}


def killed(scene: Scene) -> Measured:
    """SIGKILL while a plan is driven: the base stops by its own timeout of 1 s."""
    scene.driver.drives()
    here, began = scene.robot.true_pose.copy(), time.monotonic()
    scene.process.kill()
    scene.process.wait()
    place, seconds = here, 0.0
    while time.monotonic() - began < 3.0:
        if not np.array_equal(place, scene.robot.true_pose):
            place, seconds = scene.robot.true_pose.copy(), time.monotonic() - began
        time.sleep(0.01)
    metres = float(np.hypot(*(place - here)[:2]))
    return {"seconds": seconds, "metres": metres}


#: Name: (what must be, the case). Cases that end the planner come last.
CASES: dict[str, tuple[str, Case]] = {
    **{
        name: ("0.5 s" if name == "camera stops" else "3 frames", with_fault(fault))
        for name, fault in CAMERA.items()
    },
    **{name: ("0.5 s", with_fault(fault)) for name, fault in ODOMETRY.items()},
    "use_sim_time without /clock": ("0.5 s", no_clock),
    "/clock stops": ("0.5 s", clock_stops),
    "SIGSTOP of the planner for 1 s": ("1 s + 0.05 s", lambda s: stops(s, s.suspended)),
    "goal cancelled": ("0.05 s", cancelled),
    "~/stop": ("0.05 s", told_to_stop),
    "newer goal while one is driven": ("stops", pre_empted_while_driven),
    "newer goal while one is planned": ("driven within 1 s", pre_empted_while_planned),
    "action client killed while planning": ("not driven", partial(client_dies, kind="action")),
    "service client killed while planning": ("not driven", partial(client_dies, kind="service")),
    "robot carried 5 m while planning": (
        "not driven", partial(while_planned, fault=carried, why="jump"),
    ),
    "odometry restarted while planning": (
        "not driven", partial(while_planned, fault=restarted, why="jump"),
    ),
    "camera lost while planning": (
        "not driven",
        partial(while_planned, fault=lambda s: loses_camera(s.robot), why="camera"),
    ),
    "SIGSTOP while planning": (
        "not driven", partial(while_planned, fault=Scene.suspended, why="stood still"),
    ),
    "image goal, camera black": (
        "refused", partial(blind_image_goal, fault=partial(shows, value=0), why="dark"),
    ),
    "image goal, camera frozen": (
        "refused", partial(blind_image_goal, fault=freezes, why="frozen"),
    ),
    "budget of 1 ms": ("not driven", hardly_planned),
    "goal at 1e300": ("refused", goal_nowhere),
    "plan made while moving": ("0.8 m", made_while_moving),
    "second planner of the name": ("refuses to start", second_planner),
    "SIGTERM": ("zero", interrupted),
    "SIGKILL": ("the base's timeout (1 s)", killed),
}  # fmt: skip
