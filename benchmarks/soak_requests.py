"""The random and malformed requests of the soak: what a careless or hostile peer may send.

Request ``n`` of a seed always has the same content. Requests of every kind begin as ones that make
sense; up to four of their fields are then made wrong.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from action_msgs.srv import CancelGoal
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Imagine
from v2w_msgs.srv import Plan as PlanService

from hostile_messages import TEXTS, corrupted, wrong_bytes, wrong_picture
from soak_peer import MODEL, PATIENCE_S, PLANNER, NoAnswer, Peer, wait
from v2w.errors import CODES
from v2w.messages import conversions
from v2w.parameters import TABLES
from v2w_core.testing import PLANAR_4HZ

NODES = (MODEL, PLANNER)
NAMES = {code: name for name, code in CODES.items()}
#: Set to a valid value these would make one plan take an hour.
LEFT_ALONE = ("max_request_time",)


def _num_wrong(rng: random.Random) -> int:
    return rng.choice((0, 1, 1, 2, 4))


# -- plans and imagination -----------------------------------------------------------------------


def plan_request(peer: Peer, rng: random.Random, kind: Any = PlanService.Request) -> Any:
    """A random request of a short plan, not made wrong."""
    request = kind(goal_type=rng.randrange(2), return_frames=rng.random() < 0.1)
    request.goal_pose.header.frame_id = rng.choice(("", "odom", "base_link"))
    request.goal_pose.pose = conversions.pose_message(
        rng.uniform(-3.0, 3.0), rng.uniform(-3.0, 3.0), rng.uniform(-3.0, 3.0)
    )
    request.goal_image.data = rng.choice(peer.pictures)
    request.num_iterations, request.num_candidates = rng.choice((1, 2)), rng.choice((4, 8, 16))
    request.time_budget = conversions.duration_message(rng.choice((0.001, 0.2, 2.0)))
    return request


def _wrong_plan(peer: Peer, rng: random.Random, kind: Any = PlanService.Request) -> Any:
    request = plan_request(peer, rng, kind)
    if request.goal_type and rng.random() < 0.3:
        request.goal_image.data = wrong_picture(rng.choice(peer.pictures), rng)
    return corrupted(request, rng, _num_wrong(rng))


def plan(peer: Peer, rng: random.Random) -> str:
    """~/plan, the service."""
    answer = peer.call(PlanService, f"{PLANNER}/plan", _wrong_plan(peer, rng))
    return NAMES[answer.error_code]


def goal(peer: Peer, rng: random.Random) -> str:
    """A goal of the action ~/plan, whose result is awaited."""
    handle = wait(peer.plan_action.send_goal_async(_wrong_plan(peer, rng, PlanAction.Goal)), "goal")
    return NAMES[wait(handle.get_result_async(), "result").result.error_code]


def cancelled_goal(peer: Peer, rng: random.Random) -> str:
    """A goal that is cancelled somewhere between its acceptance and its end."""
    handle = wait(peer.plan_action.send_goal_async(_wrong_plan(peer, rng, PlanAction.Goal)), "goal")
    result = handle.get_result_async()
    time.sleep(rng.uniform(0.0, 0.3))
    wait(handle.cancel_goal_async(), "cancelling")
    return NAMES[wait(result, "result").result.error_code]


def abandoned_goal(peer: Peer, rng: random.Random) -> str:
    """A goal whose result nobody asks for."""
    wait(peer.plan_action.send_goal_async(_wrong_plan(peer, rng, PlanAction.Goal)), "goal")
    return "accepted"


def unknown_goal(peer: Peer, rng: random.Random) -> str:
    """The result, or the end, of a goal that was never sent."""
    if rng.random() < 0.5:
        kind, name = PlanAction.Impl.GetResultService, "get_result"
    else:
        kind, name = CancelGoal, "cancel_goal"
    request = corrupted(kind.Request(), rng, 2)
    peer.call(kind, f"{PLANNER}/plan/_action/{name}", request)
    return "answered"


def imagine(peer: Peer, rng: random.Random) -> str:
    """~/imagine of world_model_node."""
    steps = rng.choice((1, 4, 8))
    actions = [[rng.uniform(-0.2, 0.2) for _ in range(3)] for _ in range(steps)]
    one = conversions.sequence_message(np.array(actions, np.float32), PLANAR_4HZ, 0, "base_link")
    request = Imagine.Request(candidates=[one] * rng.choice((1, 2, 4)))
    request.num_sampling_steps, request.frame_format = rng.choice((0, 1, 2)), rng.randrange(4)
    answer = peer.call(Imagine, f"{MODEL}/imagine", corrupted(request, rng, _num_wrong(rng)))
    return NAMES[answer.error_code]


def client_that_leaves(peer: Peer, rng: random.Random) -> str:
    """A client that sends a plan's request and is destroyed before the answer."""
    client = peer.node.create_client(PlanService, f"{PLANNER}/plan")
    if not client.wait_for_service(PATIENCE_S):
        raise NoAnswer("no service plan")
    client.call_async(_wrong_plan(peer, rng))
    time.sleep(rng.uniform(0.0, 0.05))
    peer.node.destroy_client(client)
    return "sent"


# -- parameters and states -----------------------------------------------------------------------


def set_parameters(peer: Peer, rng: random.Random) -> str:
    """A parameter gets a value of any type, in range or not, and afterwards its own again."""
    node = rng.choice(NODES)
    names = [p.name for p in TABLES[node] if p.name not in LEFT_ALONE]
    names = [
        rng.choice((*names, *names, "use_sim_time.", *TEXTS)) for _ in range(rng.choice((1, 3)))
    ]
    before = peer.call(
        GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names)
    ).values
    wanted = [ParameterMessage(name=name, value=_random_value(node, name, rng)) for name in names]
    if rng.random() < 0.3:
        request = SetParametersAtomically.Request(parameters=wanted)
        name = f"{node}/set_parameters_atomically"
        results = [peer.call(SetParametersAtomically, name, request).result]
    else:
        request = SetParameters.Request(parameters=wanted)
        results = list(peer.call(SetParameters, f"{node}/set_parameters", request).results)
    if any(result.successful for result in results):
        back = [
            ParameterMessage(name=name, value=value)
            for name, value in zip(names, before, strict=False)
            if value.type
        ]
        peer.restore(node, back)
        return "set"
    return "refused"


def _random_value(node: str, name: str, rng: random.Random) -> Any:
    table = {parameter.name: parameter for parameter in TABLES[node]}
    known = table.get(name)
    value = ParameterValue(type=rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 77)))
    if known is None or rng.random() < 0.5:
        return corrupted(value, rng, 3)
    low, high = known.low or 0.0, known.high or 1.0
    number = rng.uniform(low, high)
    if isinstance(known.default, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=rng.random() < 0.5)
    if isinstance(known.default, int):
        return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=int(number))
    if isinstance(known.default, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=number)
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=rng.choice(TEXTS))


def other_parameter_service(peer: Peer, rng: random.Random) -> str:
    """Parameters are listed, described or asked for, with names that are none."""
    node = rng.choice(NODES)
    kind, name = rng.choice((
        (ListParameters, "list_parameters"),
        (DescribeParameters, "describe_parameters"),
        (GetParameters, "get_parameters"),
    ))  # fmt: skip
    peer.call(kind, f"{node}/{name}", corrupted(kind.Request(), rng, 2))
    return "answered"


def transition(peer: Peer, rng: random.Random) -> str:
    """A transition that an active node does not have."""
    wrong = (
        Transition.TRANSITION_CREATE, Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_CLEANUP, Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, Transition.TRANSITION_INACTIVE_SHUTDOWN,
        99, 255,
    )  # fmt: skip
    label = rng.choice(("", "no such thing", "two\nlines", "activate" * 1000))
    request = ChangeState.Request(transition=Transition(id=rng.choice(wrong), label=label))
    with peer.states:
        answer = peer.call(ChangeState, f"{rng.choice(NODES)}/change_state", request)
    assert not answer.success, f"transition {request.transition.id} of an active node"
    return "refused"


def deactivated_and_activated(peer: Peer, rng: random.Random) -> str:
    """A node goes out of work and back, while others send requests."""
    node = rng.choice(NODES)
    with peer.states:
        for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=number))
            answer = peer.call(ChangeState, f"{node}/change_state", request)
            assert answer.success, f"transition {number} of {node} was refused"
    return "done"


def states(peer: Peer, rng: random.Random) -> str:
    """The node is asked for its state and its transitions."""
    node = rng.choice(NODES)
    if rng.random() < 0.5:
        peer.call(GetState, f"{node}/get_state", GetState.Request())
    else:
        name = f"{node}/get_available_transitions"
        peer.call(GetAvailableTransitions, name, GetAvailableTransitions.Request())
    return "answered"


def stop(peer: Peer, rng: random.Random) -> str:
    """~/stop."""
    answer = peer.call(Trigger, f"{PLANNER}/stop", Trigger.Request())
    return "stopped" if answer.success else "refused"


# -- messages ------------------------------------------------------------------------------------


def odometry(peer: Peer, rng: random.Random) -> str:
    """Odometry of another publisher."""
    message = Odometry(header=conversions.header_message(peer.now_ns(), "odom"))
    message.child_frame_id = "base_link"
    message.pose.pose = conversions.pose_message(*peer.here())
    peer.send(Odometry, "odom", corrupted(message, rng, rng.choice((1, 2, 4))))
    return "sent"


def image(peer: Peer, rng: random.Random) -> str:
    """An image of another publisher."""
    message = Image(
        header=conversions.header_message(peer.now_ns(), "camera"),
        height=peer.image.height, width=peer.image.width, step=peer.image.step,
        encoding=peer.image.encoding, data=peer.image.data,
    )  # fmt: skip
    peer.send(Image, "image_raw", corrupted(message, rng, rng.choice((1, 2, 4))))
    return "sent"


def compressed_image(peer: Peer, rng: random.Random) -> str:
    """A compressed image of another publisher."""
    message = CompressedImage(header=conversions.header_message(peer.now_ns(), "camera"))
    message.format, message.data = "jpeg", wrong_picture(rng.choice(peer.pictures), rng)
    peer.send(CompressedImage, "image_raw/compressed", corrupted(message, rng, rng.choice((0, 1))))
    return "sent"


def no_message(peer: Peer, rng: random.Random) -> str:
    """Bytes that are no message, on the topics that the nodes listen to."""
    message = Odometry(header=conversions.header_message(peer.now_ns(), "odom"))
    data = wrong_bytes(serialize_message(message), rng)
    kind, topic = rng.choice((
        (Odometry, "odom"), (Image, "image_raw"), (CompressedImage, "image_raw/compressed"),
    ))  # fmt: skip
    peer.send(kind, topic, data)
    return "sent"


Kind = Callable[[Peer, random.Random], str]
#: How often each kind comes, as a share of the sum.
KINDS: dict[Kind, int] = {
    plan: 12, goal: 8, cancelled_goal: 6, abandoned_goal: 4, unknown_goal: 4, imagine: 12,
    client_that_leaves: 3, set_parameters: 12, other_parameter_service: 5, transition: 6,
    deactivated_and_activated: 1, states: 3, stop: 3, odometry: 8, image: 8, compressed_image: 8,
    no_message: 8,
}  # fmt: skip


def request(seed: int, number: int) -> tuple[Kind, random.Random]:
    """The kind of a request, and the generator of its content."""
    rng = random.Random(f"{seed} {number}")
    return rng.choices(list(KINDS), list(KINDS.values()))[0], rng
