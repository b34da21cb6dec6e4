"""The parameters of the nodes as tables: declared, checked and documented from one place.

``declare`` is the only function that uses rclpy. tests/unit/test_ros_decisions.py keeps the YAML
files and the tables of the README equal to these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planners.costs.settings import IMAGE_GOAL_COSTS, LARGEST_WEIGHT, POSE_GOAL_COSTS, Terms
from planners.settings import SCREENING_FRACTION, SCREENING_HORIZON
from v2w.bringup.ros_names import check_topic_name
from v2w_core.errors import V2WError

#: Kind of the parameters that are names of topics.
TOPIC = "topic name"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        name: its name.
        default: its default value; a value must have the same type.
        unit: physical unit, or what is counted; empty for neither.
        text: what it means, in one or two sentences.
        low, high: the range of a number, both included; None for any number.
        choices: the values that a text may have; empty for any text.
        fixed: it can only be set at start-up, in a YAML file or with ``-p``.
        kind: :data:`TOPIC` for a text that must be a topic's name; empty for any.
    """

    name: str
    default: bool | int | float | str
    unit: str
    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = False
    kind: str = ""

    def check(self, value: object) -> None:
        """Check type and range of a value.

        Raises:
            V2WError: a value of another type, out of range, none of the choices, or no name.
        """
        field = f"parameter {self.name}"
        if type(value) is not type(self.default):
            rule = f"a {type(self.default).__name__}, such as {self.default!r}"
            raise V2WError(field, rule, value)
        if self.choices and value not in self.choices:
            raise V2WError(field, f"one of {', '.join(self.choices)}", value)
        if self.kind == TOPIC:
            check_topic_name(str(value), field)
        if self.low is None or self.high is None:
            return
        if not (isinstance(value, (int, float)) and self.low <= value <= self.high):
            raise V2WError(
                field, f"within [{self.low:g}, {self.high:g}] {self.unit}".strip(), value
            )


def check_all(table: tuple[Parameter, ...], values: dict[str, object]) -> None:
    """Check the values of a table's parameters; other names are ignored.

    Raises:
        V2WError: as :meth:`Parameter.check`.
    """
    by_name = {parameter.name: parameter for parameter in table}
    for name, value in values.items():
        if name in by_name:
            by_name[name].check(value)


def check_horizon(
    values: Mapping[str, Any], window: int, changed: Collection[str] = ("horizon",)
) -> None:
    """Check the planner's horizon against max_horizon and the window of the model.

    Args:
        values: has "horizon" and "max_horizon" [steps].
        window: steps that the model can imagine after its history.
        changed: names of the parameters that are being set; the error names one of them.

    Raises:
        V2WError: every plan of that horizon would be refused.
    """
    horizon, longest = values["horizon"], values["max_horizon"]
    if horizon > window:
        rule = f"at most {window} steps, what the model's window leaves after its history"
        raise V2WError("parameter horizon", rule, horizon)
    if horizon > longest and "horizon" in changed:
        raise V2WError("parameter horizon", f"at most max_horizon, {longest} steps", horizon)
    if horizon > longest:
        raise V2WError("parameter max_horizon", f"at least horizon, {horizon} steps", longest)


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
    Parameter("device", "auto", "", "PyTorch device: auto, cpu, cuda, cuda:1.", fixed=True),
    Parameter(
        "backend", "eager", "",
        "Back end that computes rollouts. auto takes the fastest that can be built; the log says "
        "which one that is.",
        choices=("auto", "tensorrt", "tensorrt-rtx", "torch", "onnx", "eager"), fixed=True,
    ),
    Parameter(
        "precision", "fp32", "",
        "Precision of rollouts; not every back end supports every precision.",
        choices=("fp32", "fp16", "bf16"), fixed=True,
    ),
    Parameter(
        "strict_backend", False, "",
        "If true, the node refuses to configure when device, backend or precision is not "
        "available, and answers with errors when the device is lost. If false, the next back end "
        "takes over, with a warning.", fixed=True,
    ),
    Parameter(
        "memory_budget_mib", 0, "MiB",
        "Memory that a rollout may take; 0 for what the device has free.",
        0, 2**20, fixed=True,
    ),
    Parameter(
        "max_waiting_requests", 8, "requests",
        "How many requests may wait for their turn; one more is answered BUSY.", 0, 64, fixed=True,
    ),
    Parameter(
        "max_waiting_time", 60.0, "s",
        "How long a request may wait for its turn; then it is answered TIMEOUT.", 0.1, 3600.0,
    ),
    Parameter(
        "num_threads", 0, "threads", "CPU threads of the model; 0 leaves the number to PyTorch.",
        0, 256, fixed=True,
    ),
    Parameter(
        "autostart", True, "",
        "If true, the node configures and activates itself, without a lifecycle manager.",
        fixed=True,
    ),
    Parameter(
        "image_transport", "auto", "",
        "Transport of the camera images: raw, compressed (image_topic + /compressed), or auto for "
        "the one that has a publisher.",
        choices=("auto", "raw", "compressed"), fixed=True,
    ),
    Parameter(
        "image_topic", "image_raw", "", "Topic of the camera images.", fixed=True, kind=TOPIC
    ),
    Parameter(
        "odom_topic", "odom", "", "Topic of the body's odometry (nav_msgs/Odometry).", fixed=True,
        kind=TOPIC,
    ),
    Parameter(
        "queue_depth", 30, "messages",
        "Camera and odometry messages that are queued while the node is busy.",
        1, 1000, fixed=True,
    ),
    Parameter(
        "buffer_duration", 3.0, "s", "How long camera and odometry messages are kept.",
        0.5, 60.0, fixed=True,
    ),
    Parameter(
        "buffer_mib", 256, "MiB",
        "Memory of the camera messages that are kept as they came; past it the oldest are resized "
        "to the model's size, and left out where frames lie close together.", 1, 2**20, fixed=True,
    ),
    Parameter(
        "max_history_age", 1.0, "s",
        "A history whose newest frame is older than this is stale; requests are refused.",
        0.05, 60.0, fixed=True,
    ),
    Parameter(
        "frame_tolerance", 0.4, "steps",
        "How far a frame may lie from its place on the model's time grid.",
        0.01, 0.5, fixed=True,
    ),
    Parameter(
        "jpeg_quality", 90, "", "Quality of JPEG frames in answers, when a request names none.",
        1, 100,
    ),
    Parameter(
        "max_candidates", 1024, "candidates",
        "Largest number of action sequences in one request.", 1, 100000,
    ),
    Parameter(
        "max_horizon", 64, "steps", "Largest length of an action sequence in a request.", 1, 1000
    ),
    Parameter(
        "status_period", 1.0, "s", "Time between two messages of ~/status and /diagnostics.",
        0.05, 60.0, fixed=True,
    ),
)  # fmt: skip

WORLD_MODEL = (
    *COMMON,
    Parameter(
        "warm_up_candidates", 8, "candidates",
        "Requests of up to this many candidates are prepared while the node configures, so that "
        "the first one is as fast as later ones.", 1, 4096, fixed=True,
    ),
    Parameter(
        "max_request_time", 120.0, "s",
        "A request that would take longer is refused; the time is estimated from the trial "
        "rollouts, for candidates x horizon x sampling steps.", 0.1, 86400.0,
    ),
    Parameter(
        "max_answer_mib", 128, "MiB",
        "A request whose frames could be larger is refused before it begins.", 1, 4096,
    ),
)  # fmt: skip

SAFETY = (
    Parameter(
        "max_linear_velocity", 0.5, "m/s",
        "No command is faster, and plans keep to it; the model's bounds hold as well.", 0.01, 20.0,
    ),
    Parameter(
        "max_angular_velocity", 1.0, "rad/s",
        "No command turns faster, and plans keep to it; the model's bounds hold as well.",
        0.01, 20.0,
    ),
    Parameter(
        "max_linear_acceleration", 2.5, "m/s^2", "Commands become faster no quicker than this.",
        0.01, 1000.0,
    ),
    Parameter(
        "max_linear_deceleration", 2.5, "m/s^2",
        "Commands become slower no quicker than this; a stop is sent at once all the same.",
        0.01, 1000.0,
    ),
    Parameter(
        "max_angular_acceleration", 5.0, "rad/s^2",
        "Commands turn faster no quicker than this.", 0.01, 1000.0,
    ),
    Parameter(
        "max_angular_deceleration", 5.0, "rad/s^2",
        "Commands turn slower no quicker than this; a stop is sent at once all the same.",
        0.01, 1000.0,
    ),
    Parameter(
        "holonomic", True, "",
        "Whether the base can drive sideways. If false, linear.y is never sent, and plans are made "
        "of arcs.",
    ),
    Parameter(
        "camera_timeout", 0.5, "s",
        "Check camera fresh: the robot stops when no camera image came for this long.", 0.05, 60.0,
    ),
    Parameter(
        "camera_bad_frames", 3, "frames",
        "Check camera alive: the robot stops after so many dark pictures in a row, or so many "
        "times the same one where a living camera would show another.", 2, 100,
    ),
    Parameter(
        "camera_min_level", 4.0, "",
        "Check camera alive: a picture of which a thousand pixels have a lower mean (of 255) is "
        "dark.",
        0.0, 255.0,
    ),
    Parameter(
        "camera_min_contrast", 2.0, "",
        "Check camera alive: a picture of which a thousand pixels have a lower standard deviation "
        "(of 255) counts as dark.",
        0.0, 255.0,
    ),
    Parameter(
        "odometry_jump", 0.1, "m",
        "Check odometry plausible: a pose that is further from the one before than this, and than "
        "twice max_linear_velocity leads, is a jump: the robot stops and the plan is dropped.",
        0.001, 100.0,
    ),
    Parameter(
        "odometry_jump_yaw", 0.1, "rad",
        "Check odometry plausible: the same for angles, with max_angular_velocity.", 0.001, 3.2,
    ),
    Parameter(
        "max_stamp_ahead", 0.5, "s",
        "Camera images and odometry that are stamped further ahead of the clock are refused.",
        0.0, 60.0,
    ),
    Parameter(
        "stall_time", 0.5, "s",
        "Check moving as commanded: the robot stops when for so long the odometry shows less than "
        "a tenth of what was commanded.",
        0.1, 10.0,
    ),
    Parameter(
        "max_deviation", 0.5, "m",
        "Check moving as commanded: the robot stops when it is further from where the plan should "
        "have led by now.", 0.01, 100.0,
    ),
    Parameter(
        "clock_timeout", 0.3, "s",
        "Check clock alive: the robot stops when the node's clock (/clock with use_sim_time) "
        "stands still for this long. Commands and checks run on a clock of their own.", 0.05, 10.0,
    ),
    Parameter(
        "max_pause", 0.5, "s",
        "Check clock alive: a plan is dropped when the process did not run for this long.",
        0.1, 60.0,
    ),
    Parameter(
        "start_tolerance", 0.2, "m",
        "Check plan valid from here: a plan is driven only if the robot is no further from where "
        "the plan leads along.", 0.01, 100.0,
    ),
    Parameter(
        "start_yaw_tolerance", 0.2, "rad",
        "Check plan valid from here: the same for the angle.", 0.01, 3.2,
    ),
    Parameter(
        "start_frame_age", 1.0, "s",
        "Check plan valid from here: a plan is driven only if a camera image came within this "
        "time.", 0.05, 60.0,
    ),
    Parameter(
        "min_candidates", 32, "candidates",
        "A plan for which fewer were scored is not driven; where a goal asks for fewer, so many in "
        "all, but no fewer than 8.", 1, 4096,
    ),
    Parameter(
        "max_goal_distance", 1000.0, "m",
        "A goal that is further from the robot is refused.", 0.1, 1e6,
    ),
    Parameter(
        "require_live_client", True, "",
        "If true, a plan is not driven when a client that was there when it was asked for is gone, "
        "and the motion of an action ends when its client is gone.",
    ),
)  # fmt: skip

PLANNER = (
    *COMMON,
    *SAFETY,
    Parameter(
        "horizon", 8, "steps",
        "Length of a plan; at most max_horizon, and what the model's window leaves after its "
        "history.", 1, 64,
    ),
    Parameter(
        "num_candidates", 64, "candidates",
        "Action sequences in each iteration, when a goal names no number.", 2, 4096,
    ),
    Parameter(
        "screening_fraction", SCREENING_FRACTION, "",
        "For image goals: the share of candidates that is imagined to the end after screening; "
        "1 imagines all.",
        0.01, 1.0,
    ),
    Parameter(
        "screening_horizon", SCREENING_HORIZON, "steps",
        "For image goals: the number of steps after which candidates are screened.", 1, 64,
    ),
    *_cost_parameters(),
    Parameter(
        "blocked_motion.weight", 10.0, "",
        "Cost of a way on to where a command was blocked on this drive; 0 = off.",
        0.0, LARGEST_WEIGHT,
    ),
    Parameter(
        "num_iterations", 3, "iterations",
        "Iterations of the optimiser, when a goal names no number.", 1, 100,
    ),
    Parameter(
        "time_budget", 10.0, "s",
        "Time for one plan, when a goal names none; at its end the best plan so far is returned.",
        0.05, 600.0,
    ),
    Parameter(
        "max_request_time", 600.0, "s",
        "A plan that would take longer, by its time budget and by the trial rollouts, is refused.",
        0.1, 86400.0,
    ),
    Parameter(
        "seed", -1, "",
        "Seed for the sequence of plans whose goals name none; -1 for a random one.",
        -1, 2**31 - 1, fixed=True,
    ),
    Parameter(
        "publish_velocity", False, "",
        "If true, plans are driven: the node publishes velocity commands on cmd_vel_topic.",
    ),
    Parameter(
        "enable_stamped_cmd_vel", False, "",
        "If true, velocity commands are TwistStamped instead of Twist.", fixed=True,
    ),
    Parameter(
        "cmd_vel_topic", "cmd_vel", "", "Topic of the velocity commands.", fixed=True, kind=TOPIC
    ),
    Parameter(
        "cmd_vel_rate", 20.0, "Hz", "Rate of the velocity commands.", 1.0, 200.0, fixed=True
    ),
    Parameter(
        "execute_steps", 4, "steps",
        "How many steps of each plan are driven before the robot stops.", 1, 64,
    ),
    Parameter(
        "max_plan_age", 15.0, "s",
        "A plan is not driven if the newest frame of its history is older than this when the plan "
        "is ready.",
        0.05, 3600.0,
    ),
    Parameter(
        "tracking_gain", 1.5, "1/s", "Gain of the correction towards the planned pose.", 0.0, 10.0
    ),
    Parameter(
        "odometry_timeout", 0.5, "s",
        "The robot stops when its odometry came, or was stamped, longer ago than this.", 0.05, 10.0,
    ),
    Parameter(
        "settle_time", 0.5, "s",
        "How long the pose is still corrected after the last step, before the robot stops.",
        0.0, 5.0,
    ),
    Parameter(
        "goal_tolerance", 0.2, "m",
        "A pose goal is reached within this distance and goal_yaw_tolerance.", 0.01, 10.0,
    ),
    Parameter(
        "goal_yaw_tolerance", 0.17, "rad",
        "A pose goal is reached within this angle and goal_tolerance.", 0.01, 3.2,
    ),
    Parameter(
        "max_markers", 16, "candidates",
        "How many candidates are drawn on ~/candidate_trajectories; the best ones are chosen.",
        1, 1024,
    ),
)  # fmt: skip

SIMULATOR = (
    Parameter(
        "world", "maze", "", "Kind of world: the small maze, or buildings with rooms.",
        choices=("maze", "rooms"), fixed=True,
    ),
    Parameter("maze_seed", 0, "", "Seed of the generated world.", 0, 2**31 - 1, fixed=True),
    Parameter(
        "camera_rate", 12.0, "Hz", "Rate of camera images and odometry.", 1.0, 36.0, fixed=True
    ),
    Parameter(
        "image_transport", "raw", "", "Which images are published: raw, compressed or both.",
        choices=("raw", "compressed", "both"), fixed=True,
    ),
    Parameter(
        "image_topic", "image_raw", "", "Topic of the camera images.", fixed=True, kind=TOPIC
    ),
    Parameter(
        "odom_topic", "odom", "", "Topic of the body's odometry, which is ground truth.",
        fixed=True, kind=TOPIC,
    ),
    Parameter(
        "cmd_vel_topic", "cmd_vel", "", "Topic of the velocity commands.", fixed=True, kind=TOPIC
    ),
    Parameter(
        "enable_stamped_cmd_vel", False, "",
        "If true, velocity commands are TwistStamped instead of Twist.", fixed=True,
    ),
    Parameter(
        "cmd_vel_timeout", 0.5, "s", "The robot stops when the newest command is older than this.",
        0.05, 10.0,
    ),
    Parameter("jpeg_quality", 95, "", "Quality of the compressed images.", 1, 100),
    Parameter("odom_frame", "odom", "", "Fixed frame of the odometry.", fixed=True),
    Parameter("base_frame", "base_link", "", "Body frame.", fixed=True),
    Parameter(
        "camera_frame", "camera_optical_frame", "", "Frame of the camera images.", fixed=True
    ),
    Parameter(
        "autostart", True, "",
        "If true, the node configures and activates itself, without a lifecycle manager.",
        fixed=True,
    ),
)  # fmt: skip

TABLES = {"world_model_node": WORLD_MODEL, "planner_node": PLANNER, "simulator_node": SIMULATOR}


def declare(node: Any, table: tuple[Parameter, ...]) -> None:
    """Declare every parameter with its descriptor; later changes are checked against the table.

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
    """The current values of a table's parameters, by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in table}
