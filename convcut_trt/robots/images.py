"""ROS images as our frames: raw pixels in place, JPEG and PNG through Pillow.

The encodings are those of ``frames.FORMATS``, whose names are ROS's own. All have 8 bits a channel, so
``is_bigendian`` means nothing here and is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.frames import FORMATS, Layout
from convcut_trt.pictures import decode_picture
from convcut_trt.robots.cdr import Buffer
from convcut_trt.robots.messages import CompressedImage, Image
from convcut_trt.sources import Frame

CODECS = ("jpeg", "jpg", "png", "tiff", "webp")
_READ = (
    "JPEG",
    "PNG",
    "TIFF",
    "WEBP",
)  # what a network may send: no more decoders than ROS has codecs
_NUMBERS = re.compile(r"(?!8u)\d+[usf]c\d*")  # such as 16uc1: distances, not brightness
_FORMAT = re.compile(r"(?:([^;]*);)?\s*(\w*)(?:\s+compressed)?\s*(\w*)\s*", re.IGNORECASE)


class PixelFormat(NamedTuple):
    """What ``CompressedImage.format`` says; parts that it leaves out are empty.

    Attributes:
        encoding: Of the raw image.
        codec: One of ``CODECS``, or another that cannot be read.
        stored: The pixel format that the codec was given.
    """

    encoding: str
    codec: str
    stored: str


def to_frame(image: Image) -> NDArray[np.uint8]:
    """The pixels of an image as a frame whose format is ``image.encoding``; nothing is copied.

    Returns:
        As ``frames.Layout.view``: uint8 [H, W, 3] with rgb8 and bgr8, [H, W, 4] with rgba8, [H, W] with
        mono8, [H * 3 / 2, W] with nv12; read-only, a view of ``image.data``.

    Raises:
        InputError: Another encoding, or sizes that do not fit the data.
    """
    if image.encoding not in FORMATS:
        raise InputError(
            f"an image in {image.encoding!r} cannot be read: publish it as {', '.join(FORMATS)}, "
            "image_proc and cv_bridge convert"
        )
    layout = Layout(image.width, image.height, image.encoding, image.step)
    size = len(memoryview(image.data))
    if size > layout.rows * layout.pitch:
        raise InputError(
            f"an image of {layout.rows} rows of {layout.pitch} bytes has {size} bytes of data: "
            "its height, step and encoding do not fit, correct its publisher"
        )
    return layout.view(image.data)


def frame_of(
    data: Buffer, decode: Callable[[Buffer], Image | CompressedImage], sequence: int, sent: int
) -> Frame:
    """The bytes of a message as a frame with the message's time and frame id; its pixels are not decoded yet.

    What is wrong with them comes out when the frame is decoded, as with any bad picture.

    Args:
        data: The message in CDR.
        decode: ``Image.decode`` or ``CompressedImage.decode``.
        sequence: The frame's number.
        sent: Its time in nanoseconds where the header was never stamped.
    """
    try:
        message = decode(data)
    except InputError as error:
        return Frame(partial(_refuse, error), sent, sequence=sequence)
    timestamp, frame_id = message.header.stamp.ns or sent, message.header.frame_id
    if isinstance(message, Image):
        pixels: Callable[[], NDArray[np.uint8]] = partial(to_frame, message)
        return Frame(pixels, timestamp, frame_id, sequence, message.encoding)
    return Frame(partial(decompress, message), timestamp, frame_id, sequence)


def _refuse(error: InputError) -> NoReturn:
    raise error


def parse_format(text: str) -> PixelFormat:
    """Takes ``CompressedImage.format`` apart: ``jpeg`` or ``rgb8; jpeg compressed bgr8``.

    The form is image_transport's ``ENCODING; CODEC compressed STORED``, or the codec alone.

    Raises:
        InputError: A codec that is not in ``CODECS``, or an encoding of numbers that are no picture, as of a depth
            camera; no codec at all is left to the data.
    """
    # A blank more costs the pattern a power of the text's length; two names of a pixel format are shorter.
    match = _FORMAT.fullmatch(text) if len(text) <= 80 else None
    encoding, codec, stored = match.groups("") if match else ("", text, "")
    if codec.lower() not in ("", *CODECS) or _NUMBERS.fullmatch(encoding.strip().lower()):
        raise InputError(
            f"a compressed image in the format {text[:80]!r} cannot be read: publish colour or grey "
            f"pictures as {', '.join(CODECS)}"
        )
    return PixelFormat(encoding.strip().lower(), codec.lower(), stored.lower())


def decompress(image: CompressedImage) -> NDArray[np.uint8]:
    """Decodes a compressed image by the rules for any picture, see ``docs/pictures.md``.

    The data decide between the codecs, as everywhere in ROS. A format that says ``compressed rgb8`` means that
    RGB was handed to OpenCV as BGR: the channels lie swapped in the file and are put right, as
    image_transport's subscriber does.

    Returns:
        uint8 RGB [H, W, 3], an array of its own.

    Raises:
        InputError: As ``pictures.decode_picture``, or a format that ``parse_format`` refuses.
    """
    encoding, _, stored = parse_format(image.format)
    data = bytes(image.data)
    name = f"a compressed image of {len(data)} bytes (format {image.format[:80]!r})"
    pixels = decode_picture(data, name, formats=_READ)
    swapped = (stored or encoding).startswith("rgb") and encoding != ""
    return np.ascontiguousarray(pixels[..., ::-1]) if swapped else pixels
