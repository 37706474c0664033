"""What is recorded: frames at 30 Hz with two faces each, and what a stream answers to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcut_trt.errors import InputError
from convcut_trt.robots.mcap_log import open_sink, open_source
from convcut_trt.sources import Frame
from convcut_trt.stream import Result, Stream
from tests.results import ABOUT, SECOND
from tests.stream.loop import FakeEngine

START = 1_700_000_000 * SECOND
COUNT = 12


def picture(number: int) -> np.ndarray:
    """A slope of colours [96, 128, 3], another for each number."""
    rows, columns = np.mgrid[0:96, 0:128]
    return np.stack([rows * 2, columns, rows + columns + number], axis=2).astype(np.uint8)


def frames(count: int = COUNT) -> list[Frame]:
    """At 30 Hz."""
    return [
        Frame(picture(number), START + number * SECOND // 30, "camera", number)
        for number in range(count)
    ]


def two_faces(frame_rgb: np.ndarray) -> Any:
    return np.array([[10.0, 12.0, 30.0, 30.0], [60.5, 40.0, 40.0, 44.0]])


def record(path: Path) -> list[Result]:
    """What a stream answered and recorded."""
    sink = open_sink(str(path), ABOUT)
    answers = []
    with Stream(FakeEngine(), frames(), detector=two_faces, newest=False) as stream:
        for answer in stream:
            sink.send(answer)
            answers.append(answer)
        sink.report(stream.health())
    sink.close()
    sink.close()
    return answers


def given_up(path: Path) -> list[Frame]:
    """The frames of a recording without an end, each decoded."""
    given = []
    with pytest.raises(InputError, match="mcap recover") as caught:
        for frame in open_source(str(path)):
            assert frame.picture().any()
            given.append(frame)
    assert f"after {len(given)} pictures" in str(caught.value)
    return given
