"""Frames from Zenoh: pictures as JPEG, PNG or WebP, raw pixels, or ROS 2 images."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from convcut_trt.errors import InputError
from convcut_trt.frames import Layout
from convcut_trt.optional import load
from convcut_trt.robots.cdr import Buffer
from convcut_trt.robots.images import decompress, frame_of
from convcut_trt.robots.messages import CompressedImage, Image
from convcut_trt.robots.zenoh_keys import RMW, read_stamp
from convcut_trt.robots.zenoh_session import Address, check_key, open_session
from convcut_trt.sources import Frame, Pixels

if TYPE_CHECKING:
    import zenoh

# Samples between Zenoh and the thread that takes them, which is never busy: enough to bridge a pause of the
# interpreter. Where they are used up, the publisher drops, not we.
_WAITING = 32
# Raw pixels say by their encoding what they are: zenoh/bytes;rgb8;640x480
_RAW = re.compile(r"[^;]*;(\w+);(\d{1,5})x(\d{1,5})", re.ASCII)


class ZenohSource:
    """The samples of a key as frames, every one; each is decoded when its turn comes.

    The timestamp is that of the ROS header, else of the attachment (``zenoh_keys.stamp`` or rmw_zenoh's), else
    Zenoh's, else the time of arrival. The sequence number is the attachment's, else counted from 0. The frame id is
    that of the ROS header, else the key.

    Attributes:
        live: True.
    """

    live = True

    def __init__(self, address: Address) -> None:
        """Subscribes.

        Raises:
            InputError: A bad key, or nobody answers.
            BackendMissing: Zenoh is not installed.
        """
        key = address.key
        if address.ros == RMW:
            key = f"{address.domain}/{key}/*/*"  # of any type and type hash
        check_key(key)
        self._ros = bool(address.ros)
        self._session = open_session(address)
        library = load("zenoh", "zenoh")
        self._put = library.SampleKind.PUT
        self._subscriber = self._session.declare_subscriber(
            key, library.handlers.FifoChannel(_WAITING)
        )

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        for sample in self._subscriber:
            if sample.kind == self._put:
                yield sample_frame(sample, number, self._ros)
                number += 1

    def stop(self) -> None:
        """Ends the wait for the next sample."""
        self._subscriber.undeclare()

    def close(self) -> None:
        """Leaves the network."""
        self._session.close()


def sample_frame(sample: zenoh.Sample, number: int, ros: bool) -> Frame:
    """One sample as a frame; what is wrong with its payload comes out when it is decoded.

    Args:
        sample: From a subscriber.
        number: Its sequence number where it brings none.
        ros: Whether it is a ROS image in CDR.
    """
    sequence, timestamp = number, 0
    if sample.attachment is not None:
        sequence, timestamp = read_stamp(sample.attachment.to_bytes()) or (number, 0)
    if not timestamp and sample.timestamp is not None:
        timestamp = round(sample.timestamp.get_time().timestamp() * 1e6) * 1000
    sent = timestamp or time.time_ns()
    if ros:
        return frame_of(sample.payload.to_bytes(), read_image, sequence, sent)
    format, encoding = "rgb8", str(sample.encoding)
    pixels: Callable[[], Pixels]
    if ";" in encoding and (raw := _RAW.fullmatch(encoding)):
        format = raw[1]
        pixels = partial(_raw, sample.payload, format, int(raw[2]), int(raw[3]))
    else:
        pixels = partial(_picture, sample.payload)
    return Frame(pixels, sent, str(sample.key_expr), sequence, format)


def read_image(data: Buffer) -> Image | CompressedImage:
    """A ROS image of either type; nothing but its type can tell, and no bytes are both.

    Raises:
        InputError: It is neither.
    """
    try:
        return Image.decode(data)
    except InputError:
        return CompressedImage.decode(data)


def _picture(payload: zenoh.ZBytes) -> Pixels:
    return decompress(CompressedImage(data=payload.to_bytes()))


def _raw(payload: zenoh.ZBytes, format: str, width: int, height: int) -> Pixels:
    data, layout = payload.to_bytes(), Layout(width, height, format)
    if len(data) != layout.rows * layout.pitch:
        raise InputError(
            f"{len(data)} bytes are not {width}x{height} {format} pixels: correct the encoding, or the payload"
        )
    return layout.view(data)
