"""The parameters of planner_node, among them the terms of a plan's cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from planners.costs.settings import IMAGE_GOAL_COSTS, LARGEST_WEIGHT, POSE_GOAL_COSTS, Terms
from planners.settings import SCREENING_FRACTION, SCREENING_HORIZON
from v2w.parameters.model import COMMON
from v2w.parameters.parameter import TOPIC, Parameter
from v2w.parameters.safety import SAFETY
from v2w_core.errors import V2WError

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
