"""Who else is in the ROS graph: the clients of a service, other publishers on a topic.

An endpoint's GID begins with twelve bytes of its process. Fast DDS puts the host and the lower half
of the process id in there, so that a process of this machine that was killed is noticed at once:
the graph itself takes 20 s for that. Other middleware is judged by the graph alone.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from rclpy.exceptions import InvalidHandle
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
        except (RuntimeError, InvalidHandle):  # the node is being destroyed
            return frozenset()
        return frozenset(bytes(info.endpoint_gid) for info in self._living(found))

    def other_publishers(self, topic: str) -> list[str]:
        """Names of other living nodes that publish on a topic."""
        found = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        own = (self._node.get_name(), self._node.get_namespace())
        names = {
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in self._living(found)
            if not (_prefix(info) == self._own and (info.node_name, info.node_namespace) == own)
        }
        return sorted(names)

    def _living(self, found: list[Any]) -> list[Any]:
        """Those endpoints whose processes are there, as far as is known."""
        pids = {id(info): self._pid(info) for info in found}
        running = _running({pid for pid in pids.values() if pid is not None})
        return [info for info in found if pids[id(info)] is None or pids[id(info)] in running]

    def _pid(self, info: Any) -> int | None:
        """The lower half of the id of an endpoint's process; None where it is not known."""
        prefix = _prefix(info)
        if not self._has_pids or prefix[HOST] != self._own[HOST]:
            return None
        return int.from_bytes(prefix[PID], "little")


def _prefix(info: Any) -> bytes:
    return bytes(info.endpoint_gid)[:PREFIX]


def _running(low_pids: set[int]) -> set[int]:
    """Those of these 16 bits in which the id of a running process ends."""
    found: set[int] = set()
    for entry in os.listdir("/proc") if low_pids else ():
        low = int(entry) & 0xFFFF if entry.isdigit() else -1
        if low in low_pids - found:
            try:
                state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):
                continue
            if state not in "ZXx":
                found.add(low)
    return found
