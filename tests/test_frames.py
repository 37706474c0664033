"""Frames of every format: the RGB in them, any pitch, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.frames import FORMATS, Layout, frame_size, rgb

RANDOM = np.random.default_rng(0)


def nv12(luma: int, u: int, v: int) -> NDArray[np.uint8]:
    frame = np.full((3, 2), luma, np.uint8)
    frame[2] = u, v
    return frame


@pytest.mark.parametrize(
    ("yuv", "expected"),
    [
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (255, 255, 255)),
        ((126, 128, 128), (128, 128, 128)),
        ((81, 90, 240), (255, 0, 0)),
        ((145, 54, 34), (0, 255, 1)),
        ((41, 240, 110), (0, 0, 255)),
        ((0, 0, 0), (0, 135, 0)),  # outside the limited range: clipped
        ((255, 255, 255), (255, 125, 255)),
    ],
)
def test_nv12_by_hand(yuv: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    pixels = rgb(nv12(*yuv), "nv12", slice(0, 2), slice(0, 2))
    assert {tuple(pixel) for pixel in pixels.reshape(4, 3).tolist()} == {expected}


def test_nv12_is_bt_601_within_a_level_or_two() -> None:
    frame = RANDOM.integers(16, 236, (24, 20), dtype=np.uint8)
    luma = frame[:16].astype(float)
    chroma = frame[16:].reshape(8, 10, 2).repeat(2, 0).repeat(2, 1).astype(float) - 128
    c, u, v = 255 / 219 * (luma - 16), 255 / 224 * chroma[..., 0], 255 / 224 * chroma[..., 1]
    red, blue = c + 1.402 * v, c + 1.772 * u
    green = (c - 0.299 * red - 0.114 * blue) / 0.587
    expected = np.clip(np.stack([red, green, blue], -1), 0, 255)
    seen = rgb(frame, "nv12", slice(0, 16), slice(0, 20)).astype(float)
    # Each coefficient is rounded to 1/256, so up to 128 / 512 each, and one rounding down.
    assert np.abs(seen - expected).max() < 2


def test_a_part_is_a_part_of_the_whole() -> None:
    for format, step in FORMATS.items():
        layout = Layout(20, 16, format)
        frame = layout.view(RANDOM.integers(0, 256, layout.rows * 20 * step, dtype=np.uint8))
        whole = rgb(frame, format, slice(0, 16), slice(0, 20))
        part = rgb(frame, format, slice(3, 10), slice(5, 18))
        np.testing.assert_array_equal(part, whole[3:10, 5:18])


def test_the_order_of_channels() -> None:
    pixel = np.array([[[1, 2, 3, 4]]], np.uint8)
    whole = slice(0, 1), slice(0, 1)
    assert rgb(pixel[..., :3], "rgb8", *whole).tolist() == [[[1, 2, 3]]]
    assert rgb(pixel[..., :3], "bgr8", *whole).tolist() == [[[3, 2, 1]]]
    assert rgb(pixel, "rgba8", *whole).tolist() == [[[1, 2, 3]]]
    assert rgb(pixel[..., 0], "mono8", *whole).tolist() == [[[1]]]


@pytest.mark.parametrize("format", FORMATS)
def test_a_view_of_rows_with_gaps(format: str) -> None:
    step = FORMATS[format]
    layout = Layout(6, 4, format, 6 * step + 5)
    rows = RANDOM.integers(0, 256, (layout.rows, layout.pitch), dtype=np.uint8)
    data = rows.tobytes()[:-5]  # the last row may end without its gap
    view = layout.view(data)
    np.testing.assert_array_equal(view.reshape(layout.rows, -1), rows[:, : 6 * step])
    assert frame_size(view, format) == (6, 4)
    with pytest.raises(InputError, match="bytes are less than"):
        layout.view(data[:-1])


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((4, 4, "yuyv"), "'yuyv' is unknown: use rgb8, bgr8, rgba8, mono8, nv12"),
        ((0, 4, "rgb8"), "no pixels"),
        ((4, -1, "rgb8"), "no pixels"),
        ((4, 4, "rgb8", 11), "less than the 12 bytes"),
        ((4, 4, "rgba8", 12), "less than the 16 bytes"),
        ((4, 4, "nv12", 3), "less than the 4 bytes"),
        ((4, 4, "rgb8", -12), "pitch -12"),
        ((5, 4, "nv12"), "even sides"),
        ((4, 5, "nv12"), "even sides"),
    ],
)
def test_a_bad_layout(numbers: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Layout(*numbers)


@pytest.mark.parametrize(
    ("shape", "dtype", "format", "said"),
    [
        ((4, 4, 3), "float32", "rgb8", r"uint8 \[H, W, 3\], this is float32 \[4, 4, 3\]"),
        ((4, 4, 4), "uint8", "rgb8", "name its own format"),
        ((4, 4), "uint8", "bgr8", "name its own format"),
        ((4, 4, 3), "uint8", "rgba8", r"\[H, W, 4\]"),
        ((4, 4, 1), "uint8", "mono8", r"\[H, W\]"),
        ((4, 4), "int8", "mono8", "int8"),
        ((8, 4), "uint8", "nv12", r"\[H \* 3 / 2, W\]"),
        ((6, 4, 1), "uint8", "nv12", r"\[H \* 3 / 2, W\]"),
        ((6, 5), "uint8", "nv12", "even sides"),
        ((0, 4, 3), "uint8", "rgb8", "no pixels"),
        ((4, 0, 3), "uint8", "rgb8", "no pixels"),
        ((4, 4, 3), "uint8", "rgb16", "unknown"),
        ((), "uint8", "rgb8", "name its own format"),
    ],
)
def test_what_is_no_frame(shape: tuple[int, ...], dtype: str, format: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        frame_size(np.zeros(shape, dtype), format)
