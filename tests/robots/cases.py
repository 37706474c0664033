"""Messages with known bytes, see ``golden.py``, and random ones of every class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import convcut_trt.robots.foxglove  # noqa: F401  # its messages are among the classes, too
from convcut_trt.frames import FORMATS, frame_size
from convcut_trt.robots import messages as m
from convcut_trt.robots.idl import Message

STAMP = m.Header(m.Time(1_700_000_000, 123_456_789), "camera_color_optical_frame")
EARLY = m.Header(m.Time(-1, 999_999_999), "é")
POSE = m.Pose(m.Point(1.5, -2.0, 0.25), m.Quaternion(0.0, 0.0, 1.0, 0.0))
HYPOTHESES = (
    m.ObjectHypothesisWithPose(m.ObjectHypothesis("happy", 0.75)),
    m.ObjectHypothesisWithPose(
        m.ObjectHypothesis("contempt", 0.125),
        m.PoseWithCovariance(POSE, tuple(value / 8 for value in range(36))),
    ),
)
FACE = m.Detection2D(
    STAMP,
    HYPOTHESES,
    m.BoundingBox2D(m.Pose2D(m.Point2D(320.5, 240.0), 0.5), 96.0, 97.5),
    "f00007",
)

CASES: dict[str, Message] = {
    "expression": m.Expression(STAMP, "happy", 0.0, 0.0, 0.875),
    "expression of nothing": m.Expression(),
    "expression with every number": m.Expression(EARLY, "überrascht", -1.0, 0.1, float("nan")),
    "expression of the facts": m.Expression(
        m.Header(m.Time(1, 2), "camera"), "scared", 0.0, 0.0, 1.0
    ),
    "ids": m.IdsList(STAMP, ("f00000", "a", "")),
    "no ids": m.IdsList(m.Header(frame_id="c")),
    "region": m.NormalizedRegionOfInterest2D(STAMP, 0.25, 0.5, 0.75, 1.0, 0.9),
    "region of nothing": m.NormalizedRegionOfInterest2D(),
    "classification": m.Classification(
        STAMP, (m.ObjectHypothesis("happy", 0.9), m.ObjectHypothesis("neutral", 0.1))
    ),
    "no classification": m.Classification(EARLY),
    "detections": m.Detection2DArray(STAMP, (FACE,)),
    "two bare detections": m.Detection2DArray(
        m.Header(), (m.Detection2D(id="1"), m.Detection2D(EARLY))
    ),
    "no detections": m.Detection2DArray(STAMP),
    "labels": m.LabelInfo(
        STAMP, (m.VisionClass(0, "neutral"), m.VisionClass(65535, "UNLABELED")), 0.35
    ),
    "no labels": m.LabelInfo(),
    "image": m.Image(STAMP, 2, 3, "bgr8", 0, 9, bytes(range(18))),
    "odd image": m.Image(EARLY, 1, 5, "mono8", 1, 7, b"12345"),
    "no image": m.Image(),
    "compressed": m.CompressedImage(STAMP, "bgr8; jpeg compressed bgr8", b"\xff\xd8\xff\xd9\0"),
    "no compressed": m.CompressedImage(),
    "diagnostics": m.DiagnosticArray(
        STAMP,
        (
            m.DiagnosticStatus(
                m.DiagnosticStatus.WARN,
                "convcut",
                "2 frames dropped",
                "cpu",
                (m.KeyValue("n", "2"),),
            ),
            m.DiagnosticStatus(),
        ),
    ),
    "no diagnostics": m.DiagnosticArray(),
}


def raw_image(frame: NDArray[np.uint8], format: str, header: m.Header) -> m.Image:
    """A frame as a camera sends it, its rows without gaps."""
    width, height = frame_size(frame, format)
    step = width * FORMATS[format]
    return m.Image(header, height, width, format, 0, step, frame.tobytes())


def classes() -> list[type[Message]]:
    """Every message class."""
    return Message.__subclasses__()


def parts(message: Message) -> Iterator[tuple[str, Any]]:
    """The fields of a message with their values."""
    for field in fields(message):  # type: ignore[arg-type]
        yield field.name, getattr(message, field.name)


_NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "byte": st.integers(0, 127),  # rosbags writes it signed
    "uint8": st.integers(0, 255),
    "uint16": st.integers(0, 65535),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "uint8[]": st.binary(max_size=20),
    "float64[36]": st.lists(st.floats(allow_nan=False), min_size=36, max_size=36).map(tuple),
}
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


def random(annotation: Any) -> st.SearchStrategy[Any]:
    """Random values of an annotation: a message class, or the type of one of its fields."""
    if annotation is str:
        return _TEXT
    if get_origin(annotation) is tuple:
        return st.lists(random(get_args(annotation)[0]), max_size=3).map(tuple)
    if isinstance(annotation, type) and issubclass(annotation, Message):
        hints = get_type_hints(annotation, include_extras=True)
        names = [field.name for field in fields(annotation)]  # type: ignore[arg-type]
        return st.builds(annotation, **{name: random(hints[name]) for name in names})
    return _NUMBERS[annotation.__metadata__[0]]
