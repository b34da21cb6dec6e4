"""The phases of the soak: each is a function of the nodes and of how much is asked for."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sensor_faults import loses_camera, loses_odometry
from soak_nodes import SoakNodes
from soak_peer import PLANNER, NoAnswer, wait
from soak_requests import NAMES, PlanAction, PlanService, plan_request, request
from v2w.bringup import node_processes

#: Threads that send requests, and that ask for plans; the share of plans that go through the
#: action, which answers when they have been driven.
ASKERS, PLANNERS, GOALS = 4, 2, 0.02
#: A stop may come so much later than its timeout on a busy machine [s].
TIMEOUT_S, LATE_S = 0.5, 0.25
STAMPS = Path(__file__).with_name("soak_stamps.py")


def warm_up(soak: SoakNodes, number: int) -> None:
    """Requests of another seed, until every queue has held its largest messages."""
    requests(soak, number, seed=-1, phase="warm up")


def requests(soak: SoakNodes, number: int, seed: int = 0, phase: str = "requests") -> None:
    """Random and malformed requests of every kind, four at a time."""
    found = soak.begin(phase, number)
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    slowest: dict[str, float] = defaultdict(float)
    problems: list[str] = found.setdefault("problems", [])
    lock, numbers = threading.Lock(), iter(range(number))

    def asks() -> None:
        while not soak.over:
            with lock:
                index = next(numbers, None)
            if index is None:
                return
            kind, rng = request(seed, index)
            name, began = kind.__name__, time.monotonic()
            try:
                outcome = kind(soak.peer, rng)
            except (NoAnswer, AssertionError) as error:
                outcome = "no answer" if isinstance(error, NoAnswer) else "wrong answer"
                problems.append(f"request {index}, {name}: {error}")
            with lock:
                outcomes[name][outcome] += 1
                slowest[name] = max(slowest[name], round(time.monotonic() - began, 3))
                soak.done += 1
                found["outcomes"] = {name: dict(count) for name, count in sorted(outcomes.items())}
                found["slowest_s"] = dict(slowest)

    _together([asks] * ASKERS)
    if not soak.over:
        soak.set_back()


def plans(soak: SoakNodes, number: int, seed: int = 0) -> None:
    """Short plans that the base drives, two at a time; some through the action."""
    found = soak.begin("plans", number)
    refused: Counter[str] = Counter()
    lock = threading.Lock()

    def asks(thread: int) -> None:
        rng = random.Random(f"plans {seed} {thread}")
        while not soak.over and soak.done < number:
            if rng.random() < GOALS:
                goal = plan_request(soak.peer, rng, PlanAction.Goal)
                handle = wait(soak.peer.plan_action.send_goal_async(goal), "goal")
                answer = wait(handle.get_result_async(), "result").result
            else:
                asked = plan_request(soak.peer, rng, PlanService.Request)
                answer = soak.peer.call(PlanService, f"{PLANNER}/plan", asked)
            planned = answer.plan.horizon > 0
            with lock:
                soak.done += planned
                found["driven"] = found.get("driven", 0) + answer.driven
                refused.update([] if planned else [NAMES[answer.error_code]])
                found["refused"] = dict(refused)

    _together([lambda n=n: asks(n) for n in range(PLANNERS)])


def camera(soak: SoakNodes, number: int) -> None:
    """Camera stamps over DDS to both nodes, as fast as they take them."""
    found = soak.begin("camera", number)
    soak.robot.change_image = lambda message: False
    command = [sys.executable, str(STAMPS), "publish", str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        _follow(soak, process, found)
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1 if soak.over else 5.0)
        process.kill()
        process.wait()
    soak.show_pictures()


def stamps(soak: SoakNodes, number: int) -> None:
    """Camera stamps into the callbacks of a node of its own."""
    found = soak.begin("stamps", number)
    python, _, _, *arguments = node_processes.commands(
        [PLANNER], overrides={PLANNER: soak.values[PLANNER]}, namespace="fed"
    )[PLANNER]
    with (soak.folder / "fed.log").open("wb") as log:
        process = subprocess.Popen(
            [python, str(STAMPS), "feed", str(number), *arguments],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    soak.watch.add("fed", process.pid)
    try:
        _follow(soak, process, found)
    finally:
        found["alive"] = process.poll() is None
        process.send_signal(signal.SIGINT)
        found["exit_code"] = process.wait(30.0)


def _follow(soak: SoakNodes, process: Any, found: dict[str, Any]) -> None:
    """Note what a process says of its progress, until it is done or time is up."""
    began = time.monotonic()
    for line in process.stdout:
        with suppress(ValueError):
            said = json.loads(line)
            soak.done = said["done"]
            found.update(said, per_second=round(soak.done / (time.monotonic() - began), 1))
        if soak.over or soak.done >= found["asked_for"]:
            break


def watchdog(soak: SoakNodes, number: int) -> None:
    """Camera, then odometry end while the robot drives, ``number`` times each."""
    found = soak.begin("watchdog", 2 * number)
    for name, fault in (("camera", loses_camera), ("odometry", loses_odometry)):
        times = found.setdefault(f"{name}_ends_s", [])
        for _ in range(number):
            _, result = soak.driver.drives()
            seconds, _ = soak.robot.stops(lambda f=fault: f(soak.robot))
            times.append(round(seconds, 3))
            soak.done += 1
            soak.driver.ended(result)
            soak.robot.reset()
            soak.show_pictures()
    worst = max(found["camera_ends_s"] + found["odometry_ends_s"])
    found["in_time"] = worst < TIMEOUT_S + LATE_S


def _together(work: list[Callable[[], None]]) -> None:
    """Call functions at the same time; the first error of one is raised at the end."""
    errors: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
