"""Transforms on /tf and /tf_static, where tf2_msgs is installed (the wheels have none)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from v2w.nodes.diagnostics import LATCHED


class TransformBroadcaster:
    """Publishes transforms; does nothing without tf2_msgs.

    Args:
        node: has the publishers.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kind: Any = None
        self._moving = self._static = None
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().info("no tf2_msgs: no transforms are broadcast")
            return
        self._kind = TFMessage
        self._moving = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
        self._static = node.create_publisher(TFMessage, "/tf_static", LATCHED)

    def send(self, transforms: Iterable[Any]) -> None:
        """Publish transforms that change."""
        if self._moving is not None:
            self._moving.publish(self._kind(transforms=list(transforms)))

    def send_static(self, transforms: Iterable[Any]) -> None:
        """Publish transforms that stay; every later subscriber gets them, too."""
        if self._static is not None:
            self._static.publish(self._kind(transforms=list(transforms)))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (self._moving, self._static):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._moving = self._static = None
