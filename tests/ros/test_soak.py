"""The soak in short: every request is answered, nothing grows, and the robot still stops.

benchmarks/soak.py is the long one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from ros_harness import DOMAINS

import soak_phases
import soak_requests
from soak_nodes import SoakNodes
from soak_watch import BLOCKS, growth


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoakNodes]:
    nodes = SoakNodes(tmp_path_factory.mktemp("soak"), next(DOMAINS), period_s=0.05)
    yield nodes
    if not nodes.result.get("exit_codes"):
        nodes.end()


def test_wrong_requests_are_all_answered(soak: SoakNodes) -> None:
    soak_phases.requests(soak, 150)
    found = soak.result["phases"]["requests"]
    assert found["problems"] == []
    assert sum(sum(outcomes.values()) for outcomes in found["outcomes"].values()) == 150
    assert all(soak.alive().values())


def test_plans_leave_nothing_behind(soak: SoakNodes) -> None:
    soak_phases.plans(soak, 80)
    grew = growth(soak.watch.samples, "plans", "planner_node")
    assert grew, f"{2 * BLOCKS} samples"
    print({name: (change["first"], change["last"]) for name, change in grew.items()})
    assert grew["uss_mib"]["last"] - grew["uss_mib"]["first"] < 6.0
    assert grew["threads"]["last"] - grew["threads"]["first"] < 1.0
    assert grew["files"]["last"] - grew["files"]["first"] < 2.0


def test_the_robot_still_stops_and_the_nodes_end_cleanly(soak: SoakNodes) -> None:
    soak_phases.watchdog(soak, 1)
    assert soak.result["phases"]["watchdog"]["in_time"], soak.result["phases"]["watchdog"]
    soak.end()
    assert all(soak.result["alive"].values())
    assert set(soak.result["errors_in_callbacks"].values()) == {0}
    assert set(soak.result["exit_codes"].values()) == {0}


def test_a_request_of_a_seed_is_always_the_same() -> None:
    drawn = [soak_requests.request(3, number) for number in range(300)]
    again = [soak_requests.request(3, number) for number in range(300)]
    assert [(kind, rng.random()) for kind, rng in drawn] == [(k, r.random()) for k, r in again]
    assert {kind for kind, _ in drawn} == set(soak_requests.KINDS)
    other = Counter(kind for kind, _ in (soak_requests.request(4, n) for n in range(300)))
    assert other != Counter(kind for kind, _ in drawn)


def test_growth_is_told_from_noise() -> None:
    rng = random.Random(0)

    def samples(slope: float) -> list[dict[str, object]]:
        values = {"rss_mib": 1.0, "threads": 9, "files": 20}
        return [
            {
                "phase": "plans",
                "done": n,
                "node": values | {"uss_mib": 100.0 + slope * n + rng.gauss(0.0, 1.0)},
            }
            for n in range(1000)
        ]

    flat, grown = (growth(samples(slope), "plans", "node") for slope in (0.0, 0.01))
    assert flat["uss_mib"]["low"] < 0.0 < flat["uss_mib"]["high"]
    assert grown["uss_mib"]["low"] < 0.01 < grown["uss_mib"]["high"]
    assert grown["uss_mib"]["low"] > 0.005
    assert grown["uss_mib"]["over_phase"] == pytest.approx(8.0, abs=0.8)
    assert growth(samples(0.0), "requests", "node") == {}
