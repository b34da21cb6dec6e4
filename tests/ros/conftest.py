from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

from v2w.bringup import ros_environment

HERE = Path(__file__).parent
READY = ros_environment.is_ready()
# Without the workspace these files cannot even be imported.
collect_ignore_glob = [] if READY else ["test_*.py"]
WHY = "rclpy and v2w_msgs cannot be imported; run `make test`, or source ros2_ws/install/setup.bash"

if not READY and os.environ.get("V2W_REQUIRE_ROS"):
    raise RuntimeError(WHY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not READY:
        terminalreporter.write_line(f"SKIPPED tests/ros: {WHY}", yellow=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from v2w_core.testing import tiny_config
    from v2w_core.world_model import WorldModel

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    model = WorldModel.build(tiny_config())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # layers that start at zero would hide the noise and the actions
        for weights in model.parameters():
            weights += 0.05 * torch.randn(weights.shape, generator=generator)
    return model.save_pretrained(folder)


if READY:
    from collections.abc import Iterator

    from base_robot import BaseRobot
    from fault_harness import DRIVES, NAME, fine
    from ros_harness import DOMAINS, Nodes, Robot, wait_for
    from std_srvs.srv import Trigger
    from v2w_msgs.action import Plan as PlanAction

    from v2w.demo.action_client import ThreadedActionClient

    @pytest.fixture(scope="module")
    def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
        running = Nodes(next(DOMAINS), tmp_path_factory.mktemp("logs"))
        yield running
        running.stop()

    @pytest.fixture(scope="module")
    def robot(nodes: Nodes) -> Iterator[Robot]:
        robot = Robot(nodes.domain)
        yield robot
        robot.close()

    @pytest.fixture(scope="module")
    def driver(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Nodes]:
        """A planner that drives."""
        running = Nodes(next(DOMAINS), tmp_path_factory.mktemp("logs"))
        running.start([NAME], {NAME: DRIVES | {"checkpoint": str(checkpoint)}})
        yield running
        running.stop()

    @pytest.fixture(scope="module")
    def base_robot(driver: Nodes) -> Iterator[BaseRobot]:
        """The robot that it drives."""
        robot = BaseRobot(driver.domain)
        robot.client = ThreadedActionClient(robot.node, PlanAction, f"{NAME}/plan")
        robot.ready()
        yield robot
        robot.close()

    @pytest.fixture
    def base(base_robot: BaseRobot) -> Iterator[BaseRobot]:
        """The robot, standing, with a planner that has nothing to complain about."""
        base_robot.reset()
        wait_for(lambda: fine(base_robot), 20.0, f"all checks; last: {base_robot.status}")
        yield base_robot
        base_robot.reset()
        base_robot.call(Trigger, f"{NAME}/stop", Trigger.Request())
