"""Who finds the nodes: only this machine, unless the user says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from v2w.bringup import ros_environment, supervisor
from v2w_core.cli import main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """(environment of the nodes, what was said) of a ``v2w up`` whose nodes are not started."""
    said: list[str] = []

    class Supervisor:
        environment: dict[str, str]

        def __init__(self, environment: dict[str, str], *_: Any, **__: Any) -> None:
            Supervisor.environment = environment

        def __enter__(self) -> Supervisor:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def say(self, text: str) -> None:
            said.append(text)

        def start(self, name: str, command: list[str]) -> None:
            pass

        def run(self) -> int:
            return 0

    monkeypatch.setattr(supervisor, "Supervisor", Supervisor)

    def up(*arguments: str, **environment: str) -> tuple[dict[str, str], str]:
        said.clear()
        monkeypatch.setattr(ros_environment, "ros_environment", lambda: dict(environment))
        assert main(["up", "--checkpoint", str(Path.cwd()), *arguments]) == 0
        return Supervisor.environment, said[-1]

    return up


def test_up_is_found_on_this_machine_only(started: Any) -> None:
    environment, said = started()
    assert environment == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    assert "only this machine" in said and "discovery subnet" in said
    environment, said = started("--sim")
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert 1 <= int(environment["ROS_DOMAIN_ID"]) <= 100


def test_what_the_user_has_set_stays(started: Any) -> None:
    for name, value in {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "ROS_LOCALHOST_ONLY": "0",
        "ROS_DISCOVERY_SERVER": "10.0.0.1:11811",
    }.items():
        environment, said = started(**{name: value})
        assert environment == {name: value}
        assert f"{name}={value}" in said


def test_the_option_goes_before_the_environment(started: Any) -> None:
    environment, said = started("--discovery", "subnet", ROS_LOCALHOST_ONLY="1")
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    assert environment["ROS_LOCALHOST_ONLY"] == "0"
    assert "whoever is in this subnet" in said
    environment, _ = started("--discovery", "localhost", ROS_AUTOMATIC_DISCOVERY_RANGE="SUBNET")
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_humble_is_told_in_its_own_words(started: Any) -> None:
    environment, _ = started(ROS_DISTRO="humble")
    assert environment["ROS_LOCALHOST_ONLY"] == "1"
