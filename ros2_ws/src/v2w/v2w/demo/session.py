"""The demo from start to end: nodes up, goals driven to, nodes down, results written."""

from __future__ import annotations

import collections
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from v2w.bringup import node_processes, ros_environment
from v2w.bringup.node_processes import MODEL_NODES
from v2w.bringup.supervisor import Supervisor
from v2w.demo.client import GraphError, RobotClient
from v2w.demo.drive import drive_to
from v2w.demo.goals import DemoGoal, choose_goals
from v2w.demo.records import GoalRecord, Recorder
from v2w.demo.results import Futures, Outcome, write_results
from v2w.demo.settings import DemoSettings
from v2w_core.errors import V2WError

#: Started in this order; nothing needs to stand between this planner and its simulated base.
NODES = ("simulator_node", *MODEL_NODES)
#: How long the nodes may take to load torch and the model on a slow machine [s].
START_UP_S = 240.0
#: Actions (dx m, dy m, dyaw rad) that world_model_node imagines at the first start, for the report.
FUTURES = {
    "straight on": (0.35, 0.0, 0.0),
    "a curve to the left": (0.25, 0.0, 0.3),
    "a curve to the right": (0.25, 0.0, -0.3),
}


def run_demo(settings: DemoSettings) -> int:
    """Drive to all goals and write the results. Returns the exit code.

    Raises:
        V2WError: the checkpoint cannot be loaded.
    """
    from training.envs.doom import DoomMazeEnv

    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)

    # only for choosing the goals
    env = DoomMazeEnv(settings.world_seed, world_name=settings.world)
    try:
        goals = choose_goals(env, settings.num_goals, settings.seed)
    finally:
        env.close()
    with _terminated_like_interrupted():
        try:
            records, futures = _drive_all(settings, goals, say)
        except GraphError as error:
            print(f"v2w demo: error: {error}", file=sys.stderr)
            return 1
        outcome = Outcome(settings, records, futures, time.monotonic() - began)
        say(f"the nodes are stopped; writing {settings.out}: drive.mp4, report.html, result.json")
        write_results(outcome, env.world)
    say(f"done: {outcome.in_words}")
    print(outcome.table())
    print(f"look at {settings.out}/drive.mp4 and {settings.out}/report.html")
    return outcome.exit_code


def _drive_all(
    settings: DemoSettings, goals: list[DemoGoal], say: Callable[[str], None]
) -> tuple[list[GoalRecord], Futures]:
    domain = settings.domain_id
    if domain is None:
        domain = ros_environment.pick_domain_id()
    variables = ros_environment.isolated(ros_environment.ros_environment(), domain)
    os.environ.update({k: v for k, v in variables.items() if k.startswith("ROS_")})
    commands = node_processes.commands(NODES, overrides=_parameters(settings))
    log = sys.stderr if settings.verbose else _Tail()
    supervisor = Supervisor(variables, log)
    recorder = Recorder()
    client: RobotClient | None = None

    def check() -> None:
        dead = supervisor.first_dead()
        if dead is not None:
            code = dead.process.wait()
            dead.reader.join(timeout=2.0)
            lines = log.last() if isinstance(log, _Tail) else ""
            if code == 2:  # it could not start: bad input
                raise V2WError(dead.name, f"a node that can start; it said:\n{lines}", code)
            raise GraphError(f"{dead.name} died (exit code {code})\n{lines}")

    try:
        say(f"starting {', '.join(NODES)} (ROS_DOMAIN_ID {domain}, this machine only)")
        for name, command in commands.items():
            supervisor.start(name, command)
        client = RobotClient(domain, recorder, check)
        client.wait_until_ready(START_UP_S)
        say("all three nodes are ready")
        client.teleport(goals[0].start)
        futures = _imagine_futures(client, settings.horizon)
        say(f"world_model_node imagined {len(FUTURES)} futures of {settings.horizon} steps")
        deadline = time.monotonic() + settings.time_limit_s
        records = []
        for index, goal in enumerate(goals):
            limit_s = (deadline - time.monotonic()) / (len(goals) - index)
            records.append(drive_to(client, recorder, goal, index + 1, settings, limit_s, say))
        return records, futures
    finally:
        if client is not None:
            client.close()
        supervisor.stop()


#: A simulated robot is as fast as the model's bounds, obeys at once, and may push against a wall,
#: which the planner learns from; its world lags behind on a busy machine.
SIMULATED_BASE = {
    "max_linear_velocity": 2.25, "max_angular_velocity": 2.0,
    "max_linear_acceleration": 1000.0, "max_linear_deceleration": 1000.0,
    "max_angular_acceleration": 1000.0, "max_angular_deceleration": 1000.0,
    "stall_time": 5.0, "max_deviation": 5.0, "odometry_jump": 0.5, "odometry_jump_yaw": 0.5,
    "camera_timeout": 2.0, "odometry_timeout": 2.0, "max_pause": 5.0, "clock_timeout": 2.0,
    "min_candidates": 1,
}  # fmt: skip


def _parameters(settings: DemoSettings) -> dict[str, dict[str, Any]]:
    model = {
        "checkpoint": str(settings.checkpoint),
        "device": settings.device,
        "backend": settings.backend,
    }
    planner = {
        "horizon": settings.horizon,
        "num_candidates": settings.num_candidates,
        "num_iterations": settings.num_iterations,
        "execute_steps": settings.execute_steps,
        "seed": settings.seed,
        "publish_velocity": True,
        # Ask for the next plan soon: a history that stands still says little about how to go on.
        "settle_time": 0.25,
        **SIMULATED_BASE,
    }
    return {
        "simulator_node": {"world": settings.world, "maze_seed": settings.world_seed},
        "world_model_node": model,
        "planner_node": model | planner,
    }


def _imagine_futures(client: RobotClient, horizon: int) -> Futures:
    from training.envs.doom import ACTION_SPEC

    image, _ = client.look()
    candidates = np.stack([np.tile(action, (horizon, 1)) for action in FUTURES.values()])
    frames = client.imagine(candidates.astype(np.float32), ACTION_SPEC)
    return Futures(image, dict(zip(FUTURES, frames, strict=True)))


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that no node outlives the demo."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Tail(io.StringIO):
    """Keeps the last lines that the nodes print, for the message when one of them dies."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: collections.deque[str] = collections.deque(maxlen=60)

    def write(self, text: str) -> int:
        self._parts.append(text)
        return len(text)

    def last(self) -> str:
        """The last lines."""
        return "".join(self._parts).strip()
