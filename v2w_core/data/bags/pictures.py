"""The second pass over a bag: the chosen images, decoded, in the order in which they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from v2w_core.data.bags.bag import Bag, open_bag
from v2w_core.data.bags.container import Message
from v2w_core.data.bags.files import BagFiles
from v2w_core.data.bags.log import CameraLog
from v2w_core.data.bags.topics import PACKET, VIDEO
from v2w_core.data.ros_images import frame_from_message, picture_from
from v2w_core.data.ros_video import VideoDecoder, codec_of
from v2w_core.errors import DataError, V2WError
from v2w_core.images import ImageArray

#: Number of images that wait for an earlier one; more, and the file's order is no camera's.
MAX_WAITING = 256
#: Number of packets by which a video's frames may come out late.
MAX_DELAY = 32
#: Of so many images in a row not one can be decoded: then it is the encoding, not the images.
ALL_BAD = 8


def read_pictures(
    files: BagFiles, camera: CameraLog, wanted: Sequence[int]
) -> Iterator[ImageArray | None]:
    """Yields the images with the numbers ``wanted``, RGB uint8 [H, W, 3], in that order.

    None stands for an image that cannot be decoded.

    Raises:
        DataError: the first images cannot be decoded, one and all; or the bag is damaged.
    """
    place = {index: position for position, index in enumerate(wanted)}
    waiting: dict[int, ImageArray | None] = {}
    position, failed = 0, 0
    in_order = all(a < b for a, b in pairwise(wanted))
    with open_bag(files) as bag:
        for index, result in _decoded(bag, camera, set(place), max(wanted, default=-1)):
            if isinstance(result, V2WError):
                failed += 1
                if position + len(waiting) + 1 == failed >= min(ALL_BAD, len(wanted)):
                    raise result
            waiting[place[index]] = None if isinstance(result, V2WError) else result
            if not in_order and len(waiting) > MAX_WAITING:
                rule = (
                    "images in about the order of their stamps; sort the file, or --stamps receive"
                )
                raise DataError(
                    camera.topic, rule, f"{len(waiting)} images wait for an earlier one"
                )
            while position in waiting:
                yield waiting.pop(position)
                position += 1
    yield from (waiting.get(left) for left in range(position, len(wanted)))


def _decoded(
    bag: Bag, camera: CameraLog, wanted: set[int], last: int
) -> Iterator[tuple[int, ImageArray | V2WError]]:
    """Yields (number, image or why it cannot be decoded) of the wanted images."""
    messages = enumerate(bag.messages({camera.topic}))
    packets = camera.kind in (PACKET, VIDEO) and "jpeg" not in camera.form.lower()
    codec = codec_of(camera.form)
    if packets or codec:
        yield from _video(bag, camera, codec or camera.form, wanted, messages, last)
        return
    for index, message in messages:
        if index in wanted:
            try:
                yield index, _picture(bag, camera, index, message)
            except V2WError as error:
                yield index, error
        if index >= last:
            return


def _picture(bag: Bag, camera: CameraLog, index: int, message: Message) -> ImageArray:
    name, decoded = f"{camera.topic}[{index}]", bag.decode(message)
    try:
        if camera.kind in (PACKET, VIDEO):  # a JPEG in each packet
            return picture_from(bytes(decoded.data), "jpeg", field=name)
        return frame_from_message(decoded, field=name, white=white_of(camera))
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, V2WError):
            raise
        raise DataError(name, f"the fields of {camera.kind}", str(error)) from error


def _video(
    bag: Bag,
    camera: CameraLog,
    codec: str,
    wanted: set[int],
    messages: Iterator[tuple[int, Message]],
    last: int,
) -> Iterator[tuple[int, ImageArray | V2WError]]:
    """Decodes a video: every packet up to the last wanted image, and some more to empty it."""
    decoder = VideoDecoder(codec, camera.topic)
    losses = _losses(camera, decoder.finds_losses)
    due, lost = set(wanted), False
    for index, message in messages:
        if not due:
            break
        lost |= index in losses
        try:
            data = b"" if index in camera.problems else bytes(bag.decode(message).data)
        except (AttributeError, TypeError, ValueError):  # also what cannot be decoded
            data = b""
        if not data:
            lost = True
            continue
        for number, frame in decoder.feed(index, data, wanted, lost=lost):
            due.discard(number)
            yield number, frame
            for missed in [item for item in due if item < number - MAX_DELAY]:
                due.discard(missed)
                yield missed, _no_picture(camera, missed)
        lost = False
    for number, frame in decoder.flush(wanted):
        due.discard(number)
        yield number, frame
    for number in sorted(due):
        yield number, _no_picture(camera, number)


def _losses(camera: CameraLog, found_by_decoder: bool) -> set[int]:
    """Numbers of the packets before which packets are missing: by the encoder's own stamps, or,
    where neither these nor the decoder tell, by the header stamps."""
    series = camera.pts
    if not series.size:
        if found_by_decoder:
            return set()
        series = camera.header_ns
    steps = np.diff(series)
    if not steps.size:
        return set()
    return set((np.flatnonzero(steps > 1.5 * np.median(steps)) + 1).tolist())


def _no_picture(camera: CameraLog, number: int) -> DataError:
    rule = "a whole picture: a video begins at a key frame, and after a lost packet at the next"
    return DataError(f"{camera.topic}[{number}]", rule, "none")


def white_of(camera: CameraLog) -> int | None:
    """The largest value of a 16-bit camera that fills fewer bits; None: all of them, or not 16."""
    if not camera.white:
        return None
    bits = next(bits for bits in (8, 10, 12, 14, 16) if camera.white < 1 << bits)
    return (1 << bits) - 1 if bits < 16 else None
