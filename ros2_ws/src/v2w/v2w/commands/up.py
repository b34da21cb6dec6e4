"""``v2w up``: the ROS 2 nodes without ``ros2 launch``, from the same parameter files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from v2w.bringup.node_processes import NODES
from v2w.bringup.pipeline import KINDS, NONE

HELP = "start the ROS 2 nodes (world model, planner, simulator)"
DESCRIPTION = """\
Starts world_model_node and planner_node, and with --sim a simulated robot to try them on, each in a
separate process. Works with a sourced ROS 2 installation and with the ROS 2 wheels of `make
setup`. On a robot with a ROS installation `ros2 launch v2w world_model.launch.py` does the same.
"""
EPILOG = """\
examples:
  v2w up --sim                                     a simulated robot, model and planner
  v2w up --image-topic /camera/image_raw --odom-topic /odom --checkpoint my_model
  v2w up --sim --set planner_node.publish_velocity=true

Ctrl-C stops all nodes. When one dies, or is shut down through its lifecycle by somebody, the others
are stopped and the exit code is not 0.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``v2w up``."""
    parser.add_argument("--sim", action="store_true", help="also start the simulated robot")
    parser.add_argument(
        "--nodes", nargs="+", choices=NODES, metavar="NODE",
        help=f"start only these of: {', '.join(NODES)}",
    )  # fmt: skip
    parser.add_argument(
        "--params-file", type=Path, action="append", default=[],
        help="ROS parameter file on top of the defaults; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="NODE.NAME=VALUE",
        help="one parameter, e.g. planner_node.horizon=6; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", type=Path, help="checkpoint folder (default: the shipped one)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument(
        "--backend", help="back end of rollouts: auto, or a name of v2w export (default: eager)"
    )
    parser.add_argument("--precision", help="precision of rollouts (default: fp32)")
    parser.add_argument(
        "--strict-backend", action="store_true",
        help="refuse a device, back end or precision that is not available; use no other",
    )  # fmt: skip
    parser.add_argument(
        "--memory-budget-mib", type=int, metavar="MIB",
        help="memory that a rollout may take (default: 0, what the device has free)",
    )  # fmt: skip
    parser.add_argument("--image-topic", help="camera images (default: image_raw)")
    parser.add_argument("--odom-topic", help="odometry (default: odom)")
    parser.add_argument(
        "--pipeline", choices=KINDS, default=NONE,
        help="what is started between planner and base: watchdog (stops the base when commands "
        "end), or nav2 (velocity_smoother and collision_monitor); default: none",
    )  # fmt: skip
    parser.add_argument("--namespace", default="", help="namespace of all nodes (default: none)")
    parser.add_argument("--use-sim-time", action="store_true", help="take time from /clock")
    parser.add_argument(
        "--domain-id", type=int, metavar="N",
        help="ROS_DOMAIN_ID, 0 to 232 (default: $ROS_DOMAIN_ID; else 0, and with --sim a free one)",
    )  # fmt: skip
    parser.add_argument(
        "--discovery", choices=("localhost", "subnet"),
        help="who finds the nodes: this machine, or the whole subnet (default: what "
        "$ROS_AUTOMATIC_DISCOVERY_RANGE says, else localhost)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Start the nodes and wait for their end.

    Returns:
        0 after Ctrl-C; else the exit code of the node that died first.

    Raises:
        V2WError: no ROS, or arguments and parameters that cannot be used.
    """
    from v2w.bringup import exit_codes, node_processes, ros_environment
    from v2w.bringup.ros_names import check_domain_id
    from v2w.bringup.supervisor import Supervisor

    if args.domain_id is not None:
        check_domain_id(args.domain_id, "--domain-id")
    usual = ["simulator_node"] * args.sim + ["world_model_node", "planner_node"]
    names = args.nodes or usual
    commands = node_processes.commands(
        names,
        params_files=args.params_file,
        settings=args.settings,
        overrides=node_processes.overrides_from(args),
        namespace=args.namespace,
        pipeline=args.pipeline,
    )
    variables = ros_environment.ros_environment()
    named = variables.get("ROS_DOMAIN_ID", "")
    if named and args.domain_id is None:
        check_domain_id(named, "$ROS_DOMAIN_ID")
    if args.domain_id is not None or args.sim:
        domain = args.domain_id
        if domain is None:
            domain = int(named) if named else ros_environment.pick_domain_id()
        variables = ros_environment.with_large_frames(variables) | {"ROS_DOMAIN_ID": str(domain)}
    found, line = ros_environment.discovery(variables, args.discovery or "")
    variables |= found
    domain_id = variables.get("ROS_DOMAIN_ID", "0")
    meanings = {exit_codes.SHUT_DOWN: "was shut down through its lifecycle"}
    with Supervisor(variables, sys.stderr, meanings=meanings) as supervisor:
        supervisor.say(f"ROS_DOMAIN_ID={domain_id}; Ctrl-C stops all nodes")
        supervisor.say(line)
        for name, command in commands.items():
            supervisor.start(name, command)
        return supervisor.run()
