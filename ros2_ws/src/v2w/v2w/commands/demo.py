"""``v2w demo``: a simulated robot drives to goals by its imagination, through the ROS 2 graph."""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_core.backends.names import AUTO, BACKENDS

HELP = "a simulated robot drives to an image and to a pose by its imagination"
DESCRIPTION = """\
Starts simulator_node, world_model_node and planner_node as `v2w up --sim` does, in a ROS domain of
their own on this machine. The robot gets image goals (what the camera would see there, and nothing
else) and pose goals by turns. For each goal planner_node imagines what candidates lead to, makes a
plan, and drives the first steps of it; this is repeated until the robot says that it has arrived,
or gives up. In buildings (--world rooms) pose goals lie behind a wall.

Writes result.json, drive.mp4 and report.html. The robot is right when it says that it has arrived
within 0.4 m and 20 degrees of the goal; the simulator is asked when the drive is over.
"""
EPILOG = """\
examples:
  v2w demo                                    an image goal, then a pose goal
  v2w demo --seed 3 --goals 4 --out runs/demo_3
  v2w demo --checkpoint runs/train/my_maze/checkpoint
  v2w demo --world rooms --world-seed 5 --checkpoint runs/train/rooms/checkpoint

exit code: 0 when the robot says at every goal that it has arrived, and is right; 1 when it gives
one up, is mistaken about one, or a node died; 2 for bad input
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``v2w demo``."""
    add = parser.add_argument
    add("--seed", type=int, default=0, help="seed of the goals (default: %(default)s)")
    add("--goals", type=int, default=2, metavar="N",
        help="number of goals; images and poses by turns (default: %(default)s)")  # fmt: skip
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add("--out", type=Path, metavar="DIR", default=Path("runs/demo"),
        help="folder for the results (default: %(default)s)")  # fmt: skip
    add("--candidates", type=int, default=64, metavar="K",
        help="action sequences in an iteration of the planner (default: %(default)s)")  # fmt: skip
    add("--iterations", type=int, default=3, metavar="N",
        help="iterations of the planner for one plan (default: %(default)s)")  # fmt: skip
    add("--execute-steps", type=int, default=1, metavar="N",
        help="how many steps of 0.25 s of each plan are driven (default: %(default)s)")  # fmt: skip
    add("--max-steps", type=int, default=40, metavar="N",
        help="steps driven towards a goal before the robot gives it up (default: %(default)s)",
        )  # fmt: skip
    add("--time-limit-s", type=float, default=420.0, metavar="S",
        help="for all goals together, start-up and video apart (default: %(default)g)")  # fmt: skip
    add("--world", metavar="KIND",
        help="kind of world, which the model must know: rooms or maze (default: that of the "
        "shipped model)")  # fmt: skip
    add("--world-seed", "--maze-seed", type=int, metavar="N",
        help="seed of the world (default: 1 for rooms, which no model was trained in; 0 for maze)",
        )  # fmt: skip
    add("--device", default="auto", help="torch device (default: %(default)s)")
    add("--backend", choices=(AUTO, *BACKENDS), default=AUTO,
        help="back end of rollouts, see v2w export (default: %(default)s, the fastest that can be "
             "built; the first time takes half a minute longer)")  # fmt: skip
    add("--domain-id", type=int, metavar="N", help="ROS_DOMAIN_ID (default: a free one)")
    add("--verbose", action="store_true", help="also show what the nodes print")


def run(args: argparse.Namespace) -> int:
    """Drive to the goals and write the results. Returns the exit code.

    Raises:
        V2WError: arguments or a checkpoint that cannot be used, or no ROS.
    """
    from v2w.bringup import ros_environment
    from v2w.demo.settings import DemoSettings, check_numbers

    check_numbers(args)
    ros_environment.reexecute_with_ros()
    settings = DemoSettings.from_arguments(args)
    from v2w.demo.session import run_demo

    return run_demo(settings)
