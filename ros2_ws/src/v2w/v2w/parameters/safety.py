"""The parameters of planner_node that the safety checks and the limits ask for."""

from __future__ import annotations

from v2w.parameters.parameter import Parameter

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
