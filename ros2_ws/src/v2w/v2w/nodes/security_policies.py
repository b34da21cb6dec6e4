"""Prints an SROS 2 policy file for the v2w nodes that are running.

python -m v2w.nodes.security_policies [--image-topic /camera/image_raw] > policies.xml

Run it beside `v2w up --sim`, or beside the nodes on your robot with their topics and namespace: the
policy names those. Nodes of other packages, such as camera and base, need one of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import rclpy

from v2w.bringup import security_policies
from v2w.parameters import TABLES
from v2w_core.errors import V2WError

#: How long nodes may take to become active [s], and how long nothing new must have come [s].
PATIENCE_S, QUIET_S = 60.0, 2.0


def policies(graph: Any, image_topic: str = "/image_raw") -> str:
    """The policy file of the v2w nodes that ``graph``, an rclpy node, sees.

    Raises:
        V2WError: there is none, or one is not active.
    """
    nodes = [security_policies.complete(node, image_topic) for node in _settled(graph)]
    return security_policies.policy_file([*nodes, security_policies.operator(nodes)])


def _settled(graph: Any) -> list[security_policies.Interfaces]:
    """What the nodes use, once all are active and that has not changed for QUIET_S."""
    found: list[security_policies.Interfaces] = []
    names: list[tuple[str, str]] = []
    began = changed = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        seen = graph.get_node_names_and_namespaces()
        names = [pair for wanted in TABLES for pair in sorted(seen) if pair[0] == wanted]
        now = [security_policies.read_graph(graph, *pair) for pair in names]
        if now != found:
            found, changed = now, time.monotonic()
        quiet = time.monotonic() - changed > QUIET_S
        if found and quiet and all(_is_active(graph, *pair) for pair in names):
            return found
        time.sleep(0.2)
    rule = f"one or more of {', '.join(TABLES)} run in this ROS domain, and are active"
    raise V2WError("nodes", rule, ", ".join(name for name, _ in names) or "none")


def _is_active(graph: Any, name: str, namespace: str) -> bool:
    """Whether a node has begun to work: each of ours then sends or hears odometry."""
    topics = (
        graph.get_subscriber_names_and_types_by_node(name, namespace)
        + graph.get_publisher_names_and_types_by_node(name, namespace)
    )  # fmt: skip
    return any("nav_msgs/msg/Odometry" in types for _, types in topics)


def main() -> int:
    """Entry point of ``python -m``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-topic", default="/image_raw", help="full name (/image_raw)")
    args = parser.parse_args()
    rclpy.init()
    node = rclpy.create_node("security_policies")
    try:
        print(policies(node, args.image_topic), end="")
    except V2WError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
