"""Names and parameter files: what ROS would refuse later, or ignore, is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w.bringup import node_processes
from v2w.bringup.parameter_files import check_params_files
from v2w.bringup.ros_names import (
    MAX_NAMESPACE,
    MAX_TOPIC,
    check_domain_id,
    check_namespace,
    check_topic_name,
)
from v2w.parameters import TABLES, TOPIC
from v2w_core.cli import main
from v2w_core.errors import V2WError

BAD_TOPICS = [
    "", "/", "/a b", "/a//b", "a//b", "a/", "~/", "1a", "a/1b", "/1", "a~", "~a", "~ab", "/~/a",
    "{x}/a", "a{", "a}", "{}", "{node", "{no de}", "é", "a-b", "a.b", "a\n", "a\0b", "٣",
    "/{ns}", "a" * 300,
]  # fmt: skip
GOOD_TOPICS = ["a", "/a", "a/b", "~", "~/a", "{node}/a", "{ns}/a", "_a", "a__b", "A9", "a{node}b"]


def refused(function, *arguments, **named):
    with pytest.raises(V2WError) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", BAD_TOPICS)
def test_topics_that_ros_refuses_are_refused(name):
    assert "topic name" in refused(check_topic_name, name, "image_topic")


@pytest.mark.parametrize("name", GOOD_TOPICS)
def test_topics_that_ros_takes_are_taken(name):
    assert check_topic_name(name, "image_topic").startswith("/")


NAMES = st.text(alphabet="ab1_/~{}é- ", max_size=12) | st.sampled_from(
    [name for name in (*BAD_TOPICS, *GOOD_TOPICS) if "\0" not in name]  # where C's texts end
)


@given(name=NAMES, namespace=st.sampled_from(["/", "/r1", "/r1/x"]))
@settings(max_examples=500, deadline=None)
def test_topics_are_those_of_rcl(name, namespace):
    expand = pytest.importorskip("rclpy.expand_topic_name").expand_topic_name
    validate = pytest.importorskip("rclpy.validate_full_topic_name").validate_full_topic_name
    try:
        expected = expand(name, "planner_node", namespace)
        validate(expected)
    except Exception:  # whichever of rclpy's
        expected = None
    try:
        found = check_topic_name(name, "topic", node="planner_node", namespace=namespace)
    except V2WError:
        found = None
    if found is None and expected is not None:  # rcl overlooks the second of two characters
        assert len(expected) > MAX_TOPIC or (name[0] == "~" and len(name) == 2)
    else:
        assert found == expected


@given(st.text(alphabet="ab1_/~{}é- ", max_size=12))
@settings(max_examples=300, deadline=None)
def test_namespaces_are_those_of_rmw(name):
    validate = pytest.importorskip("rclpy.validate_namespace").validate_namespace
    try:
        found = check_namespace(name)
    except V2WError:
        with pytest.raises(Exception, match="nvalid namespace"):
            validate(name if name.startswith("/") else f"/{name}")
    else:
        assert validate(found)


@pytest.mark.parametrize("name", ["a b", "a//b", "//", "1a", "~", "{ns}", "a\n", "é", "a" * 300])
def test_namespaces_that_are_none_are_refused(name):
    assert "--namespace" in refused(check_namespace, name)
    assert MAX_NAMESPACE < MAX_TOPIC


@pytest.mark.parametrize("value", [-3, 233, 10**30, "abc", "²", "", "1.0", "0x1", " "])
def test_domains_that_dds_does_not_have_are_refused(value):
    assert "0 to 232" in refused(check_domain_id, value, "--domain-id")


def test_domains_from_0_to_232_are_taken():
    assert [check_domain_id(value, "x") for value in (0, 232, "7", " 8 ")] == [0, 232, 7, 8]


UP = [
    (["--domain-id", "-3"], "--domain-id: from 0 to 232"),
    (["--namespace", "a b"], "--namespace: a namespace"),
    (["--namespace", "a//b"], "--namespace"),
    (["--image-topic", "/a b"], "parameter image_topic: a topic name"),
    (["--odom-topic", ""], "parameter odom_topic"),
    (["--set", "planner_node.cmd_vel_topic=/a//b"], "parameter cmd_vel_topic: a topic name"),
    (["--set", "simulator_node.odom_topic=1"], "parameter odom_topic"),
    (["--set", "planner_node.image_topic={ns}/a"], "parameter image_topic"),
    (["--set", "planner_node.seed=&a [*a, *a]"], "--set: no anchors"),
    (["--set", "planner_node.use_sim_time=3"], "--set: true or false"),
    (["--set", "planner_node.horizon=" + "9" * 5000], "--set"),
]


@pytest.mark.parametrize(("arguments", "named"), UP)
def test_up_refuses_names_in_one_line_before_anything_starts(arguments, named, capsys, monkeypatch):
    monkeypatch.setattr("v2w.bringup.ros_environment.ros_environment", None)
    assert main(["up", "--checkpoint", "x", *arguments]) == 2
    printed = capsys.readouterr().err.strip()
    assert named in printed and "\n" not in printed


def test_up_refuses_a_domain_of_the_environment(capsys, monkeypatch):
    monkeypatch.setattr(
        "v2w.bringup.ros_environment.ros_environment", lambda: {"ROS_DOMAIN_ID": "300"}
    )
    assert main(["up", "--checkpoint", "x", "--sim"]) == 2
    assert "$ROS_DOMAIN_ID: from 0 to 232" in capsys.readouterr().err


def test_every_topic_parameter_is_checked_as_one():
    for table in TABLES.values():
        for parameter in table:
            assert (parameter.kind == TOPIC) == parameter.name.endswith("_topic"), parameter.name
            if parameter.kind == TOPIC:
                parameter.check(parameter.default)
                refused(parameter.check, "/a//b")


BOTH = ("world_model_node", "planner_node")


def check(tmp_path, text, namespace="", nodes=BOTH):
    path = Path(tmp_path) / "robot.yaml"
    path.write_text(text)
    check_params_files([path], nodes, namespace)


def section(name, parameters="horizon: 6"):
    return f"{name}: {{ros__parameters: {{{parameters}}}}}\n"


ACCEPTED = [
    ("", ""),
    ("{}", ""),
    (section("planner_node"), ""),
    (section("/planner_node"), ""),
    (section("/**"), "robot1"),
    (section("/*"), ""),
    (section("/**/planner_node"), "robot1"),
    (section("/*/planner_node"), "robot1"),
    ("/robot1: {" + section("planner_node").strip() + "}", "robot1"),
    ("/a: {/b/: {" + section("planner_node").strip() + "}}", "/a/b/"),
    (section("/robot1/planner_node") + section("/robot2/planner_node"), "robot2"),
    (section("/robot1/**") + section("/robot2/**"), "robot2"),
    (section("simulator_node", "maze_seed: 3"), ""),
    (section("/**", "use_sim_time: true, map_frame: x, slam: {rate: 3}"), ""),
    (section("planner_node", "qos_overrides: {/image_raw: {subscription: {depth: 3}}}"), ""),
    (section("planner_node", "qos_overrides./image_raw.subscription.reliability: reliable"), ""),
    (section("planner_node", "time_budget: 1e1"), ""),
    (section("planner_node", "start_type_description_service: false"), ""),
    (section("planner_server", "planner_plugins: [a]") + section("slam_node", "horizn: 3"), ""),
    (section("/**/slam_node", "image_topic: 3"), ""),
    ("planner_node: {ros__parameters: }", ""),
]


@pytest.mark.parametrize(("text", "namespace"), ACCEPTED)
def test_files_that_reach_their_nodes_are_accepted(tmp_path, text, namespace):
    check(tmp_path, text, namespace)


REFUSED = [
    (section("planner_node", "horizn: 6"), "", "horizon"),
    (section("planner_node", "publish_velocty: true"), "", "publish_velocity"),
    (section("planner_node", "anything: 1"), "", "nearest is"),
    (section("planner_node", "a: {horizon: 6}"), "", "a.horizon"),
    (section("planner_node", "use_simtime: true"), "", "use_sim_time"),
    (section("planner_node", "qos_override: {a: {subscription: {depth: 3}}}"), "", "qos_overrides"),
    (section("planner_node", "qos_overrides: {a: {subscription: {depht: 3}}}"), "", "depth"),
    (section("world_model_node", "horizon: 6"), "", "max_horizon"),
    (section("/**", "publish_velocty: true"), "", "publish_velocity"),
    (section("/**", "usesimtime: true"), "", "use_sim_time"),
    (section("/*", "Horizon: 6"), "", "horizon"),
    (section("planer_node"), "", "planner_node"),
    (section("PlannerNode"), "", "planner_node"),
    (section("planner"), "", "planner_node"),
    (section("/**/world_model"), "", "world_model_node"),
    (section("simulater_node"), "", "simulator_node"),
    (section("planner_node"), "robot1", "/robot1/planner_node"),
    (section("/robot1/planner_node"), "", "/planner_node"),
    (section("/robt1/planner_node"), "robot1", "/robot1/planner_node"),
    (section("/robot2/**"), "robot1", "/robot1/"),
    (section("/*"), "robot1", "/robot1/"),
    (section("/**/planner_node") + section("/x/world_model_node", ""), "r", "/r/world_model_node"),
    (section("planner_node", "cmd_vel_topic: /a//b"), "", "topic name"),
    (section("planner_node", 'cmd_vel_topic: "{ns}/a"'), "", "topic name"),
    (section("/**", "image_topic: /a b"), "", "topic name"),
    (section("planner_node", "horizon: 600"), "", "within"),
    (section("planner_node", "horizon: six"), "", "int"),
    (section("planner_node", "time_budget: .nan"), "", "within"),
    ("planner_node: {ros_parameters: {horizon: 6}}", "", "two underscores"),
    ("planner_node: {horizon: 6}", "", "ros__parameters"),
    ("ros__parameters: {horizon: 6}", "", "below the name"),
    ("planner_node: {ros__parameters: [1]}", "", "mapping"),
    ("[1, 2]", "", "ros__parameters"),
    ("planner_node: &a {ros__parameters: {horizon: 6}}\nb: *a", "", "anchors"),
    (section("planner_node") + section("planner_node"), "", "twice"),
]


@pytest.mark.parametrize(("text", "namespace", "named"), REFUSED)
def test_files_with_a_mistake_are_refused_with_the_nearest_name(tmp_path, text, namespace, named):
    message = refused(check, tmp_path, text, namespace)
    assert "--params-file" in message and named in message


def test_every_misspelling_of_a_parameter_is_found(tmp_path):
    for node, table in TABLES.items():
        for parameter in table:
            for wrong in (parameter.name[:-1], parameter.name + "s", parameter.name.upper()):
                if wrong in {item.name for item in table}:
                    continue
                text = section(node, f"{wrong}: 1")
                assert parameter.name in refused(check, tmp_path, text, "", [node])


def test_our_own_files_are_accepted():
    for node in TABLES:
        path = Path(node_processes.config_folder()) / f"{node}.yaml"
        check_params_files([path], [node], "robot1")
        node_processes.commands([node], params_files=[path], namespace="/robot1/")
