"""Camera frames in GPU memory: cut out there, answered as the same frame in host memory is."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from convcut_trt.engine import Engine
from convcut_trt.errors import InputError
from convcut_trt.frames import FORMATS
from convcut_trt.manifest import EngineManifest
from tests.gpu.application import Application, Interface, application
from tests.gpu.machine import SIZE, Machine

BOXES = np.array(
    [(2, 3, 20, 24), (30.5, 8.25, 11, 9), (40, 20, 30, 30), (0, 0, 9, 5), (5, 30, 16, 16)]
)
SHAPES = {
    "rgb8": (48, 64, 3),
    "bgr8": (48, 64, 3),
    "rgba8": (48, 64, 4),
    "mono8": (48, 64),
    "nv12": (72, 64),
}


@pytest.fixture
def app(gpu: Machine) -> Iterator[Application]:
    with application(gpu.cuda) as made:
        yield made


def engine(gpu: Machine) -> Engine:
    spec = SimpleNamespace(size=SIZE, margin=0.1, classes=tuple("abcde"))
    return Engine(cast(EngineManifest, SimpleNamespace(spec=spec)), gpu.open(tail=True))


def frame(format: str) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPES[format], dtype=np.uint8)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_format_is_answered_as_on_the_host(
    gpu: Machine, app: Application, format: str, count: int
) -> None:
    picture = frame(format)
    with engine(gpu) as opened:
        for _ in range(2):
            there = app.interface(picture, app.stream, stream=app.stream)
            given = opened.predict_frame(there, BOXES[:count], format)
            expected = opened.predict_frame(picture, BOXES[:count], format)
            assert len(given) == count
            np.testing.assert_array_equal(given.probabilities, expected.probabilities)


def test_rows_may_have_gaps(gpu: Machine, app: Application) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    picture = wide[:, :64]
    address = app.upload(wide, app.stream)
    there: Any = Interface(
        address, picture.shape, picture.dtype, strides=picture.strides, stream=app.stream
    )
    with engine(gpu) as opened:
        given = opened.predict_frame(there, BOXES)
        np.testing.assert_array_equal(
            given.probabilities, opened.predict_frame(picture, BOXES).probabilities
        )


@pytest.mark.parametrize(
    ("shape", "format", "boxes", "said"),
    [
        ((48, 64), "rgb8", BOXES, "a frame in rgb8 is uint8"),
        ((48, 64, 3), "yuyv", BOXES, "'yuyv' is unknown"),
        ((48, 64, 3), "rgb8", [(0, 0, 0, 5)], "box"),
        ((48, 64, 3), "rgb8", [(float("nan"), 0, 5, 5)], "box"),
        ((48, 64, 3), "rgb8", [(100, 100, 5, 5)], "box"),
    ],
)
def test_what_is_no_frame_is_refused_and_the_next_one_works(
    gpu: Machine, app: Application, shape: tuple[int, ...], format: str, boxes: Any, said: str
) -> None:
    with engine(gpu) as opened:
        bad = app.interface(np.zeros(shape, np.uint8), app.stream)
        with pytest.raises(InputError, match=said):
            opened.predict_frame(bad, boxes, format)
        good = app.interface(frame("rgb8"), app.stream, stream=app.stream)
        assert len(opened.predict_frame(good, BOXES)) == 5
