"""The rule by which a face becomes network input, by hand and against Pillow itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from convcut_trt.errors import InputError
from convcut_trt.frames import rgb
from convcut_trt.preprocess import BITS, Box, crop_box, faces, resize, weights

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


def random_crops(count: int, most: int) -> Iterator[tuple[NDArray[np.uint8], Box, float, int]]:
    """Pictures of any shape, boxes with and without fractions that may lean over an edge, margins, sizes."""
    random = np.random.default_rng(most)
    for _ in range(count):
        height, width = (int(side) for side in random.integers(1, most, 2))
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if random.random() < 0.2:
            picture = np.where(picture > 127, 255, 0).astype(np.uint8)
        side = random.uniform(0.1, 1.3) * max(height, width)
        x, y = random.uniform(0, 1, 2) * [width, height] - side / 3
        if random.random() < 0.3:
            side, x, y = math.ceil(side), math.floor(x), math.floor(y)
        size = int(random.choice([1, 2, 7, 16, 48, 64, 112]))
        yield picture, (float(x), float(y), float(side), float(side)), random.choice([0, 0.1]), size


@pytest.mark.parametrize(("count", "most"), [(400, 40), (150, 500)])
def test_faces_are_pillows(count: int, most: int) -> None:
    for picture, box, margin, size in random_crops(count, most):
        height, width = picture.shape[:2]
        crop = crop_box(box, width, height, margin)
        seen = faces(picture, [box], size, margin)[0]
        np.testing.assert_array_equal(seen, resize(picture, size, box=crop))
        if width >= height:  # in one call, as everybody writes it
            image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, crop)
            np.testing.assert_array_equal(seen, np.asarray(image))


@pytest.mark.parametrize("size", [1, 8, 29, 30, 31, 64])
@pytest.mark.parametrize(("width", "height"), [(30, 31), (30, 40), (30, 100), (3, 400)])
def test_rows_come_first_in_every_picture(width: int, height: int, size: int) -> None:
    """Pillow 13 turns the passes around in tall pictures; one call for each pass shows the order."""
    picture = RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows = Image.fromarray(picture).resize((size, height), Image.Resampling.BILINEAR)
    both = rows.resize((size, size), Image.Resampling.BILINEAR, (0, 0, size, width))
    box = (0.0, 0.0, float(width), float(width))
    np.testing.assert_array_equal(resize(picture, size, box=box), np.asarray(both))
    np.testing.assert_array_equal(faces(picture, [box], size)[0], np.asarray(both))


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1), st.integers(1, 300))
def test_weights_are_a_partition(length: int, one: float, other: float, size: int) -> None:
    start, stop = sorted((np.float32(one * length), np.float32(other * length)))
    found = weights(start, min(stop, np.float32(length)), length, size)
    last = found.first + (found.taps > 0).cumsum(axis=1).max(axis=1)
    assert (found.first >= 0).all() and (last <= length).all()
    assert (np.diff(found.first) >= 0).all()
    assert found.covered.start <= found.first.min() and last.max() <= found.covered.stop <= length
    assert np.abs(found.taps.sum(axis=1) - 2**BITS).max() <= found.taps.shape[1] / 2


def test_a_crowd_is_as_good_as_one_by_one() -> None:
    boxes = np.array([(40, 30, 20, 20), (-5, 60.5, 30, 40), (100.25, 0, 60, 60)])
    together = faces(COLOUR, boxes, 24, 0.1)
    assert together.shape == (3, 24, 24, 3)
    assert together.dtype == np.uint8
    for box, face in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(face, faces(COLOUR, [box], 24, 0.1)[0])


def test_faces_of_other_formats() -> None:
    box = [(30.5, 20.25, 50.0, 50.0)]
    expected = faces(COLOUR, box, 24)
    np.testing.assert_array_equal(faces(COLOUR[..., ::-1], box, 24, format="bgr8"), expected)
    alpha = np.dstack([COLOUR, GREY])
    np.testing.assert_array_equal(faces(alpha, box, 24, format="rgba8"), expected)
    grey = faces(GREY, box, 24, format="mono8")
    np.testing.assert_array_equal(grey, faces(GREY[..., None].repeat(3, 2), box, 24))
    yuv = np.vstack([GREY, GREY[:60]])
    picture = rgb(yuv, "nv12", slice(0, 120), slice(0, 160))
    np.testing.assert_array_equal(faces(yuv, box, 24, format="nv12"), faces(picture, box, 24))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((COLOUR, [], 24), "no face boxes"),
        ((COLOUR, (1, 2, 3, 4), 24), r"face boxes are \[4\]: give \[N, 4\]"),
        ((COLOUR, [(1, 2, 3)], 24), r"face boxes are \[1, 3\]"),
        ((COLOUR, [(1, 2, 3, 4), (1, 2)], 24), "no rows of 4 numbers"),
        ((COLOUR, [("a", 2, 3, 4)], 24), "no rows of 4 numbers"),
        ((COLOUR, [(1, 2, 0, 3)], 24), "has no area"),
        ((COLOUR, [(1, 2, 3, 3), (500, 2, 3, 3)], 24), "outside"),
        ((COLOUR, [(1, 2, 3, 3)], 0), "at least 1"),
        ((COLOUR, [(1, 2, 3, 3)], 24, math.nan), "margin"),
        ((COLOUR, [(1, 2, 3, 3)], 24, -0.5), "margin"),
        ((COLOUR, [(1, 2, 3, 3)], 24, 0.0, "mono8"), "name its own format"),
        ((COLOUR, [(1, 2, 3, 3)], 24, 0.0, "yuv"), "unknown"),
    ],
)
def test_faces_that_cannot_be_cut(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        faces(*arguments)
