"""What stands between planner_node and the base, so that a planner that is killed stops the base.

``watchdog`` is watchdog_node. ``nav2`` is nav2's velocity_smoother and collision_monitor, which are
no part of this project and are not installed with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from v2w.bringup.ros_names import check_topic_name
from v2w_core.errors import V2WError

NONE, WATCHDOG, NAV2 = "none", "watchdog", "nav2"
KINDS = (NONE, WATCHDOG, NAV2)
#: Parameters of nav2's nodes, in the folder of the nodes' YAML files.
NAV2_FILE = "nav2_pipeline.yaml"
_EXECUTABLES = {
    "velocity_smoother": ("nav2_velocity_smoother", "velocity_smoother"),
    "collision_monitor": ("nav2_collision_monitor", "collision_monitor"),
    "pipeline_manager": ("nav2_lifecycle_manager", "lifecycle_manager"),
}


@dataclass(frozen=True)
class Stage:
    """One node of nav2.

    Attributes:
        name: of the node.
        package, executable: where it is.
        parameters: what the files do not decide.
        remappings: (from, to).
    """

    name: str
    package: str
    executable: str
    parameters: dict[str, Any] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """The way of the commands to the base.

    Attributes:
        planner: parameters of planner_node.
        watchdog: parameters of watchdog_node; None where it is not started.
        stages: nodes of nav2.
    """

    planner: dict[str, Any] = field(default_factory=dict)
    watchdog: dict[str, Any] | None = None
    stages: tuple[Stage, ...] = ()


def check_kind(kind: str) -> str:
    """The kind of a pipeline; "true" is nav2's, "false" and an empty text are none.

    Raises:
        V2WError: another text.
    """
    known = {"": NONE, "false": NONE, "true": NAV2} | {name: name for name in KINDS}
    if kind.lower() not in known:
        raise V2WError("pipeline", f"one of {', '.join(KINDS)}", kind)
    return known[kind.lower()]


def pipeline(
    kind: str,
    planner_value: Callable[[str], Any],
    *,
    namespace: str,
    simulated: bool,
    sim_time: bool,
) -> Pipeline:
    """The nodes and parameters of a kind of pipeline.

    It ends on the topic, with the kind of commands, that planner_node has without one.

    Args:
        kind: one of KINDS.
        planner_value: the value that somebody gave a parameter of planner_node; None for none.
        namespace: of all nodes; begins with /.
        simulated: whether simulator_node is started.
        sim_time: whether time is that of /clock.

    Raises:
        V2WError: nav2's with the simulated robot; no name of a topic.
    """
    if kind == NONE:
        return Pipeline()
    if kind == NAV2 and simulated:
        rule = "watchdog with the simulated robot, which has no laser scanner"
        raise V2WError("pipeline", rule, kind)
    topic = check_topic_name(
        planner_value("cmd_vel_topic") or "cmd_vel", "parameter cmd_vel_topic",
        node="planner_node", namespace=namespace,
    )  # fmt: skip
    stamped = bool(planner_value("enable_stamped_cmd_vel"))
    given = {"enable_stamped_cmd_vel": stamped}
    wanted = f"{topic}_nav"
    planner = given | {"cmd_vel_topic": wanted}
    if kind == WATCHDOG:
        return Pipeline(planner, given | {"cmd_vel_in_topic": wanted, "cmd_vel_topic": topic})
    smoothed = f"{topic}_smoothed"
    clock = {"use_sim_time": sim_time}
    smoother, monitor, manager = _EXECUTABLES
    return Pipeline(
        planner,
        stages=(
            Stage(
                smoother, *_EXECUTABLES[smoother], given | clock,
                (("cmd_vel", wanted), ("cmd_vel_smoothed", smoothed)),
            ),
            Stage(
                monitor, *_EXECUTABLES[monitor],
                given | clock | {"cmd_vel_in_topic": smoothed, "cmd_vel_out_topic": topic},
            ),
            Stage(manager, *_EXECUTABLES[manager], clock),
        ),
    )  # fmt: skip


def find_stages(
    stages: tuple[Stage, ...], prefix_of: Callable[[str], str]
) -> list[tuple[Stage, Path]]:
    """Each stage with its executable.

    Args:
        prefix_of: the install prefix of a package; raises LookupError for one that is missing.

    Raises:
        V2WError: NOT_READY; some are not installed. It says how to install them.
    """
    found, missing = [], []
    for stage in stages:
        try:
            path = Path(prefix_of(stage.package)) / "lib" / stage.package / stage.executable
        except LookupError:
            path = Path()
        if path.is_file():
            found.append((stage, path))
        else:
            missing.append(stage.package)
    if missing:
        distro = os.environ.get("ROS_DISTRO", "jazzy")
        packages = " ".join(f"ros-{distro}-{name.replace('_', '-')}" for name in missing)
        rule = f"nav2's nodes (sudo apt install {packages}), or pipeline watchdog"
        value = f"not installed: {', '.join(missing)}; nothing was started"
        raise V2WError("pipeline nav2", rule, value, code="NOT_READY")
    return found
