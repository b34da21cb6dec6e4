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
from ros_harness import DOMAINS, wait_for
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

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


class Observer:
    """Notes how callbacks end."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.successes = 0

    def on_callback_error(self, entity: object, name: str, error: Exception) -> None:
        self.errors.append(f"{name}: {error}")

    def on_callback_success(self, entity: object) -> None:
        self.successes += 1


def spin(executor: ThreadedExecutor, enough: Any) -> None:
    until = time.monotonic() + 10.0
    while not enough() and time.monotonic() < until:
        executor.spin_once(0.05)
    assert enough()


def test_an_observer_gets_the_errors_and_callbacks_go_on(node: Node) -> None:
    observer = Observer()
    executor = ThreadedExecutor(2, context=node.context, observer=observer)
    executor.add_node(node)

    def fails() -> None:
        raise ValueError("wrong")

    every_10_ms(node, fails)
    every_10_ms(node, lambda: None)
    spin(executor, lambda: len(observer.errors) > 3 and observer.successes > 3)
    assert "timer" in observer.errors[0] and "fails: wrong" in observer.errors[0]
    executor.shutdown(1.0)


def test_a_message_that_cannot_be_taken_costs_only_itself(node: Node) -> None:
    """rclpy never asks a subscription again whose message could not be converted to Python."""
    observer, received = Observer(), []
    executor = ThreadedExecutor(2, context=node.context, observer=observer)
    executor.add_node(node)
    subscription = node.create_subscription(Empty, "signal", received.append, 10)
    publisher = node.create_publisher(Empty, "signal", 10)
    take, broken = executor._take_subscription, [True]

    def taken(entity: Any) -> Any:
        work = take(entity)
        if entity is subscription and broken.pop() if broken else False:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return work

    executor._take_subscription = taken
    wait_for(lambda: publisher.get_subscription_count(), 20.0, "discovery")
    publisher.publish(Empty())
    spin(executor, lambda: observer.errors)
    assert "subscription /signal" in observer.errors[0] and "invalid start" in observer.errors[0]
    publisher.publish(Empty())
    spin(executor, lambda: received)
    executor.shutdown(1.0)


def test_entities_may_be_destroyed_by_another_thread_at_any_time(node: Node) -> None:
    observer = Observer()
    executor = ThreadedExecutor(3, context=node.context, observer=observer)
    executor.add_node(node)
    every_10_ms(node, lambda: None)
    over = threading.Event()

    def comes_and_goes() -> None:
        while not over.is_set():
            timer = node.create_timer(0.001, lambda: None, callback_group=ReentrantCallbackGroup())
            subscription = node.create_subscription(Empty, "signal", lambda _: None, 10)
            service = node.create_service(Trigger, "ask", lambda _, answer: answer)
            time.sleep(0.003)
            node.destroy_timer(timer)
            node.destroy_subscription(subscription)
            node.destroy_service(service)

    thread = threading.Thread(target=comes_and_goes)
    thread.start()
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        executor.spin_once(0.05)
    over.set()
    thread.join(10.0)
    assert observer.successes > 20
    assert not observer.errors
    executor.shutdown(1.0)
