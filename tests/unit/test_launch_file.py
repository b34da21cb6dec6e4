"""launch/world_model.launch.py, with stand-ins for what only a ROS installation has."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from v2w_core.errors import V2WError

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "world_model.launch.py"


class Argument:
    """A launch argument; what is performed is its value of this launch."""

    values: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: Any) -> str:
        return self.values[self.name]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Parameters of each node that would be started, by its name."""

    def stand_in(name: str, **attributes: Any) -> None:
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)

    kind = type("Kind", (), {})
    stand_in("launch", LaunchContext=kind, LaunchDescription=kind)
    stand_in(
        "launch.actions", DeclareLaunchArgument=kind, LogInfo=SimpleNamespace, OpaqueFunction=kind,
        SetEnvironmentVariable=lambda name, value: (name, value), Shutdown=kind,
    )  # fmt: skip
    stand_in("launch.events")
    stand_in("launch.events.process", ProcessExited=kind)
    stand_in("launch.substitutions", LaunchConfiguration=Argument)
    stand_in("launch_ros")
    stand_in("launch_ros.actions", LifecycleNode=SimpleNamespace, Node=SimpleNamespace)
    stand_in("ament_index_python")

    def prefix(name: str) -> str:
        if not (tmp_path / name).exists():
            raise LookupError(name)
        return str(tmp_path / name)

    stand_in(
        "ament_index_python.packages",
        get_package_share_directory=lambda name: str(tmp_path),
        get_package_prefix=prefix,
        PackageNotFoundError=LookupError,
    )
    monkeypatch.setattr("v2w_core.checkpoint.default_checkpoint", lambda: Path("/shipped"))
    file = runpy.run_path(str(LAUNCH_FILE))

    def launch(**arguments: str) -> dict[str, list[Any]]:
        Argument.values = {name: text for name, (text, _) in file["ARGUMENTS"].items()} | arguments
        started = file["nodes"](None)
        assert all(node.sigterm_timeout == "1" for node in started)
        nodes = [node for node in started if node.package == "v2w"]
        assert all(node.additional_env == {"V2W_PARENT": str(os.getpid())} for node in nodes)
        return {getattr(node, "name", "rviz2"): node.parameters for node in started}

    launch.file = file  # type: ignore[attr-defined]
    return launch


def test_the_shipped_checkpoint_is_used_where_none_is_named(launched: Any, tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"

    def checkpoints(**arguments: str) -> list[str | None]:
        nodes = launched(**arguments)
        return [nodes[n][-1].get("checkpoint") for n in ("world_model_node", "planner_node")]

    assert checkpoints() == ["/shipped", "/shipped"]
    assert checkpoints(checkpoint="/mine") == ["/mine", "/mine"]
    path.write_text("/**/slam_node: {ros__parameters: {checkpoint: a}}  # checkpoint: none\n")
    assert checkpoints(params_file=str(path)) == ["/shipped", "/shipped"]
    path.write_text("/robot1: {planner_node: {ros__parameters: {checkpoint: /mine}}}\n")
    assert checkpoints(params_file=str(path), namespace="robot1") == ["/shipped", None]
    with pytest.raises(V2WError, match="a section for /robot2/planner_node"):
        checkpoints(params_file=str(path), namespace="robot2")


def test_parameter_files_come_before_arguments_and_empty_ones_are_left_out(
    launched: Any, tmp_path: Path
) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("{}")
    nodes = launched(params_file=str(path), strict_backend="true", sim="true", odom_topic="/odom")
    assert list(nodes) == ["world_model_node", "planner_node", "simulator_node"]
    *files, given = nodes["planner_node"]
    assert [Path(file).name for file in files] == ["planner_node.yaml", "robot.yaml"]
    assert given["strict_backend"] is True and given["odom_topic"] == "/odom"
    assert "device" not in given and "image_topic" not in given
    assert "checkpoint" not in nodes["simulator_node"][-1]


def test_rviz_is_looked_for_before_anything_is_started(launched: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="rviz2 is not installed; nothing was started"):
        launched(rviz="true")
    executable = tmp_path / "rviz2" / "lib" / "rviz2" / "rviz2"
    executable.parent.mkdir(parents=True)
    with pytest.raises(RuntimeError, match="not installed"):
        launched(rviz="true")
    executable.touch()
    assert "rviz2" in launched(rviz="true")


def test_the_nodes_are_found_on_this_machine_only_unless_told_otherwise(
    launched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "ROS_DISCOVERY_SERVER"):
        monkeypatch.delenv(name, raising=False)

    def set_by(wanted: str) -> tuple[dict[str, str], str]:
        Argument.values = {"discovery": wanted}
        *variables, line = launched.file["discovery"](None)
        return dict(variables), line.msg

    variables, line = set_by("")
    assert variables == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"} and "only this" in line
    variables, line = set_by("subnet")
    assert variables == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"} and "this subnet" in line
    with pytest.raises(V2WError, match="one of localhost, subnet"):
        set_by("everywhere")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SYSTEM_DEFAULT")
    assert set_by("") == (
        {}, "DDS: ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT, as in the environment"
    )  # fmt: skip
    assert set_by("localhost")[0] == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def test_a_pipeline_stands_between_the_planner_and_the_base(launched: Any, tmp_path: Path) -> None:
    nodes = launched(pipeline="watchdog", sim="true")
    assert list(nodes) == ["world_model_node", "planner_node", "watchdog_node", "simulator_node"]
    assert nodes["planner_node"][-1]["cmd_vel_topic"] == "/cmd_vel_nav"
    assert nodes["watchdog_node"][-1]["cmd_vel_topic"] == "/cmd_vel"
    with pytest.raises(V2WError, match="nothing was started"):
        launched(pipeline="true")
    for package, executable in (
        ("nav2_velocity_smoother", "velocity_smoother"),
        ("nav2_collision_monitor", "collision_monitor"),
        ("nav2_lifecycle_manager", "lifecycle_manager"),
    ):
        path = tmp_path / package / "lib" / package / executable
        path.parent.mkdir(parents=True)
        path.touch()
    nodes = launched(pipeline="true")
    names = ["world_model_node", "planner_node", "velocity_smoother", "collision_monitor"]
    assert list(nodes) == [*names, "pipeline_manager"]
    file, given = nodes["collision_monitor"]
    assert file.endswith("nav2_pipeline.yaml") and given["cmd_vel_out_topic"] == "/cmd_vel"
