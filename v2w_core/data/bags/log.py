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
from v2w_core.data.bags.motion_rows import MotionReader, Stream
from v2w_core.data.bags.probe import Probe, probe_compressed, probe_message, probe_raw
from v2w_core.data.bags.topics import COMPRESSED, IMAGE, Motion
from v2w_core.errors import DataError, V2WError

Int64Array = NDArray[np.int64]
#: Grey encodings of 16 bits, of which a camera may fill fewer.
DEEP_GREY = ("mono16", "16UC1")
#: Number of images whose brightest pixel is looked up.
_NUM_SAMPLES = 24


@dataclass(frozen=True)
class CameraLog:
    """The images of a camera.

    Attributes:
        topic, kind: the topic and the ROS type of its messages.
        form: encoding or format of the first image.
        header_ns, receive_ns: int64 [N], stamps in the file's order.
        problems: why there is no picture, by the number of the image.
        white: brightest pixel of some images of 16-bit grey; 0 for other encodings.
    """

    topic: str
    kind: str
    form: str
    header_ns: Int64Array
    receive_ns: Int64Array
    problems: Mapping[int, str] = field(default_factory=dict)
    white: int = 0


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
        DataError: the motion's messages cannot be decoded; the bag is damaged from the start.
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
        self._header, self._receive = array("q"), array("q")
        self._problems: dict[int, str] = {}
        self._forms: Counter[str] = Counter()
        self._white = 0

    def add(self, message: Message) -> None:
        index = len(self._header)
        stamp_ns, problem = 0, ""
        try:
            probe = self._probe(message)
            stamp_ns, problem = probe.stamp_ns, probe.problem
            self._forms[probe.form] += 1
            if probe.form in DEEP_GREY and not problem and index % self._every == 0:
                order = ">u2" if probe.big_endian else "<u2"
                pixels = np.frombuffer(probe.data[: len(probe.data) // 2 * 2], order)
                self._white = max(self._white, int(pixels.max(initial=0)))
        except (struct.error, IndexError):
            problem = "cut off"
        self._header.append(stamp_ns)
        self._receive.append(message.receive_ns)
        if problem:
            self._problems[index] = problem

    def _probe(self, message: Message) -> Probe:
        ros1 = message.topic.encoding == "ros1"
        if message.topic.encoding in ("cdr", "ros1"):
            if message.topic.kind == IMAGE:
                return probe_raw(message.raw, ros1)
            if message.topic.kind == COMPRESSED:
                return probe_compressed(message.raw, ros1)
        try:
            return probe_message(self._bag.decode(message))
        except V2WError as error:
            if not self._forms:  # not one message so far: it is the type, not this message
                raise
            raise IndexError(str(error)) from error

    def log(self) -> CameraLog:
        if not self._header:
            rule = "images in the bag's files; its index says there are some: the file is damaged"
            raise DataError(self._topic, rule, "none")
        form = self._forms.most_common(1)
        return CameraLog(
            topic=self._topic,
            kind=self._kind,
            form=form[0][0] if form else "",
            header_ns=np.array(self._header, np.int64),
            receive_ns=np.array(self._receive, np.int64),
            problems=self._problems,
            white=self._white,
        )
