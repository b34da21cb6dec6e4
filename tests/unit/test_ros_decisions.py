"""Status, error codes, parameters, the graph's command lines: what the nodes decide."""

from __future__ import annotations

import argparse
import math
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import FrozenInstanceError
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
from v2w.bringup.node_processes import MODEL_NODES
from v2w.commands import up
from v2w.inference import status
from v2w.inference.status import Phase, RequestCounts, RuntimeReport, StatusRecord, StatusReport
from v2w.messages.conversions import candidates_from, planar_pose
from v2w.navigation.history import HistoryCounters, HistoryReport
from v2w.navigation.planning import PlanningCore, pose_goal
from v2w.parameters import TABLES, check_horizon, goal_costs
from v2w_core.backends import names
from v2w_core.errors import DataError, V2WError
from v2w_core.images import encode_image
from v2w_core.spec import ActionSpec

PACKAGE = Path(node_processes.__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("facts", "history", "state"),
    [
        ({}, (4, 0.1), status.UNKNOWN),
        ({"phase": Phase.LOADING}, (0, None), status.LOADING),
        ({"phase": Phase.WARMING_UP}, (0, None), status.WARMING_UP),
        ({"phase": Phase.INACTIVE}, (0, None), status.UNKNOWN),
        ({"phase": Phase.ACTIVE}, (0, None), status.WAITING_FOR_HISTORY),
        ({"phase": Phase.ACTIVE}, (2, 0.1), status.WAITING_FOR_HISTORY),
        ({"phase": Phase.ACTIVE}, (4, 5.0), status.WAITING_FOR_HISTORY),
        ({"phase": Phase.ACTIVE}, (4, 0.1), status.READY),
        ({"phase": Phase.ACTIVE, "num_requests": 1}, (4, 0.1), status.BUSY),
        ({"phase": Phase.ACTIVE, "error": "the device was lost"}, (4, 0.1), status.ERROR),
        ({"error": "no checkpoint"}, (4, 0.1), status.ERROR),
    ],
)
def test_the_state_that_is_reported(facts: dict, history: tuple, state: int) -> None:
    seen = HistoryReport(history[0], 4, history[1], HistoryCounters())
    report = StatusReport(history=seen, max_history_age_s=1.0, **facts)
    assert report.state == state
    assert report.message


def test_a_report_cannot_be_changed_and_says_why_it_is_degraded() -> None:
    report = StatusReport(runtime=RuntimeReport(degraded="onnx is not available"), num_requests=3)
    assert report.message == "not configured; onnx is not available"
    assert report.num_waiting == 2
    with pytest.raises(FrozenInstanceError):
        report.num_requests = 0  # type: ignore[misc]


class Slow(int):
    """A count that lets other threads run while it is added to."""

    def __add__(self, other: int) -> Slow:
        value = int(self)
        time.sleep(0.02)
        return Slow(value + other)


def at_once(*calls: Callable[[], object]) -> None:
    """Run each call four times, all in threads of their own."""
    threads = [threading.Thread(target=call) for call in calls for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)


def test_no_request_is_lost_when_threads_count_at_once() -> None:
    record = StatusRecord()
    record._served, record._failed = Slow(), Slow()
    at_once(lambda: record.finish(True, 0.5), lambda: record.finish(False))
    _, _, counts = record.read()
    assert (counts.served, counts.failed, counts.last_inference_s) == (4, 4, 0.5)


def test_only_the_first_error_is_kept_and_reported_as_new() -> None:
    record = StatusRecord()
    assert record.fail("the device was lost")
    assert not record.fail("the device was lost again")
    assert record.read()[:2] == (Phase.UNCONFIGURED, "the device was lost")


def test_deactivation_keeps_counts_and_a_new_phase_clears_them() -> None:
    record = StatusRecord()
    record.deactivate()
    assert record.read()[0] is Phase.UNCONFIGURED
    record.restart(Phase.INACTIVE)
    record.activate()
    assert record.active
    record.finish(True, 1.0)
    record.deactivate()
    assert record.read()[0] is Phase.INACTIVE and record.read()[2].served == 1
    record.restart(Phase.UNCONFIGURED, "no checkpoint")
    assert record.read() == (Phase.UNCONFIGURED, "no checkpoint", RequestCounts())


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
def test_defaults_are_in_range_and_files_say_what_the_tables_say(node: str) -> None:
    readme = (PACKAGE / "README.md").read_text()
    lines = (PACKAGE / "config" / f"{node}.yaml").read_text().split("\n")
    comments = " ".join(line.strip().removeprefix("# ") for line in lines)
    for parameter in TABLES[node]:
        parameter.check(parameter.default)
        assert f"| `{parameter.name}` |" in readme, parameter.name
        assert parameter.text in readme, parameter.name
        assert parameter.text in comments, parameter.name


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


@pytest.mark.parametrize(
    ("values", "changed", "named"),
    [
        ((8, 64), ["horizon"], ""),
        ((9, 64), ["horizon"], "parameter horizon: at most 8 steps.*window.*9"),
        ((8, 7), ["horizon"], "parameter horizon: at most max_horizon, 7 steps.*8"),
        ((8, 7), ["max_horizon"], "parameter max_horizon: at least horizon, 8 steps.*7"),
    ],
)
def test_a_horizon_that_no_plan_could_have(
    values: tuple[int, int], changed: list[str], named: str
) -> None:
    given = dict(zip(("horizon", "max_horizon"), values, strict=True))
    with pytest.raises(V2WError, match=named) if named else nullcontext():
        check_horizon(given, 8, changed)


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


FOLDED = "world_model_node: {ros__parameters: {checkpoint: a}}"


@pytest.mark.parametrize(
    ("text", "world_model", "planner"),
    [
        ("", False, False),
        ("# checkpoint: a\nplanner_node:\n  ros__parameters:\n    horizon: 6", False, False),
        ("/**: {ros__parameters: {checkpoint: a}}", True, True),
        ("/**: {ros__parameters: {model: {checkpoint: a}}}", False, False),
        ("/**: {ros__parameters: {note: 'checkpoint: a'}}", False, False),
        ("/**/planner_node: {ros__parameters: {checkpoint: a}}", False, True),
        ("/*: {ros__parameters: {checkpoint: a}}", False, False),
        ("/*/planner_node: {ros__parameters: {checkpoint: a}}", False, True),
        (FOLDED, False, False),
        (f"robot1: {{{FOLDED}}}", True, False),
        (f"/robot1/: {{{FOLDED}}}", True, False),
        (f"/robot2: {{{FOLDED}}}", False, False),
        (f"/**: {{{FOLDED}}}", True, False),
        ("/robot1/planner_node: {ros__parameters: {checkpoint: a}}", False, True),
        ("/**/planner_node: {ros__parameters: {checkpoint: ''}}", False, False),
        ("/**/slam_node: {ros__parameters: {checkpoint: a}}", False, False),
        ("planner_node: {checkpoint: a}", False, False),
        ("- checkpoint: a", False, False),
    ],
)
def test_a_checkpoint_is_named_by_the_parameters_of_a_node(
    tmp_path: Path, text: str, world_model: bool, planner: bool
) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    named = [node_processes.names_checkpoint([path], n, "/robot1") for n in MODEL_NODES]
    assert named == [world_model, planner]


def test_without_a_namespace_the_bare_name_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(FOLDED)
    assert node_processes.names_checkpoint([path], "world_model_node")
    path.write_text("/*: {ros__parameters: {checkpoint: a}}")
    assert node_processes.names_checkpoint([path], "world_model_node")


@pytest.mark.parametrize(("text", "rule"), [(None, "exists"), ("a: [", "YAML"), (b"\xff", "YAML")])
def test_a_parameter_file_that_cannot_be_read(
    tmp_path: Path, text: str | bytes | None, rule: str
) -> None:
    path = tmp_path / "robot.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(V2WError, match=f"--params-file: .*{rule}"):
        node_processes.names_checkpoint([path], "planner_node")


def test_nodes_without_a_checkpoint_get_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v2w_core.checkpoint.default_checkpoint", lambda: Path("/shipped"))
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    path = tmp_path / "robot.yaml"
    path.write_text("# checkpoint: is set on the command line\n")

    def checkpoints(*arguments: str) -> list[str | None]:
        tables = node_processes.overrides_from(parser.parse_args(arguments))
        assert "checkpoint" not in tables["simulator_node"]
        return [tables[node].get("checkpoint") for node in MODEL_NODES]

    assert checkpoints() == ["/shipped"] * 2
    assert checkpoints("--checkpoint", "/mine") == ["/mine"] * 2
    assert checkpoints("--params-file", str(path)) == ["/shipped"] * 2
    assert checkpoints("--set", "planner_node.checkpoint=/mine") == ["/shipped", None]
    path.write_text("/**: {ros__parameters: {checkpoint: /mine}}")
    assert checkpoints("--params-file", str(path)) == [None, None]


def test_candidates_and_poses_that_are_not_messages_of_ours() -> None:
    spec = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1,) * 3, (1,) * 3, 4.0)
    with pytest.raises(V2WError, match="candidates"):
        candidates_from([], spec, max_candidates=4, max_horizon=8)
    zero = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    with pytest.raises(V2WError, match="unit quaternion"):
        planar_pose(SimpleNamespace(position=zero, orientation=zero))


@pytest.mark.parametrize("norm", [0.951, 1.0, 1.049])
@pytest.mark.parametrize("yaw", [-3.0, -1.6, -0.5, 0.0, 0.8, 1.5, 2.4])
def test_yaw_does_not_depend_on_the_norm_of_the_quaternion(norm: float, yaw: float) -> None:
    z, w = norm * math.sin(yaw / 2), norm * math.cos(yaw / 2)
    pose = SimpleNamespace(
        position=SimpleNamespace(x=1.0, y=2.0, z=3.0),
        orientation=SimpleNamespace(x=0.0, y=0.0, z=z, w=w),
    )
    assert planar_pose(pose) == pytest.approx((1.0, 2.0, 3.0, yaw), abs=1e-9)


@pytest.mark.parametrize("norm", [0.94, 1.06])
def test_a_quaternion_that_is_far_from_a_unit_one_is_refused(norm: float) -> None:
    zero = SimpleNamespace(x=0.0, y=0.0, z=0.0)
    turn = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=norm)
    with pytest.raises(V2WError, match="unit quaternion"):
        planar_pose(SimpleNamespace(position=zero, orientation=turn))


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
