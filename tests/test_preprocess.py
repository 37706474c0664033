"""The rule by which a face becomes network input, by hand and against Pillow itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from convcut_trt.errors import InputError
from convcut_trt.preprocess import Box, crop_box, resize

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (120, 160, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (120, 160), dtype=np.uint8)


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((40, 30, 20, 20), 0.0, (40, 30, 60, 50)),
        ((40, 30, 20, 10), 0.0, (40, 25, 60, 45)),  # square: the longer side, the same centre
        ((40, 30, 20, 20), 0.25, (35, 25, 65, 55)),
        ((40.5, 30.25, 20, 20), 0.0, (40.5, 30.25, 60.5, 50.25)),
        ((-10, -10, 40, 40), 0.0, (0, 0, 40, 40)),  # shifted inside, not cut or padded
        ((140, 100, 40, 40), 0.0, (120, 80, 160, 120)),
        ((70, 50, 20, 20), 5.0, (20, 0, 140, 120)),  # shrunk to the frame's shorter side
        ((0, 0, 160, 10), 0.0, (20, 0, 140, 120)),
        (None, 0.0, (20, 0, 140, 120)),
    ],
)
def test_the_crop_rule(box: Box | None, margin: float, expected: Box) -> None:
    assert crop_box(box, 160, 120, margin) == expected


sides = st.floats(0.01, 3000)


@given(
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.tuples(st.floats(-3000, 2000), st.floats(-3000, 2000), sides, sides),
    st.sampled_from((0.0, 0.1, 0.25, 2.0)),
)
def test_every_crop_is_a_square_inside(width: int, height: int, box: Box, margin: float) -> None:
    try:
        left, top, right, bottom = crop_box(box, width, height, margin)
    except InputError:
        assert box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0
        return
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert math.isclose(right - left, bottom - top, abs_tol=1e-9)
    picture = np.zeros((height, 1), np.uint8).repeat(width, axis=1)
    assert resize(picture, 2, box=(left, top, right, bottom)).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((math.nan, 0, 10, 10), "has no area"),
        ((0, 0, math.inf, 10), "has no area"),
        ((0, 0, 0, 10), "has no area"),
        ((0, 0, 10, -1), "has no area"),
        ((160, 0, 10, 10), "lies outside the 160x120 picture"),
        ((0, 120, 10, 10), "lies outside"),
        ((-10, 0, 10, 10), "lies outside"),
        ((0, -20, 10, 10), "lies outside"),
        ((1, 2, 3), "has 3 numbers: give x, y, width, height"),
        ((), "has 0 numbers"),
    ],
)
def test_a_bad_box(box: tuple[float, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        crop_box(box, 160, 120)


@pytest.mark.parametrize("box", [None, (0, 0, 160, 120), (20.25, 0.5, 139.75, 120), (3, 4, 8, 9)])
@pytest.mark.parametrize("size", [8, 48, 224])
def test_resize_is_pillows(box: Box | None, size: int) -> None:
    expected = Image.fromarray(COLOUR).resize((size, size), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(resize(COLOUR, size, box=box), np.asarray(expected))


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    face = COLOUR[:48, :48]
    np.testing.assert_array_equal(resize(face, 48), face)


def test_grey_and_colour() -> None:
    luma = np.asarray(Image.fromarray(COLOUR).convert("L").resize((48, 48), 2))
    np.testing.assert_array_equal(resize(COLOUR, 48, grey=True)[..., 0], luma)
    three = resize(GREY, 48)
    one = resize(GREY, 48, grey=True)
    assert (three.shape, one.shape) == ((48, 48, 3), (48, 48, 1))
    np.testing.assert_array_equal(three, one.repeat(3, axis=2))
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert set(resize(red, 4, grey=True).ravel()) == {76}  # 0.299 * 255


def test_a_view_is_as_good_as_a_copy() -> None:
    view = COLOUR[::-1, :, ::-1]
    np.testing.assert_array_equal(resize(view, 48), resize(np.ascontiguousarray(view), 48))


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (COLOUR.astype(np.float32), r"this is float32 \[120, 160, 3\]"),
        (COLOUR.astype(np.int16), "this is int16"),
        (COLOUR[None], r"this is uint8 \[1, 120, 160, 3\]"),
        (COLOUR[0, 0], "this is uint8"),
        (COLOUR[:0], r"this is uint8 \[0, 160, 3\]"),
        (COLOUR[..., :1], "this one has 1"),
        (np.dstack([COLOUR, GREY]), "this one has 4"),
    ],
)
def test_what_is_no_picture(picture: NDArray[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        resize(picture, 48)
