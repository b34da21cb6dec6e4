"""Real nodes with a tiny model, and the simulated base of the tests, for soak.py and faults.py."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "ros"))

from base_robot import BaseRobot
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_harness import Nodes, pose_goal, wait_for
from v2w_msgs.action import Plan as PlanAction

from v2w.demo.action_client import ThreadedActionClient

__all__ = ["BaseRobot", "Nodes", "Driver", "pose_goal", "tiny_checkpoint", "wait_for"]

PLANNER = "planner_node"
#: Parameters of a planner that drives this robot with the tiny model.
PLANNER_VALUES = {
    "device": "cpu", "horizon": 8, "execute_steps": 8, "num_candidates": 32, "num_iterations": 3,
    "publish_velocity": True, "status_period": 0.2, "max_history_age": 2.0,
}  # fmt: skip
AHEAD = pose_goal(5.0, 0.0, frame_id="base_link")
#: A plan of this goal ends by its time, or by being given up.
LONG = {"goal_pose": AHEAD, "num_iterations": 1000, "num_candidates": 1024}


def tiny_checkpoint(folder: Path) -> Path:
    """A checkpoint of a model small enough to plan in milliseconds; its weights are random."""
    import torch

    from v2w_core.testing import tiny_config
    from v2w_core.world_model import WorldModel

    model = WorldModel.build(tiny_config())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # layers that start at zero would hide the noise and the actions
        for weights in model.parameters():
            weights += 0.05 * torch.randn(weights.shape, generator=generator)
    return model.save_pretrained(folder)


class Driver:
    """Lets a planner drive a robot.

    Args:
        robot: the base that the planner's commands move.
        patience_s: how long a busy machine may take [s].
    """

    def __init__(self, robot: BaseRobot, patience_s: float = 60.0) -> None:
        self.robot, self.patience_s = robot, patience_s
        self._client = ThreadedActionClient(robot.node, PlanAction, f"{PLANNER}/plan")

    def fine(self) -> bool:
        """Whether the planner is ready and every check holds."""
        self.robot.ready()
        return all(line.partition(": ")[2].startswith("OK") for line in self.robot.status.checks)

    def wait_until_fine(self) -> None:
        """Return when the planner has nothing to complain about."""
        wait_for(self.fine, self.patience_s, f"all checks; last: {self.robot.status}")

    def send(self, on_feedback: Callable[[Any], None] | None = None, **goal: Any) -> Any:
        """(handle, future of the result) of an accepted goal."""
        assert self._client.wait_for_server(self.patience_s)
        message = PlanAction.Goal(**goal)
        future = self._client.send_goal_async(message, feedback_callback=on_feedback)
        wait_for(future.done, self.patience_s, "the goal to be accepted")
        return future.result(), future.result().get_result_async()

    def drives(self, metres: float = 0.1) -> tuple[Any, Any]:
        """(handle, future of the result) of a goal ahead, when the robot has gone some way."""
        for _ in range(5):  # a busy machine may stop it before
            self.wait_until_fine()
            here = self.robot.true_pose.copy()
            handle, result = self.send(goal_pose=AHEAD)
            wait_for(
                lambda h=here, r=result: (
                    r.done()
                    or (self.robot.moving and math.dist(self.robot.true_pose[:2], h[:2]) > metres)
                ),
                self.patience_s,
                "driving",
            )
            if not result.done():
                return handle, result
            time.sleep(1.0)  # what was wrong leaves the history
        raise AssertionError(result.result().result.error_msg)

    def ended(self, result: Any) -> Any:
        """The result of a goal."""
        wait_for(result.done, self.patience_s, "the result")
        return result.result()

    def set_parameter(self, name: str, value: Any) -> None:
        """Set a parameter of the planner."""
        wanted = [Parameter(name, value=value).to_parameter_msg()]
        request = SetParameters.Request(parameters=wanted)
        answer = self.robot.call(SetParameters, f"{PLANNER}/set_parameters", request)
        assert answer.results[0].successful, answer.results[0].reason
