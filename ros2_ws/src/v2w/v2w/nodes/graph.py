"""Who else is in the ROS graph: clients of a service that have gone, another node of this name.

An endpoint's GID begins with twelve bytes of its process. Fast DDS puts the host and the lower half
of the process id in there, so that a process of this machine that was killed is noticed at once:
the graph itself takes 20 s for that. Other middleware is judged by the graph alone.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Empty

PREFIX = 12
HOST, PID = slice(0, 4), slice(4, 6)


class Graph:
    """The graph as a node sees it.

    Args:
        node: whose process counts as this one.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        topic = f"~/_{uuid.uuid4().hex}"
        publisher = node.create_publisher(Empty, topic, 1)
        found = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
        node.destroy_publisher(publisher)
        self._own = _prefix(found[0]) if found else b""
        pid = (os.getpid() & 0xFFFF).to_bytes(2, "little")
        self._has_pids = self._own[PID] == pid and Path("/proc/self/stat").exists()

    def clients(self, service: str) -> frozenset[bytes]:
        """The clients of a service, e.g. "~/plan", whose processes live; none where that fails."""
        name = self._node.resolve_service_name(service)
        try:
            found = self._node.get_publishers_info_by_topic(f"rq{name}Request", no_mangle=True)
        except RuntimeError:  # the node is being destroyed
            return frozenset()
        return frozenset(bytes(info.endpoint_gid) for info in found if self._lives(info))

    def other_publishers(self, topic: str) -> list[str]:
        """Names of other living nodes that publish on a topic."""
        found = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        own = (self._node.get_name(), self._node.get_namespace())
        names = {
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in found
            if self._lives(info)
            and not (_prefix(info) == self._own and (info.node_name, info.node_namespace) == own)
        }
        return sorted(names)

    def _lives(self, info: Any) -> bool:
        prefix = _prefix(info)
        if not self._has_pids or prefix[HOST] != self._own[HOST]:
            return True  # as far as is known
        return _runs(int.from_bytes(prefix[PID], "little"))


class ClientWatch:
    """The clients of a service when a request came, one of which sent it.

    Which one that was the middleware does not tell.

    Args:
        graph: of the node that offers the service.
        service: e.g. "~/plan".
    """

    def __init__(self, graph: Graph, service: str) -> None:
        self._graph, self._service = graph, service
        self._there = graph.clients(service)

    def one_is_gone(self) -> bool:
        """Whether one of them is gone: it may be the one that waits for the answer."""
        return bool(self._there - self._graph.clients(self._service))

    def all_are_gone(self) -> bool:
        """Whether nobody can wait for the answer any more."""
        return bool(self._there) and not self._there & self._graph.clients(self._service)


def _prefix(info: Any) -> bytes:
    return bytes(info.endpoint_gid)[:PREFIX]


def _runs(low_pid: int) -> bool:
    """Whether a process runs whose id ends in these 16 bits."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) & 0xFFFF == low_pid:
            try:
                state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):
                continue
            if state not in "ZXx":
                return True
    return False
