"""What Foxglove's image panel draws over a picture: boxes and labels, as messages of ``foxglove_msgs``.

Fields as in foxglove_msgs 3.2 (MIT), the hashes are what rosbags 0.11.9 computes from them. The definition travels
with a recording, so readers of later versions, which have more fields, read this one, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from convcut_trt.robots.expressions import ros_label
from convcut_trt.robots.idl import Message, float64, uint8
from convcut_trt.robots.messages import Time
from convcut_trt.robots.publish import face_id
from convcut_trt.track import UNKNOWN

if TYPE_CHECKING:
    from convcut_trt.stream import Result


@dataclass(frozen=True)
class Color(
    Message,
    ros_type="foxglove_msgs/msg/Color",
    rihs01="ed1b16da40c954e6456b950c2ef4559c179e5cb98f1363cb28c3b90c6ee14120",
):
    """Red, green, blue and opacity, each 0 to 1."""

    r: float64 = 0.0
    g: float64 = 0.0
    b: float64 = 0.0
    a: float64 = 0.0


@dataclass(frozen=True)
class Point2(
    Message,
    ros_type="foxglove_msgs/msg/Point2",
    rihs01="d85e823b78e2e88bc31629e305558bcdd2ecc9225f5f9390f96d91930f5696f0",
):
    """In pixels from the top left corner of the picture."""

    x: float64 = 0.0
    y: float64 = 0.0


@dataclass(frozen=True)
class CircleAnnotation(
    Message,
    ros_type="foxglove_msgs/msg/CircleAnnotation",
    rihs01="d3d8a00505117be541fe8b4b601aa90d5088209a75f313e3779be54db324d15b",
):
    """A circle; there are none in ours."""

    timestamp: Time = Time()
    position: Point2 = Point2()
    diameter: float64 = 0.0
    thickness: float64 = 0.0
    fill_color: Color = Color()
    outline_color: Color = Color()


@dataclass(frozen=True)
class PointsAnnotation(
    Message,
    ros_type="foxglove_msgs/msg/PointsAnnotation",
    rihs01="61bd8dda01243d9c7232f00d9101577291b5a9bc1855b06ada4a29e0dc0496a7",
):
    """Points, and the lines between them."""

    LINE_LOOP: ClassVar[int] = 2

    timestamp: Time = Time()
    type: uint8 = 0
    points: tuple[Point2, ...] = ()
    outline_color: Color = Color()
    outline_colors: tuple[Color, ...] = ()
    fill_color: Color = Color()
    thickness: float64 = 0.0


@dataclass(frozen=True)
class TextAnnotation(
    Message,
    ros_type="foxglove_msgs/msg/TextAnnotation",
    rihs01="c02ec64b79eb5682e73b2b2572f127a27baec868b6ad6acc085abc39355a5b2b",
):
    """A text by its bottom left corner; its size is in pixels."""

    timestamp: Time = Time()
    position: Point2 = Point2()
    text: str = ""
    font_size: float64 = 0.0
    text_color: Color = Color()
    background_color: Color = Color()


@dataclass(frozen=True)
class ImageAnnotations(
    Message,
    ros_type="foxglove_msgs/msg/ImageAnnotations",
    rihs01="47c6c0891ba263ec1b20d9b785c4261d4bc41051cbcc01668130e36aa2dcaee3",
):
    """All that is drawn over one picture."""

    circles: tuple[CircleAnnotation, ...] = ()
    points: tuple[PointsAnnotation, ...] = ()
    texts: tuple[TextAnnotation, ...] = ()


_WHITE = Color(1.0, 1.0, 1.0, 1.0)
_ACCENT = Color(0.13, 0.59, 0.95, 1.0)
_GREY = Color(0.47, 0.51, 0.55, 1.0)


def overlay(result: Result) -> ImageAnnotations:
    """A box around each face, and above it what is said of it: its id, its expression and how sure that is.

    Faces of which nothing is claimed are grey. Lines and letters grow with the picture.
    """
    stamp = Time.from_ns(result.frame.timestamp)
    thickness = max(1.0, result.picture.shape[0] / 240)
    boxes, texts = [], []
    for face in result.faces:
        x, y, width, height = (float(value) for value in face.box)
        colour = _GREY if face.label == UNKNOWN else _ACCENT
        corners = (
            *(Point2(x, y), Point2(x + width, y)),
            *(Point2(x + width, y + height), Point2(x, y + height)),
        )
        boxes.append(
            PointsAnnotation(
                stamp, PointsAnnotation.LINE_LOOP, corners, colour, thickness=thickness
            )
        )
        text = f"{face_id(face)} {ros_label(face.label)} {face.confidence:.0%}"
        texts.append(TextAnnotation(stamp, corners[0], text, 8 * thickness, _WHITE, colour))
    return ImageAnnotations((), tuple(boxes), tuple(texts))
