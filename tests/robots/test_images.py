"""ROS images to frames, raw and compressed, and what is refused."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from convcut_trt.errors import InputError
from convcut_trt.frames import FORMATS, Layout, rgb
from convcut_trt.robots.images import decompress, parse_format, to_frame
from convcut_trt.robots.messages import CompressedImage, Image
from tests.robots.cases import STAMP, raw_image

SHAPES = {"rgb8": (4, 6, 3), "bgr8": (4, 6, 3), "rgba8": (4, 6, 4), "mono8": (4, 6), "nv12": (6, 6)}
RANDOM = np.random.default_rng(0)
# Red at the left, blue at the right, in blocks large enough for JPEG to keep the colours.
COLOURS = np.repeat(np.array([[[250, 10, 10], [10, 10, 250]]], np.uint8), 32, 1).repeat(32, 0)


def packed(pixels: NDArray[np.uint8], codec: str, **options: Any) -> bytes:
    """A picture as a file's bytes."""
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, codec, **options)
    return out.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_the_pixels_of_an_image_are_a_frame(format: str) -> None:
    frame = RANDOM.integers(0, 256, SHAPES[format], np.uint8)
    message = Image.decode(raw_image(frame, format, STAMP).encode())
    np.testing.assert_array_equal(to_frame(message), frame)


@pytest.mark.parametrize(
    ("format", "bigendian"), [(name, flag) for name in FORMATS for flag in (0, 1)]
)
def test_rows_with_gaps(format: str, bigendian: int) -> None:
    layout = Layout(6, 4, format, 6 * FORMATS[format] + 5)
    data = RANDOM.integers(0, 256, layout.rows * layout.pitch, np.uint8)
    message = Image(STAMP, 4, 6, format, bigendian, layout.pitch, data.tobytes())
    np.testing.assert_array_equal(to_frame(message), layout.view(data))


def test_the_frame_is_no_copy_and_read_only() -> None:
    data = bytearray(12)
    frame = to_frame(Image(STAMP, 2, 2, "rgb8", 0, 6, data))
    data[0] = 9
    assert frame[0, 0, 0] == 9
    assert not frame.flags.writeable


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (Image(STAMP, 2, 2, "bgra8", 0, 8, bytes(16)), "rgb8, bgr8, rgba8, mono8, nv12"),
        (Image(STAMP, 2, 2, "16UC1", 0, 4, bytes(8)), "16UC1"),
        (Image(STAMP, 2, 2, "", 0, 6, bytes(12)), "''"),
        (Image(STAMP, 0, 2, "rgb8", 0, 6, b""), "no pixels"),
        (Image(STAMP, 2, 2, "rgb8", 0, 5, bytes(12)), "pitch"),
        (Image(STAMP, 2, 2, "rgb8", 0, 6, bytes(11)), "less than"),
        (Image(STAMP, 2, 2, "rgb8", 0, 6, bytes(13)), "13 bytes"),
        (Image(STAMP, 2**32 - 1, 2**32 - 1, "rgb8", 0, 2**32 - 1, bytes(12)), "pitch"),
        (Image(STAMP, 2**32 - 1, 2, "rgb8", 0, 6, bytes(12)), "less than"),
        (Image(STAMP, 3, 2, "nv12", 0, 2, bytes(9)), "even"),
    ],
)
def test_images_that_are_refused(message: Image, says: str) -> None:
    with pytest.raises(InputError, match=says):
        to_frame(message)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("jpeg", ("", "jpeg", "")),
        ("JPG", ("", "jpg", "")),
        ("", ("", "", "")),
        ("bgr8; jpeg compressed bgr8", ("bgr8", "jpeg", "bgr8")),
        ("rgb8;png compressed bgr8", ("rgb8", "png", "bgr8")),
        ("mono8; jpeg compressed ", ("mono8", "jpeg", "")),
        ("mono8; jpeg compressed", ("mono8", "jpeg", "")),
        ("bgr8; jpeg", ("bgr8", "jpeg", "")),
    ],
)
def test_formats(text: str, parts: tuple[str, str, str]) -> None:
    assert parse_format(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "16UC1; compressedDepth png",
        "32FC1; compressedDepth",
        "h264",
        "image/jpeg",
        "a;b;jpeg",
        "\0",
        pytest.param(" " * 20_000 + ";", id="blanks that took hours"),
        "a" * 81,
    ],
)
def test_formats_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="jpeg, jpg, png"):
        parse_format(text)


@pytest.mark.parametrize("codec", ["jpeg", "png", "tiff", "webp"])
def test_colours_survive(codec: str) -> None:
    image = CompressedImage(STAMP, f"bgr8; {codec} compressed bgr8", packed(COLOURS, codec))
    seen = decompress(CompressedImage.decode(image.encode()))
    assert seen.shape == COLOURS.shape
    assert seen.dtype == np.uint8
    error = np.abs(seen[:, [8, -8]].astype(int) - COLOURS[:, [8, -8]]).max()
    assert error <= (8 if codec in ("jpeg", "webp") else 0)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("rgb8; jpeg compressed bgr8", False),
        ("rgb8; jpeg compressed rgb8", True),
        ("bgr8; jpeg compressed rgb8", True),
        ("rgb8; tiff compressed ", True),
        ("bgr8; tiff compressed ", False),
        ("png", False),
    ],
)
def test_channels_that_image_transport_stores_swapped(text: str, swapped: bool) -> None:
    seen = decompress(CompressedImage(STAMP, text, packed(COLOURS, "png")))
    np.testing.assert_array_equal(seen, COLOURS[..., ::-1] if swapped else COLOURS)
    assert seen.flags.c_contiguous


def test_grey_and_transparent_pictures_become_rgb() -> None:
    grey = RANDOM.integers(0, 256, (5, 7), np.uint8)
    seen = decompress(CompressedImage(STAMP, "mono8; png compressed ", packed(grey, "png")))
    np.testing.assert_array_equal(seen, rgb(grey, "mono8", slice(0, 5), slice(0, 7)).repeat(3, 2))
    clear = RANDOM.integers(0, 256, (5, 7, 4), np.uint8)
    seen = decompress(CompressedImage(STAMP, "png", packed(clear, "png")))
    white = Pillow.new("RGBA", (7, 5), "white")
    over = Pillow.alpha_composite(white, Pillow.fromarray(clear)).convert("RGB")
    assert np.abs(seen.astype(int) - np.asarray(over)).max() <= 1  # of rounding


def bomb(side: int) -> bytes:
    """A small PNG that claims to be large: its header alone is changed, with a checksum that fits."""
    import zlib

    data = packed(np.zeros((1, 1), np.uint8), "png")
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


PNG = packed(COLOURS, "png")
JPEG = packed(COLOURS, "jpeg")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no picture"),
        (b"\0" * 100, "no picture"),
        (PNG[: len(PNG) // 2], "damaged"),
        (JPEG[: len(JPEG) // 2], "damaged"),
        (JPEG[:30] + b"\xff" * 40, "damaged"),
        (packed(COLOURS, "gif"), "no picture"),
        (bomb(7000), "7000 x 7000"),
        (bomb(60000), "too many pixels"),
        (packed(np.zeros((4, 4), np.float32), "tiff"), "8 bits"),
    ],
)
def test_data_that_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        decompress(CompressedImage(STAMP, "jpeg", data))
