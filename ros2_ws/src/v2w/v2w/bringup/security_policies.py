"""SROS 2 policies: which topics, services and actions each node may use. Knows no ROS.

The policy file of ``ros2 security`` (version 0.2.0) has an enclave for each process that gets keys
of its own. Ours are called as the nodes are, with their namespace.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

ACTION = "/_action/"
#: What the nodes use elsewhere than in the graph that was read: both image transports, /clock with
#: use_sim_time, transforms where tf2_msgs is installed. Planners know each other by hidden topics.
ALSO_SUBSCRIBED = {
    "world_model_node": ("/clock", "{image}", "{image}/compressed"),
    "planner_node": ("/clock", "{image}", "{image}/compressed", "{node}/_*"),
    "simulator_node": ("/clock",),
}
ALSO_PUBLISHED = {"planner_node": ("{node}/_*",), "simulator_node": ("/tf", "/tf_static")}


@dataclass(frozen=True)
class Interfaces:
    """What a node uses, by full names.

    Attributes:
        namespace, name: of the node.
        publish, subscribe: topics. reply, request: services. execute, call: actions.
    """

    namespace: str
    name: str
    publish: frozenset[str] = field(default_factory=frozenset)
    subscribe: frozenset[str] = field(default_factory=frozenset)
    reply: frozenset[str] = field(default_factory=frozenset)
    request: frozenset[str] = field(default_factory=frozenset)
    execute: frozenset[str] = field(default_factory=frozenset)
    call: frozenset[str] = field(default_factory=frozenset)

    @property
    def full_name(self) -> str:
        """Namespace and name, which is also the path of the enclave."""
        return f"{self.namespace.rstrip('/')}/{self.name}"


def read_graph(graph: Any, name: str, namespace: str) -> Interfaces:
    """What a node of the running graph uses.

    Args:
        graph: an rclpy node, or what has its ``get_..._names_and_types_by_node`` methods.
        name, namespace: of the node that is looked at.
    """

    def names(kind: str) -> set[str]:
        found = getattr(graph, f"get_{kind}_names_and_types_by_node")(name, namespace)
        return {full for full, _ in found}

    publish, reply = names("publisher"), names("service")
    subscribe, request = names("subscriber"), names("client")
    return Interfaces(
        namespace, name, _without_actions(publish), _without_actions(subscribe),
        _without_actions(reply), _without_actions(request),
        execute=_actions(reply), call=_actions(request),
    )  # fmt: skip


def complete(interfaces: Interfaces, image_topic: str) -> Interfaces:
    """With what the node uses under other parameters: ALSO_SUBSCRIBED and ALSO_PUBLISHED."""

    def with_also(names: frozenset[str], table: dict[str, tuple[str, ...]]) -> frozenset[str]:
        hidden = f"{interfaces.full_name}/_"
        also = table.get(interfaces.name, ())
        return frozenset(name for name in names if not name.startswith(hidden)) | {
            name.format(image=image_topic, node=interfaces.full_name) for name in also
        }

    return replace(
        interfaces,
        publish=with_also(interfaces.publish, ALSO_PUBLISHED),
        subscribe=with_also(interfaces.subscribe, ALSO_SUBSCRIBED),
    )


def operator(nodes: Iterable[Interfaces]) -> Interfaces:
    """Who may ask everything of the nodes and listen to them, and sends no sensor data."""
    nodes = list(nodes)
    common = frozenset({"/rosout", "/parameter_events"})
    shown = frozenset().union(*(node.publish for node in nodes))
    return Interfaces(
        nodes[0].namespace, "operator", publish=common,
        subscribe=frozenset(name for name in shown if not name.endswith("*")) | {"/clock"},
        request=frozenset().union(*(node.reply for node in nodes)),
        call=frozenset().union(*(node.execute for node in nodes)),
    )  # fmt: skip


def policy_file(nodes: Iterable[Interfaces]) -> str:
    """The text of a policy file with an enclave for each node; what is not named is denied."""
    policy = ET.Element("policy", version="0.2.0")
    enclaves = ET.SubElement(policy, "enclaves")
    for node in nodes:
        enclave = ET.SubElement(enclaves, "enclave", path=node.full_name)
        profiles = ET.SubElement(enclave, "profiles")
        profile = ET.SubElement(profiles, "profile", ns=node.namespace, node=node.name)
        for kind, right in (
            ("topic", "publish"), ("topic", "subscribe"), ("service", "reply"),
            ("service", "request"), ("action", "execute"), ("action", "call"),
        ):  # fmt: skip
            names = sorted(getattr(node, right))
            if names:
                rules = ET.SubElement(profile, f"{kind}s", {right: "ALLOW"})
                for name in names:
                    ET.SubElement(rules, kind).text = name
    ET.indent(policy)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(policy, encoding="unicode")}\n'


def _without_actions(names: set[str]) -> frozenset[str]:
    return frozenset(name for name in names if ACTION not in name)


def _actions(services: set[str]) -> frozenset[str]:
    return frozenset(name.partition(ACTION)[0] for name in services if ACTION in name)
