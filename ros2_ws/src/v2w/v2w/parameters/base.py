"""The parameters of the nodes beside the model's: the simulated robot, the commands' watchdog."""

from __future__ import annotations

from v2w.parameters.parameter import TOPIC, Parameter

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

WATCHDOG = (
    Parameter(
        "cmd_vel_in_topic", "cmd_vel_nav", "", "Topic of the velocity commands that come in.",
        fixed=True, kind=TOPIC,
    ),
    Parameter(
        "cmd_vel_topic", "cmd_vel", "", "Topic on which they are passed on to the base.",
        fixed=True, kind=TOPIC,
    ),
    Parameter(
        "enable_stamped_cmd_vel", False, "",
        "If true, velocity commands are TwistStamped instead of Twist.", fixed=True,
    ),
    Parameter(
        "command_timeout", 0.25, "s",
        "The base is told to stop when it was told to move and no command came for this long.",
        0.02, 10.0,
    ),
    Parameter(
        "autostart", True, "",
        "If true, the node configures and activates itself, without a lifecycle manager.",
        fixed=True,
    ),
)  # fmt: skip
