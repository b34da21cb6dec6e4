"""The parameters of the nodes as tables: declared, checked and documented from one place.

``declare`` is the only function that touches rclpy. tests/unit/test_ros_decisions.py keeps the
YAML files and the tables of the README equal to these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from planners.costs.settings import IMAGE_GOAL_COSTS, LARGEST_WEIGHT, POSE_GOAL_COSTS, Terms
from planners.settings import SCREENING_FRACTION, SCREENING_HORIZON
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class Parameter:
    """One parameter: its default (whose type is its type), unit, range and meaning.

    ``fixed`` ones can only be given at start-up, in the YAML file or with ``-p``.
    """

    name: str
    default: bool | int | float | str
    unit: str
    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = False

    def check(self, value: object) -> None:
        """Raises V2WError when a value has the wrong type or is out of range."""
        field = f"parameter {self.name}"
        if type(value) is not type(self.default):
            rule = f"a {type(self.default).__name__}, such as {self.default!r}"
            raise V2WError(field, rule, value)
        if self.choices and value not in self.choices:
            raise V2WError(field, f"one of {', '.join(self.choices)}", value)
        if self.low is None or self.high is None:
            return
        if not (isinstance(value, (int, float)) and self.low <= value <= self.high):
            raise V2WError(
                field, f"within [{self.low:g}, {self.high:g}] {self.unit}".strip(), value
            )


def check_all(table: tuple[Parameter, ...], values: dict[str, object]) -> None:
    """Check those values whose name is in the table; others are not ours."""
    by_name = {parameter.name: parameter for parameter in table}
    for name, value in values.items():
        if name in by_name:
            by_name[name].check(value)


#: The terms of a plan's cost by the kind of goal. Each of their settings is a parameter that is
#: called goal.term.setting; a weight of 0 switches a term off.
GOAL_COSTS = {"image_goal": IMAGE_GOAL_COSTS, "pose_goal": POSE_GOAL_COSTS}


def _cost_parameters() -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            f"{goal}.{name}.{field}", getattr(term, field), about.unit, about.text,
            about.low, about.high,
        )
        for goal, terms in GOAL_COSTS.items()
        for name, term in terms.items()
        for field, about in term.settings().items()
    )  # fmt: skip


def goal_costs(values: dict[str, Any], goal: str) -> Terms:
    """The terms of "image_goal" or "pose_goal" as the parameters' values set them."""
    return {
        name: replace(
            term, **{field: values[f"{goal}.{name}.{field}"] for field in term.settings()}
        )
        for name, term in GOAL_COSTS[goal].items()
    }


COMMON = (
    Parameter("checkpoint", "", "", "Folder of the checkpoint.", fixed=True),
    Parameter("device", "auto", "", "Torch device: auto, cpu, cuda, cuda:1.", fixed=True),
    Parameter(
        "backend", "eager", "",
        "What computes rollouts; auto: the fastest that can be built, the log says which.",
        choices=("auto", "tensorrt", "tensorrt-rtx", "torch", "onnx", "eager"), fixed=True,
    ),
    Parameter(
        "precision", "fp32", "", "Of rollouts; each back end knows some of them.",
        choices=("fp32", "fp16", "bf16"), fixed=True,
    ),
    Parameter(
        "strict_backend", False, "",
        "Refuse what device, backend and precision do not allow, and answer with errors when the "
        "device is lost; false: the next back end takes over, with a warning.", fixed=True,
    ),
    Parameter(
        "memory_budget_mib", 0, "MiB", "Memory that a rollout may take; 0 = ask the device.",
        0, 2**20, fixed=True,
    ),
    Parameter(
        "max_waiting_requests", 8, "requests",
        "Requests that wait for their turn; one more is answered BUSY.", 0, 64, fixed=True,
    ),
    Parameter(
        "num_threads", 0, "threads", "CPU threads of the model; 0 = torch's choice.",
        0, 256, fixed=True,
    ),
    Parameter(
        "autostart", True, "", "Configure and activate without a lifecycle manager.", fixed=True
    ),
    Parameter(
        "image_transport", "auto", "",
        "raw, compressed (image_topic + /compressed), or auto: whichever has a publisher.",
        choices=("auto", "raw", "compressed"), fixed=True,
    ),
    Parameter("image_topic", "image_raw", "", "Camera images.", fixed=True),
    Parameter("odom_topic", "odom", "", "nav_msgs/Odometry of the body.", fixed=True),
    Parameter(
        "queue_depth", 30, "messages", "Camera and odometry messages kept while the node is busy.",
        1, 1000, fixed=True,
    ),
    Parameter(
        "buffer_duration", 3.0, "s", "How far back camera and odometry are kept.",
        0.5, 60.0, fixed=True,
    ),
    Parameter(
        "max_history_age", 1.0, "s", "A newest frame older than this is stale.", 0.05, 60.0,
        fixed=True,
    ),
    Parameter(
        "frame_tolerance", 0.4, "steps", "How far a frame may lie from its place in time.",
        0.01, 0.5, fixed=True,
    ),
    Parameter("jpeg_quality", 90, "", "Default quality of JPEG frames in answers.", 1, 100),
    Parameter(
        "max_candidates", 1024, "candidates", "Most action sequences of one request.", 1, 100000
    ),
    Parameter("max_horizon", 64, "steps", "Longest action sequence of one request.", 1, 1000),
    Parameter("status_period", 1.0, "s", "Between two messages of ~/status and /diagnostics.",
              0.05, 60.0, fixed=True),
)  # fmt: skip

WORLD_MODEL = (
    *COMMON,
    Parameter(
        "warm_up_candidates", 8, "candidates",
        "Requests of up to as many are fast from the first one on.", 1, 4096, fixed=True,
    ),
)  # fmt: skip

PLANNER = (
    *COMMON,
    Parameter("horizon", 8, "steps", "Length of a plan.", 1, 64),
    Parameter("num_candidates", 64, "candidates", "An iteration, when a goal names none.", 2, 4096),
    Parameter(
        "screening_fraction", SCREENING_FRACTION, "",
        "Image goals: only this share of the candidates is imagined to the end; 1 = all.",
        0.01, 1.0,
    ),
    Parameter(
        "screening_horizon", SCREENING_HORIZON, "steps",
        "Image goals: they are chosen after so many.", 1, 64,
    ),
    *_cost_parameters(),
    Parameter(
        "blocked_motion.weight", 10.0, "",
        "Cost of a way on to where a command was blocked on this drive; 0 = off.",
        0.0, LARGEST_WEIGHT,
    ),
    Parameter("num_iterations", 3, "iterations", "When a goal names none.", 1, 100),
    Parameter(
        "time_budget", 10.0, "s", "Of one plan, when a goal names none; the best so far wins.",
        0.05, 600.0,
    ),
    Parameter(
        "seed", -1, "", "Of plans whose goal names none, one after the other; -1 = random.",
        -1, 2**31 - 1, fixed=True,
    ),
    Parameter(
        "publish_velocity", False, "", "Drive the plans: publish velocity commands on ~/cmd_vel."
    ),
    Parameter(
        "enable_stamped_cmd_vel", False, "", "TwistStamped instead of Twist.", fixed=True
    ),
    Parameter("cmd_vel_topic", "cmd_vel", "", "Velocity commands.", fixed=True),
    Parameter("cmd_vel_rate", 20.0, "Hz", "Of the velocity commands.", 1.0, 200.0, fixed=True),
    Parameter(
        "execute_steps", 4, "steps", "Driven of each plan before the robot stops.", 1, 64
    ),
    Parameter(
        "max_plan_age", 15.0, "s",
        "A plan whose newest frame is older than this when it is ready is not driven.",
        0.05, 3600.0,
    ),
    Parameter("tracking_gain", 1.5, "1/s", "Correction towards the planned pose.", 0.0, 10.0),
    Parameter(
        "odometry_timeout", 0.5, "s", "Watchdog: older odometry stops the robot.", 0.05, 10.0
    ),
    Parameter("settle_time", 0.5, "s", "Corrections after the last step, then stop.", 0.0, 5.0),
    Parameter("goal_tolerance", 0.2, "m", "A pose goal is reached within this.", 0.01, 10.0),
    Parameter("goal_yaw_tolerance", 0.17, "rad", "And within this.", 0.01, 3.2),
    Parameter(
        "max_markers", 16, "candidates", "Drawn on ~/candidate_trajectories, best first.", 1, 1024
    ),
)  # fmt: skip

SIMULATOR = (
    Parameter("maze_seed", 0, "", "Which maze.", 0, 2**31 - 1, fixed=True),
    Parameter("camera_rate", 12.0, "Hz", "Of camera images and odometry.", 1.0, 36.0, fixed=True),
    Parameter(
        "image_transport", "raw", "", "What is published: raw, compressed or both.",
        choices=("raw", "compressed", "both"), fixed=True,
    ),
    Parameter("image_topic", "image_raw", "", "Camera images.", fixed=True),
    Parameter("odom_topic", "odom", "", "Odometry of the body: ground truth.", fixed=True),
    Parameter("cmd_vel_topic", "cmd_vel", "", "Velocity commands.", fixed=True),
    Parameter(
        "enable_stamped_cmd_vel", False, "", "TwistStamped instead of Twist.", fixed=True
    ),
    Parameter(
        "cmd_vel_timeout", 0.5, "s", "Without a newer command the robot stops.", 0.05, 10.0
    ),
    Parameter("jpeg_quality", 95, "", "Of the compressed images.", 1, 100),
    Parameter("odom_frame", "odom", "", "Fixed frame of the odometry.", fixed=True),
    Parameter("base_frame", "base_link", "", "Body frame.", fixed=True),
    Parameter("camera_frame", "camera_optical_frame", "", "Of the images.", fixed=True),
    Parameter("autostart", True, "", "Configure and activate without a lifecycle manager.",
              fixed=True),
)  # fmt: skip

TABLES = {"world_model_node": WORLD_MODEL, "planner_node": PLANNER, "simulator_node": SIMULATOR}


def declare(node: Any, table: tuple[Parameter, ...]) -> None:
    """Declare every parameter with its descriptor, and refuse what the table does not allow.

    Raises:
        V2WError: a value given at start-up has the wrong type or is out of range.
    """
    from rcl_interfaces.msg import (
        FloatingPointRange,
        IntegerRange,
        ParameterDescriptor,
        SetParametersResult,
    )
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    for parameter in table:
        unit = f" [{parameter.unit}]" if parameter.unit else ""
        choices = f" One of: {', '.join(parameter.choices)}." if parameter.choices else ""
        descriptor = ParameterDescriptor(
            description=parameter.text + unit + choices, read_only=parameter.fixed
        )
        if parameter.low is not None and parameter.high is not None:
            if isinstance(parameter.default, int):
                limits = IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high))
                descriptor.integer_range = [limits]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=parameter.low, to_value=parameter.high)
                ]
        try:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise V2WError(
                f"parameter {parameter.name}", descriptor.description, str(error)
            ) from error
        parameter.check(value)

    def on_set(changes: list[Any]) -> SetParametersResult:
        try:
            check_all(table, {change.name: change.value for change in changes})
        except V2WError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)


def values(node: Any, table: tuple[Parameter, ...]) -> dict[str, Any]:
    """The parameters' values now, by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in table}
