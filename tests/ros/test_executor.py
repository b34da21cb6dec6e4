"""The executor of the nodes: a callback is handed out once, and an error in one is not lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from ros_harness import DOMAINS

from v2w.nodes.executor import ThreadedExecutor


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=next(DOMAINS))
    node = rclpy.create_node("callbacks", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def every_10_ms(node: Node, callback: Any) -> None:
    node.create_timer(0.01, callback, callback_group=ReentrantCallbackGroup())


def test_a_callback_that_waits_for_a_thread_is_handed_out_once(node: Node) -> None:
    executor = ThreadedExecutor(1, context=node.context)
    executor.add_node(node)
    free, calls = threading.Event(), []

    def blocks() -> None:
        calls.append(time.monotonic())
        free.wait(10.0)

    every_10_ms(node, blocks)
    every_10_ms(node, lambda: calls.append(time.monotonic()))
    until, looks = time.monotonic() + 0.5, 0
    while time.monotonic() < until:
        executor.spin_once(0.1)
        looks += 1
    assert len(calls) <= 2  # one may have come before the one that blocks
    assert looks <= 10  # each waits its time out: the loop does not run beside the callback
    free.set()
    until = time.monotonic() + 5.0
    while len(calls) < 10 and time.monotonic() < until:
        executor.spin_once(0.1)
    assert len(calls) >= 10
    executor.shutdown(1.0)


def test_an_error_in_a_callback_is_raised(node: Node) -> None:
    executor = ThreadedExecutor(2, context=node.context)
    executor.add_node(node)

    def fails() -> None:
        raise ValueError("wrong")

    every_10_ms(node, fails)
    with pytest.raises(ValueError, match="wrong"):
        executor.spin()
    executor.shutdown(1.0)
