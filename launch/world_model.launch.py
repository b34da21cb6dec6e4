"""Start world_model_node and planner_node (and a simulated robot with sim:=true).

    ros2 launch v2w world_model.launch.py image_topic:=/camera/image_raw odom_topic:=/odom

Needs a ROS installation; without one, ``v2w up`` starts the same nodes from the same YAML files.
For an argument that is left empty the YAML files count.
"""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from v2w.bringup import parent, ros_environment
from v2w.bringup.parameter_files import (
    check_params_files,
    full_name,
    names_checkpoint,
    value_of,
)
from v2w.bringup.pipeline import NAV2_FILE, WATCHDOG, check_kind, find_stages, pipeline
from v2w.bringup.ros_names import check_namespace

ARGUMENTS = {
    "namespace": ("", "Namespace of all nodes."),
    "params_file": ("", "YAML file with parameters on top of the package's defaults."),
    "use_sim_time": ("false", "Take the time from /clock."),
    "image_topic": ("", "Topic of the raw camera images; compressed ones are next to it."),
    "odom_topic": ("", "Topic of the body's odometry."),
    "device": ("", "PyTorch device: auto, cpu, cuda, cuda:1."),
    "backend": ("", "Back end of rollouts: auto, eager, onnx, ... (v2w export --help)."),
    "precision": ("", "Precision of rollouts, e.g. fp32."),
    "strict_backend": ("", "true: refuse a device or back end that is not available."),
    "memory_budget_mib": ("", "MiB that a rollout may take; 0: what the device has free."),
    "checkpoint": ("", "Checkpoint folder; empty: that of params_file, else the one that ships."),
    "autostart": ("true", "true: the nodes activate themselves; false: a lifecycle manager."),
    "pipeline": ("none", "Between planner and base: none, watchdog, or nav2 (also: true)."),
    "rviz": ("false", "Also start RViz with the plans and the imagined frames."),
    "sim": ("false", "Also start the simulated robot."),
    "discovery": (
        "",
        "Who finds the nodes: localhost or subnet; empty: what ROS_AUTOMATIC_DISCOVERY_RANGE says, "
        "else localhost.",
    ),
}
TOPICS = ("image_topic", "odom_topic")
ENGINE = ("device", "backend", "precision", "strict_backend", "memory_budget_mib")
MODEL = (*TOPICS, *ENGINE, "checkpoint")


def flag(text: str) -> bool:
    """A launch argument as a truth value."""
    return text.lower() in ("true", "1", "yes", "on")


#: How arguments that are no text are read.
TYPES = {"strict_backend": flag, "memory_budget_mib": int}


#: From SIGINT to SIGTERM, and from there to SIGKILL [s]. A node takes both alike and needs at most
#: 3 s. A SIGINT that reaches launch alone, not its process group, is not passed on to the nodes.
TIMEOUTS = {"sigterm_timeout": "1", "sigkill_timeout": "3.5"}


def check_rviz() -> None:
    """Look for RViz before anything is started: an error later would leave the nodes behind.

    Raises:
        RuntimeError: rviz2 is not installed.
    """
    try:
        found = (Path(get_package_prefix("rviz2")) / "lib/rviz2/rviz2").exists()
    except PackageNotFoundError:
        found = False
    if not found:
        raise RuntimeError("rviz:=true: rviz2 is not installed; nothing was started")


def ended(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """Shut everything down when a node ends by itself."""
    return None if context.is_shutdown else Shutdown(reason=f"{event.process_name} ended")


def discovery(context: LaunchContext) -> list:
    """What lets DDS find nodes on this machine only, unless it is told otherwise; and who does."""
    wanted = LaunchConfiguration("discovery").perform(context)
    variables, line = ros_environment.discovery(os.environ, wanted)
    settings: list = [SetEnvironmentVariable(name, value) for name, value in variables.items()]
    return [*settings, LogInfo(msg=line)]


def nodes(context: LaunchContext) -> list:
    """The nodes to start, for the arguments of this launch."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if flag(value["rviz"]):
        check_rviz()
    share = Path(get_package_share_directory("v2w"))
    params_files = [value["params_file"]] if value["params_file"] else []
    kind = check_kind(value["pipeline"])
    names = ["world_model_node", "planner_node"] + ["simulator_node"] * flag(value["sim"])
    names += ["watchdog_node"] * (kind == WATCHDOG)
    paths = [Path(file) for file in params_files]
    check_params_files(paths, names, value["namespace"])
    flags = {name: flag(value[name]) for name in ("use_sim_time", "autostart")}
    way = pipeline(
        kind,
        lambda name: value_of(paths, "planner_node", name, value["namespace"]),
        namespace=check_namespace(value["namespace"], "namespace"),
        simulated=flag(value["sim"]),
        sim_time=flags["use_sim_time"],
    )
    stages = find_stages(way.stages, get_package_prefix)

    def node(name: str, overrides: tuple[str, ...], set_here: dict | None = None) -> LifecycleNode:
        given = {key: TYPES.get(key, str)(value[key]) for key in overrides if value[key]}
        unnamed = "checkpoint" in overrides and not value["checkpoint"]
        if unnamed and not names_checkpoint(paths, name, value["namespace"]):
            from v2w_core.checkpoint import default_checkpoint

            given["checkpoint"] = str(default_checkpoint())
        files = [str(share / "config" / f"{name}.yaml"), *params_files]
        return LifecycleNode(
            package="v2w",
            executable=name,
            name=name,
            namespace=value["namespace"],
            parameters=[*files, given | flags | (set_here or {})],
            output="screen",
            on_exit=ended,
            additional_env={parent.VARIABLE: str(os.getpid())},
            ros_arguments=["--enclave", full_name(name, value["namespace"])],
            **TIMEOUTS,
        )

    graph: list = [
        node("world_model_node", MODEL),
        node("planner_node", MODEL, way.planner),
        *([node("watchdog_node", (), way.watchdog)] if way.watchdog else []),
    ]
    for stage, _ in stages:
        graph.append(
            Node(
                package=stage.package,
                executable=stage.executable,
                name=stage.name,
                namespace=value["namespace"],
                parameters=[str(share / "config" / NAV2_FILE), *params_files, stage.parameters],
                remappings=list(stage.remappings),
                output="screen",
                on_exit=ended,
                **TIMEOUTS,
            )
        )
    if flag(value["sim"]):
        graph.append(node("simulator_node", TOPICS))
    if flag(value["rviz"]):
        config = str(share / "config" / "v2w.rviz")
        graph.append(
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=value["namespace"],
                arguments=["-d", config],
                parameters=[{"use_sim_time": flags["use_sim_time"]}],
                **TIMEOUTS,
            )
        )
    return graph


def generate_launch_description() -> LaunchDescription:
    """The entry point of ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    functions = [OpaqueFunction(function=function) for function in (discovery, nodes)]
    return LaunchDescription([*declared, *functions])
