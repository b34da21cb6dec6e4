"""Readiness, error codes, parameters, the graph's command lines: what the nodes decide."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from core_toys import history, small_model

from planners.costs.blocked_motion import WALL
from planners.costs.settings import IMAGE_GOAL_COSTS, POSE_GOAL_COSTS
from planners.observation import Observation
from v2w import errors
from v2w.bringup import node_processes
from v2w.inference import status
from v2w.inference.status import Readiness
from v2w.messages.conversions import candidates_from, planar_pose
from v2w.navigation.planning import PlanningCore, pose_goal
from v2w.parameters import TABLES, goal_costs
from v2w_core.backends import names
from v2w_core.errors import DataError, V2WError
from v2w_core.images import encode_image
from v2w_core.spec import ActionSpec

PACKAGE = Path(node_processes.__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("facts", "history", "state"),
    [
        ({}, (4, 0.1), status.UNKNOWN),
        ({"loading": True}, (0, None), status.LOADING),
        ({"loaded": True}, (0, None), status.UNKNOWN),
        ({"loaded": True, "active": True}, (0, None), status.WAITING_FOR_HISTORY),
        ({"loaded": True, "active": True}, (2, 0.1), status.WAITING_FOR_HISTORY),
        ({"loaded": True, "active": True}, (4, 5.0), status.WAITING_FOR_HISTORY),
        ({"loaded": True, "active": True}, (4, 0.1), status.READY),
        ({"loaded": True, "active": True, "busy": True}, (4, 0.1), status.BUSY),
        ({"error": "no checkpoint"}, (4, 0.1), status.ERROR),
    ],
)
def test_readiness(facts: dict, history: tuple, state: int) -> None:
    got, message = Readiness(**facts).state(history[0], 4, history[1], max_age_s=1.0)
    assert got == state
    assert message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (V2WError("a", "b"), "INVALID_REQUEST"),
        (V2WError("a", "b", code="HISTORY_STALE"), "HISTORY_STALE"),
        (DataError("a", "b"), "INVALID_REQUEST"),
        (V2WError("a", "b", code="NEVER_HEARD_OF"), "UNKNOWN"),
        (TimeoutError(), "TIMEOUT"),
        (MemoryError(), "MODEL_ERROR"),
        (RuntimeError("CUDA"), "MODEL_ERROR"),
    ],
)
def test_error_codes(error: Exception, code: str) -> None:
    number, message = errors.answer(error)
    assert number == errors.CODES[code]
    assert message


@pytest.mark.parametrize("node", TABLES)
def test_yaml_files_give_the_defaults_of_the_tables(node: str) -> None:
    text = yaml.safe_load((PACKAGE / "config" / f"{node}.yaml").read_text())
    given = text[f"/**/{node}"]["ros__parameters"]
    assert given == {parameter.name: parameter.default for parameter in TABLES[node]}


@pytest.mark.parametrize("node", TABLES)
def test_defaults_are_in_range_and_every_parameter_is_in_the_readme(node: str) -> None:
    readme = (PACKAGE / "README.md").read_text()
    for parameter in TABLES[node]:
        parameter.check(parameter.default)
        assert f"| `{parameter.name}` |" in readme, parameter.name


@pytest.mark.parametrize("node", ["world_model_node", "planner_node"])
def test_back_ends_and_precisions_are_those_that_there_are(node: str) -> None:
    choices = {parameter.name: parameter.choices for parameter in TABLES[node]}
    assert choices["backend"] == (names.AUTO, *names.BACKENDS)
    assert choices["precision"] == names.PRECISIONS


def test_wrong_types_and_ranges_are_refused() -> None:
    table = {parameter.name: parameter for parameter in TABLES["planner_node"]}
    for name, value in (("horizon", 8.0), ("horizon", 0), ("image_transport", "theora"),
                        ("publish_velocity", 1), ("time_budget", math.nan)):  # fmt: skip
        with pytest.raises(V2WError, match=name):
            table[name].check(value)


def test_parameters_choose_the_terms_of_a_plans_cost() -> None:
    values = {parameter.name: parameter.default for parameter in TABLES["planner_node"]}
    assert goal_costs(values, "image_goal") == dict(IMAGE_GOAL_COSTS)
    assert goal_costs(values, "pose_goal") == dict(POSE_GOAL_COSTS)
    assert values["blocked_motion.weight"] == WALL
    values |= {"image_goal.goal_image.weight": 0.0, "image_goal.goal_image_latent.weight": 2.0,
               "pose_goal.goal_pose.yaw_weight_m": 0.1}  # fmt: skip
    assert goal_costs(values, "pose_goal")["goal_pose"].yaw_weight_m == 0.1
    model = small_model()
    goal = PlanningCore(model).image_goal(
        encode_image(history()[0][0], "png"), goal_costs(values, "image_goal")
    )
    terms = goal.cost(Observation(*history())).terms
    assert {name: weight for name, (weight, _) in terms.items()} == {
        "goal_image_latent": 2.0, "smoothness": 0.002,
    }  # fmt: skip


def test_command_lines_carry_files_then_overrides(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("{}")
    lines = node_processes.commands(
        ["planner_node"],
        params_files=[own],
        settings=["planner_node.time_budget=3", "planner_node.checkpoint=on"],
        overrides={"planner_node": {"image_topic": "cam"}},
        namespace="robot1",
    )
    line = lines["planner_node"]
    files = [line[i + 1] for i, word in enumerate(line) if word == "--params-file"]
    assert [Path(file).name for file in files] == ["planner_node.yaml", "own.yaml"]
    assert 'image_topic:="cam"' in line
    assert "time_budget:=3.0" in line
    assert 'checkpoint:="on"' in line
    assert "__ns:=/robot1" in line


def test_candidates_and_poses_that_are_not_messages_of_ours() -> None:
    spec = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1,) * 3, (1,) * 3, 4.0)
    with pytest.raises(V2WError, match="candidates"):
        candidates_from([], spec, max_candidates=4, max_horizon=8)
    zero = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    with pytest.raises(V2WError, match="unit quaternion"):
        planar_pose(SimpleNamespace(position=zero, orientation=zero))


@pytest.mark.parametrize(
    ("frame", "pose"),
    [("odom", (1.0, 2.0, 0.5)), ("", (1.0, 2.0, 0.5)), ("base", (1.0, 6.0, 2.07))],
)
def test_goal_frames(frame: str, pose: tuple[float, float, float]) -> None:
    goal = pose_goal(
        (1.0, 2.0, 0.5), frame, odom_frame="odom", base_frame="base",
        here=(3.0, 5.0, math.pi / 2), tolerance_m=0.2, tolerance_rad=0.2,
    )  # fmt: skip
    assert goal.pose == pytest.approx(pose, abs=0.01)


def test_other_frames_are_an_error() -> None:
    with pytest.raises(V2WError) as caught:
        pose_goal((0, 0, 0), "map", odom_frame="odom", base_frame="base", here=(0, 0, 0),
                  tolerance_m=0.1, tolerance_rad=0.1)  # fmt: skip
    assert caught.value.code == "TF_ERROR"
