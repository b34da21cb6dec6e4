"""The first pass over a bag: stamps of all images and rows of the motion, in the file's order."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.bag import Bag
from v2w_core.data.bags.container import Message
from v2w_core.data.bags.glances import Glance, Glances
from v2w_core.data.bags.motion_rows import MotionReader, Stream
from v2w_core.data.bags.probe import (
    Probe,
    brightest,
    probe_compressed,
    probe_message,
    probe_raw,
)
from v2w_core.data.bags.topics import COMPRESSED, IMAGE, Motion
from v2w_core.data.ros_images import frame_from_message
from v2w_core.data.ros_video import codec_in, codec_of
from v2w_core.errors import DataError, V2WError
from v2w_core.images import ImageArray, glance_at

Int64Array = NDArray[np.int64]
#: Number of 16-bit images whose brightest pixel is looked up.
_NUM_SAMPLES = 24


@dataclass(frozen=True)
class CameraLog:
    """The images of a camera.

    Attributes:
        topic, kind: the topic and the ROS type of its messages.
        form: encoding or format of the first image.
        header_ns, receive_ns: int64 [N], stamps in the file's order.
        problems: why there is no picture, by the number of the image.
        white: brightest pixel of some images of 16 bits; 0 for others.
        glances: how far the picture moved between some pairs of images.
        frames: number of images by the name of the camera's frame.
        pts: int64 [N], time stamps that an encoder gave its packets; empty: none.
    """

    topic: str
    kind: str
    form: str
    header_ns: Int64Array
    receive_ns: Int64Array
    problems: Mapping[int, str] = field(default_factory=dict)
    white: int = 0
    glances: tuple[Glance, ...] = ()
    frames: Mapping[str, int] = field(default_factory=dict)
    pts: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class BagLog:
    """Result of the first pass.

    Attributes:
        camera: the images.
        streams: the motion: one stream a topic, or one a pair of frames of /tf.
        commands: the velocity commands; None: they were not asked for.
    """

    camera: CameraLog
    streams: Mapping[str, Stream]
    commands: Stream | None = None


def read_log(bag: Bag, camera: str, motion: Motion, commands: Motion | None = None) -> BagLog:
    """Reads the stamps of all images, all of the motion, and the commands.

    Raises:
        DataError: not one message of the camera or of the motion can be decoded; the bag is
            damaged from the start.
    """
    images = _Images(bag, camera)
    rows = MotionReader(bag, motion)
    told = MotionReader(bag, commands) if commands else None
    topics = {camera, *motion.topics, *(commands.topics if commands else ())}
    for message in bag.messages(topics):
        if message.topic.name == camera:
            images.add(message)
        if message.topic.name in motion.topics:
            rows.add(message)
        if told and commands and message.topic.name == commands.topic:
            told.add(message)
    return BagLog(images.log(), rows.streams(), told.streams()["pose"] if told else None)


class _Images:
    """Collects the stamps of images."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self._bag, self._topic, self._kind = bag, topic, bag.kind(topic)
        self._every = max(1, bag.topics[topic].num_messages // _NUM_SAMPLES)
        self._header, self._receive, self._pts = array("q"), array("q"), array("q")
        self._problems: dict[int, str] = {}
        self._forms: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()
        self._codec = ""
        self._glances = Glances(bag.topics[topic].num_messages)
        self._white = 0
        self._first_error: V2WError | None = None

    def add(self, message: Message) -> None:
        index = len(self._header)
        stamp_ns, problem, pts = 0, "", 0
        try:
            probe = self._probe(message)
            stamp_ns, problem, pts = probe.stamp_ns, probe.problem, probe.pts
            self._forms[probe.form] += 1
            self._frames[probe.frame] += 1
            if not problem:
                self._look_into(probe, index, message)
        except (struct.error, IndexError):
            problem = "cut off"
        except V2WError as error:
            self._first_error = self._first_error or error
            problem = "not a message of its type"
        except (AttributeError, KeyError, TypeError, ValueError):
            problem = "not a message of its type"
        self._header.append(stamp_ns)
        self._receive.append(message.receive_ns)
        self._pts.append(pts)
        if problem:
            self._problems[index] = problem

    def _look_into(self, probe: Probe, index: int, message: Message) -> None:
        """Looks up the brightest pixel of some deep images, what a video begins with, and how far
        some pictures have moved."""
        if index % self._every == 0:
            self._white = max(self._white, brightest(probe))
        if not self._codec and probe.data[:2] == b"\0\0" and not probe.raw:
            self._codec = codec_in(probe.data)
        if not self._codec and not codec_of(probe.form):
            stamp_ns = probe.stamp_ns or message.receive_ns
            self._glances.add(index, stamp_ns, lambda: self._picture(probe, message))

    def _picture(self, probe: Probe, message: Message) -> ImageArray | None:
        try:
            if not probe.raw:
                return glance_at(bytes(probe.data))
            return frame_from_message(self._bag.decode(message), field=self._topic)
        except (V2WError, AttributeError, TypeError):  # told when it is wanted
            return None

    def _probe(self, message: Message) -> Probe:
        ros1 = message.topic.encoding == "ros1"
        if message.topic.encoding in ("cdr", "ros1"):
            if message.topic.kind == IMAGE:
                return probe_raw(message.raw, ros1)
            if message.topic.kind == COMPRESSED:
                return probe_compressed(message.raw, ros1)
        return probe_message(self._bag.decode(message))

    def log(self) -> CameraLog:
        if not self._header:
            rule = "images in the bag's files; its index says there are some: the file is damaged"
            raise DataError(self._topic, rule, "none")
        if not self._forms and self._first_error is not None:  # not one message: it is the type
            raise self._first_error
        form = self._forms.most_common(1)[0][0] if self._forms else ""
        pts = np.array(self._pts, np.int64)
        return CameraLog(
            topic=self._topic,
            kind=self._kind,
            form=form if codec_of(form) or not self._codec else self._codec,
            header_ns=np.array(self._header, np.int64),
            receive_ns=np.array(self._receive, np.int64),
            problems=self._problems,
            white=self._white,
            glances=tuple(self._glances.found),
            frames=self._frames,
            pts=pts if (np.diff(pts) > 0).all() else pts[:0],
        )
