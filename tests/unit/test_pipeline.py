"""What is started between planner_node and the base: topics, parameters, and what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml

from v2w.bringup import node_processes
from v2w.bringup.pipeline import KINDS, NAV2, NAV2_FILE, NONE, WATCHDOG, check_kind, find_stages
from v2w.bringup.pipeline import pipeline as made
from v2w.bringup.ros_environment import config_folder
from v2w.commands import up
from v2w_core.errors import V2WError

HERE = {"namespace": "/", "simulated": False, "sim_time": False}


def nothing(name: str) -> None:
    return None


def test_each_kind_ends_on_the_topic_that_the_planner_has_without_one() -> None:
    assert made(NONE, nothing, **HERE).planner == {}
    watchdog = made(WATCHDOG, nothing, **HERE)
    assert watchdog.planner["cmd_vel_topic"] == "/cmd_vel_nav"
    assert watchdog.watchdog is not None
    assert watchdog.watchdog["cmd_vel_in_topic"] == "/cmd_vel_nav"
    assert watchdog.watchdog["cmd_vel_topic"] == "/cmd_vel"
    given = {"cmd_vel_topic": "base/cmd", "enable_stamped_cmd_vel": True}
    nav2 = made(NAV2, given.get, namespace="/r1", simulated=False, sim_time=True)
    smoother, monitor, manager = nav2.stages
    assert nav2.planner == {"enable_stamped_cmd_vel": True, "cmd_vel_topic": "/r1/base/cmd_nav"}
    assert dict(smoother.remappings) == {
        "cmd_vel": "/r1/base/cmd_nav", "cmd_vel_smoothed": "/r1/base/cmd_smoothed",
    }  # fmt: skip
    assert monitor.parameters["cmd_vel_in_topic"] == "/r1/base/cmd_smoothed"
    assert monitor.parameters["cmd_vel_out_topic"] == "/r1/base/cmd"
    assert smoother.parameters["enable_stamped_cmd_vel"] is True
    assert monitor.parameters["enable_stamped_cmd_vel"] is True
    assert all(stage.parameters["use_sim_time"] is True for stage in nav2.stages)
    file = yaml.safe_load((config_folder() / NAV2_FILE).read_text())
    assert {name.removeprefix("/**/") for name in file} == {stage.name for stage in nav2.stages}
    assert file[f"/**/{manager.name}"]["ros__parameters"]["node_names"] == [
        monitor.name, smoother.name,
    ]  # fmt: skip


def test_the_file_stops_the_base_in_time_and_fits_the_planners_limits() -> None:
    file = yaml.safe_load((config_folder() / NAV2_FILE).read_text())
    smoother = file["/**/velocity_smoother"]["ros__parameters"]
    assert 0.0 < smoother["velocity_timeout"] <= 0.5
    planner = yaml.safe_load((config_folder() / "planner_node.yaml").read_text())
    limits = planner["/**/planner_node"]["ros__parameters"]
    linear, angular = limits["max_linear_velocity"], limits["max_angular_velocity"]
    assert smoother["max_velocity"] == [linear, linear, angular]
    assert smoother["min_velocity"] == [-linear, -linear, -angular]
    assert all(value < 0.0 for value in smoother["max_decel"]), "nav2 wants them negative"
    monitor = file["/**/collision_monitor"]["ros__parameters"]
    assert all(name in monitor for name in monitor["polygons"] + monitor["observation_sources"])


def test_kinds() -> None:
    assert [check_kind(kind) for kind in (*KINDS, "true", "false", "")] == [
        *KINDS, NAV2, NONE, NONE,
    ]  # fmt: skip
    with pytest.raises(V2WError, match="one of none, watchdog, nav2"):
        check_kind("yes please")
    with pytest.raises(V2WError, match="watchdog with the simulated robot"):
        made(NAV2, nothing, namespace="/", simulated=True, sim_time=False)


def test_what_is_missing_is_named_with_the_packages_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    stages = made(NAV2, nothing, **HERE).stages

    def prefix(package: str) -> str:
        if package == "nav2_lifecycle_manager":
            raise LookupError(package)
        return str(tmp_path)

    for stage in stages[:2]:
        path = tmp_path / "lib" / stage.package / stage.executable
        path.parent.mkdir(parents=True)
        path.touch()
    with pytest.raises(V2WError, match="not installed: nav2_lifecycle_manager") as caught:
        find_stages(stages, prefix)
    assert "sudo apt install ros-jazzy-nav2-lifecycle-manager)" in str(caught.value)
    assert [stage.name for stage, _ in find_stages(stages[:2], prefix)] == [
        "velocity_smoother", "collision_monitor",
    ]  # fmt: skip


def commands(*arguments: str) -> dict[str, list[str]]:
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    args = parser.parse_args(["--checkpoint", "x", *arguments])
    return node_processes.commands(
        ["planner_node"], settings=args.settings, params_files=args.params_file,
        overrides=node_processes.overrides_from(args), namespace=args.namespace,
        pipeline=args.pipeline,
    )  # fmt: skip


def test_up_starts_the_watchdog_between_planner_and_base(tmp_path: Path) -> None:
    assert list(commands()) == ["planner_node"]
    file = tmp_path / "robot.yaml"
    file.write_text("/**/planner_node: {ros__parameters: {cmd_vel_topic: drive}}\n")
    lines = commands("--pipeline", "watchdog", "--namespace", "r1", "--params-file", str(file))
    assert list(lines) == ["planner_node", "watchdog_node"]
    assert 'cmd_vel_topic:="/r1/drive_nav"' in lines["planner_node"]
    assert 'cmd_vel_in_topic:="/r1/drive_nav"' in lines["watchdog_node"]
    assert 'cmd_vel_topic:="/r1/drive"' in lines["watchdog_node"]
    with pytest.raises(V2WError, match="left to the pipeline"):
        commands("--pipeline", "watchdog", "--set", "watchdog_node.cmd_vel_topic=a")


def test_up_starts_nav2s_nodes_where_they_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = pytest.importorskip("ament_index_python.packages")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(V2WError, match="sudo apt install") as caught:
        commands("--pipeline", "nav2")
    assert caught.value.code == "NOT_READY"
    for stage in made(NAV2, nothing, **HERE).stages:
        path = tmp_path / "lib" / stage.package / stage.executable
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr(packages, "get_package_prefix", lambda name: str(tmp_path))
    lines = commands("--pipeline", "nav2", "--set", "planner_node.cmd_vel_topic=drive")
    smoother = lines["velocity_smoother"]
    assert smoother[0] == str(tmp_path / "lib/nav2_velocity_smoother/velocity_smoother")
    assert "cmd_vel:=/drive_nav" in smoother and "__node:=velocity_smoother" in smoother
    assert any(word.endswith(NAV2_FILE) for word in smoother)
    assert 'cmd_vel_out_topic:="/drive"' in lines["collision_monitor"]
    assert "pipeline_manager" in lines
