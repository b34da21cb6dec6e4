"""Choice of the camera and of what tells the motion, among a bag's topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from v2w_core.data.bags.bag import Bag
from v2w_core.errors import DataError

MotionFrom = Literal["pose", "twist", "tf", "commands"]
MOTIONS: tuple[str, ...] = get_args(MotionFrom)

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
VIDEO = "foxglove_msgs/msg/CompressedVideo"
CAMERAS = (IMAGE, COMPRESSED, PACKET, VIDEO)
ODOMETRY = "nav_msgs/msg/Odometry"
TF, FIX, IMU = "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/NavSatFix", "sensor_msgs/msg/Imu"
#: Ending of the topic of transforms that never change.
STATIC = "_static"
#: Types that are used only for a named topic, as a PoseStamped may also be a goal.
POSES = (
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
    TF,
    FIX,
)
TWISTS = (
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/TwistWithCovarianceStamped",
    "geometry_msgs/msg/Twist",
)
#: What the error says about a topic that could serve.
_SERVES = {
    TF: "--odom-topic {}",
    FIX: "--odom-topic {}, with the heading of an Imu: a simple planar fusion; better is the "
    "odometry of robot_localization",
    **dict.fromkeys(TWISTS, "--odom-topic {} --motion-from twist"),
}
#: Endings of the other forms of one camera's topic; the raw form has no loss and is preferred.
_FORMS = ("/compressed", "/theora", "/ffmpeg", "/compressedDepth", "/zstd", "/foxglove")
_COMMANDS = ("cmd_vel", "command", "cmd")


@dataclass(frozen=True)
class Motion:
    """Where the motion is read.

    Attributes:
        source: "pose" or "twist": what of the messages counts.
        topic, kind: the topic and the ROS type of its messages.
        beside: topic that is read with it: of the Imu that gives a NavSatFix its heading, or of
            the transforms that never change; empty: none.
    """

    source: Literal["pose", "twist"]
    topic: str
    kind: str
    beside: str = ""

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.topic, self.beside) if self.beside else (self.topic,)


def find_camera(bag: Bag, name: str | None) -> str:
    """The named camera, or the only one.

    Raises:
        DataError: there is none, there are several and none is named, or the named topic does not
            exist or is no camera.
    """
    if name is not None:
        return _named(bag, name, CAMERAS, "--image-topic")
    found = sorted(topic for topic in bag.topics if bag.kind(topic) in CAMERAS)
    found = [t for t in found if not any(t == base + form for base in found for form in _FORMS)]
    found = [topic for topic in found if "depth" not in topic.lower()] or found
    if not found:
        rule = f"a bag with a topic of type {', '.join(CAMERAS)}; it has {_listing(bag)}"
        raise DataError("--image-topic", rule, "no camera topic in the bag")
    if len(found) > 1:
        rule = f"the one of several camera topics: {', '.join(found)}"
        raise DataError("--image-topic", rule, f"none named of {len(found)}")
    return found[0]


def find_motion(bag: Bag, name: str | None, source: str = "pose") -> Motion:
    """The topic that tells the motion: named, or the only fitting one.

    Raises:
        DataError: an unknown ``source``; there is no fitting topic, or several and none is named,
            or the named topic does not exist or does not fit.
    """
    if source not in MOTIONS:
        raise DataError("--motion-from", f"one of {', '.join(MOTIONS)}", source)
    if source in ("twist", "commands"):
        kinds = TWISTS if source == "commands" else (ODOMETRY, *TWISTS)
        topic = name and _named(bag, name, kinds, "--odom-topic")
        topic = topic or _only(bag, kinds, source)
        return Motion("twist", topic, bag.kind(topic))
    if name is not None:
        topic = _named(bag, name, (ODOMETRY, *POSES, *TWISTS), "--odom-topic")
        kind = bag.kind(topic)
        if kind in TWISTS:
            return Motion("twist", topic, kind)
        return Motion("pose", topic, kind, _beside(bag, topic))
    topic = _only(bag, (TF,) if source == "tf" else (ODOMETRY,), source)
    return Motion("pose", topic, bag.kind(topic), _beside(bag, topic))


def find_commands(bag: Bag, name: str) -> Motion:
    """The named topic of velocity commands.

    Raises:
        DataError: there is no such topic, or its messages are no velocities.
    """
    return Motion("twist", _named(bag, name, TWISTS, "--commands"), bag.kind(name))


def likely_commands(bag: Bag) -> str | None:
    """The only topic that looks like velocity commands; None: there is none, or several."""
    twists = [topic for topic in bag.topics if bag.kind(topic) in TWISTS]
    found = [t for t in twists if any(word in t.lower() for word in _COMMANDS)]
    return found[0] if len(found) == 1 else None


def _only(bag: Bag, kinds: tuple[str, ...], source: str) -> str:
    found = sorted(topic for topic in bag.topics if bag.kind(topic) in kinds)
    if source == "twist":  # an odometry's own velocity is measured, a Twist may be a command
        found = [topic for topic in found if bag.kind(topic) == ODOMETRY] or found
    if source == "commands":
        found = [t for t in found if any(c in t.lower() for c in _COMMANDS)] or found
    if source == "tf":
        found = [topic for topic in found if not topic.endswith(STATIC)] or found
    if len(found) == 1:
        return found[0]
    if found:
        rule = f"the one of several odometry topics: {', '.join(found)}"
        raise DataError("--odom-topic", rule, f"none named of {len(found)}")
    raise _nothing(bag, kinds)


def _nothing(bag: Bag, kinds: tuple[str, ...]) -> DataError:
    """The error that names every topic that could serve."""
    kinds_of = {topic: bag.kind(topic) for topic in sorted(bag.topics)}
    lines = [
        f"{topic} ({kind}): {_SERVES.get(kind, '--odom-topic {}').format(topic)}"
        for topic, kind in kinds_of.items()
        if kind in (ODOMETRY, *POSES, *TWISTS)
    ]
    rule = f"a bag with a topic of type {' or '.join(kinds)}"
    rule += f"; could serve: {'; '.join(lines)}" if lines else f"; it has {_listing(bag)}"
    return DataError("--odom-topic", rule, "no odometry topic in the bag")


def _named(bag: Bag, name: str, kinds: tuple[str, ...], option: str) -> str:
    if name not in bag.topics:
        fitting = [topic for topic in sorted(bag.topics) if bag.kind(topic) in kinds]
        rule = f"a topic of the bag with messages: {', '.join(fitting) or _listing(bag)}"
        raise DataError(option, rule, name)
    if bag.kind(name) not in kinds:
        fitting = [topic for topic in sorted(bag.topics) if bag.kind(topic) in kinds]
        rule = f"a topic of type {' or '.join(kinds)}: {', '.join(fitting) or 'the bag has none'}"
        raise DataError(option, rule, f"{name} of type {bag.kind(name)}")
    return name


def _beside(bag: Bag, topic: str) -> str:
    """The topic that is read with a NavSatFix or with transforms; empty: none."""
    if bag.kind(topic) == FIX:
        found = sorted(name for name in bag.topics if bag.kind(name) == IMU)
        return next((name for name in found if name.endswith("/data")), found[0] if found else "")
    if bag.kind(topic) == TF and topic + STATIC in bag.topics:
        return topic + STATIC
    return ""


def _listing(bag: Bag, most: int = 20) -> str:
    """The bag's topics with their types; of many the first, and how many more there are."""
    topics = [f"{topic} ({bag.topics[topic].kind})" for topic in sorted(bag.topics)]
    more = f" and {len(topics) - most} more" if len(topics) > most else ""
    return (", ".join(topics[:most]) or "nothing") + more
