"""Finds ROS: a sourced installation, or the wheels of the virtual environment.

In both cases v2w_msgs is in a colcon workspace. :func:`ros_environment` gives the variables that a
process needs, so that the user has to source nothing.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from v2w_core.errors import V2WError

_MARK = "V2W_ROS_ENVIRONMENT"
#: How far DDS looks for other nodes (Iron and later); and the older variable, which goes before it.
RANGE, LOCALHOST_ONLY = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"
#: What the option and the launch argument ``discovery`` take.
RANGES = ("localhost", "subnet")


def workspace() -> Path | None:
    """Install folder of the built colcon workspace, or None.

    It is that of $V2W_WORKSPACE where this is set, else the repository's.
    """
    named = os.environ.get("V2W_WORKSPACE")
    candidates = [Path(named)] if named else []
    candidates += [parent / "ros2_ws" for parent in Path(__file__).resolve().parents]
    for folder in candidates:
        for install in (folder, folder / "install"):
            if (install / "setup.bash").is_file():
                return install
    return None


def is_ready() -> bool:
    """Whether this process can import rclpy and v2w_msgs without any preparation."""
    messages = find_spec("v2w_msgs")
    return find_spec("rclpy") is not None and messages is not None and bool(messages.origin)


def ros_environment() -> dict[str, str]:
    """Environment variables for a process that uses rclpy and v2w_msgs.

    Raises:
        V2WError: NOT_READY; there is no ROS, or v2w_msgs was not built. It says what to do.
    """
    if is_ready():
        return dict(os.environ)
    if find_spec("rclpy") is None:
        rule = "a ROS 2 installation (source its setup.bash), or the wheels: make setup"
        raise V2WError("ROS", rule, "no rclpy", code="NOT_READY")
    install = workspace()
    if install is None:
        rule = "a built workspace: make setup, or colcon build in ros2_ws"
        raise V2WError("v2w_msgs", rule, "not built", code="NOT_READY")
    return _sourced(install / "setup.bash")


def reexecute_with_ros() -> None:
    """Restart this process inside :func:`ros_environment`, unless it can import ROS already.

    Raises:
        V2WError: as :func:`ros_environment`; or the workspace was built for another Python.
    """
    if is_ready():
        return
    if os.environ.get(_MARK):
        rule = f"built for Python {sys.version_info.major}.{sys.version_info.minor}: make setup"
        raise V2WError("v2w_msgs", rule, "cannot be imported", code="NOT_READY")
    environment = ros_environment() | {_MARK: "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, environment)


def _sourced(script: Path) -> dict[str, str]:
    """The environment after sourcing a bash script."""
    environment = dict(os.environ)
    if "ROS_DISTRO" not in environment:
        environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    command = f"source {shlex.quote(str(script))} >/dev/null 2>&1; env -0"
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, check=False, timeout=60
    )
    entries = done.stdout.decode(errors="surrogateescape").split("\0")
    result = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if done.returncode or "PATH" not in result:
        raise V2WError("ROS", f"{script} can be sourced", done.stderr.decode()[-300:])
    # The wheels set LD_LIBRARY_PATH in each Python that starts; this makes it happen again, with
    # what the workspace added.
    result.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    return result


def config_folder() -> Path:
    """Folder of the nodes' YAML files: in the sources, or in the installed package."""
    sources = Path(__file__).resolve().parents[2] / "config"
    if sources.is_dir():
        return sources
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("v2w")) / "config"


def discovery(environment: Mapping[str, str], wanted: str = "") -> tuple[dict[str, str], str]:
    """(variables to set, a line that says who can find the nodes).

    DDS asks nobody for a password: whoever finds the nodes can move the robot. So they are found on
    this machine only, unless ``wanted`` or the environment says something else.

    Args:
        environment: variables by name.
        wanted: one of RANGES; empty for what the environment says.

    Raises:
        V2WError: ``wanted`` is neither empty nor one of RANGES.
    """
    if wanted and wanted not in RANGES:
        raise V2WError("discovery", f"one of {', '.join(RANGES)}, or empty", wanted)
    if not wanted:
        for name in (LOCALHOST_ONLY, RANGE, "ROS_DISCOVERY_SERVER"):
            if environment.get(name):
                return {}, f"DDS: {name}={environment[name]}, as in the environment"
    if wanted == "subnet":
        line = "DDS: whoever is in this subnet finds the nodes, and can move the robot"
        return _range("SUBNET", environment), line
    line = "DDS: only this machine finds the nodes; for others there is discovery subnet"
    return _range("LOCALHOST", environment), line


def _range(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    found = {RANGE: name}
    # Humble knows only the older variable, and later versions obey it where it is set.
    if environment.get("ROS_DISTRO") == "humble" or environment.get(LOCALHOST_ONLY):
        found[LOCALHOST_ONLY] = "1" if name == "LOCALHOST" else "0"
    return found


def isolated(environment: dict[str, str], domain_id: int) -> dict[str, str]:
    """A copy of an environment with its own ROS domain, DDS only on this machine, and large images.

    Args:
        environment: variables by name.
        domain_id: ROS_DOMAIN_ID, 0 to 232.
    """
    local = {"ROS_DOMAIN_ID": str(domain_id)} | _range("LOCALHOST", environment)
    return with_large_frames(environment) | local


def with_large_frames(environment: dict[str, str]) -> dict[str, str]:
    """A copy of an environment in which Fast DDS carries large images between processes."""
    profile = str(config_folder() / "fastdds_large_frames.xml")
    # The second name is the one of newer Fast DDS versions; other middlewares read neither.
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    return environment | {name: environment.get(name) or profile for name in names}


def pick_domain_id() -> int:
    """A domain id from 1 to 100, made from the ids of user and process: rarely in use."""
    return 1 + (os.getuid() * 31 + os.getpid()) % 100
