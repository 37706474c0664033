"""The ROS 2 messages that a camera sends and that expressions are sent in.

Fields as in the public definitions (Apache-2.0, hri_msgs BSD): ``hri_msgs`` of ros4hri (branch humble-devel),
``vision_msgs`` 4.1.1 of ros-perception (branch ros2), ``std_msgs``, ``sensor_msgs``, ``geometry_msgs`` and
``diagnostic_msgs`` of ROS 2 common_interfaces; the hashes are what rosbags 0.11.9 computes from them. Only
what a field means beyond its name is said here; lengths are in pixels with the origin at the top left, x to
the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from convcut_trt.robots.idl import (
    Message,
    byte,
    float32,
    float64,
    int32,
    octets,
    uint8,
    uint16,
    uint32,
)

_NS = 10**9


@dataclass(frozen=True)
class Time(
    Message,
    ros_type="builtin_interfaces/msg/Time",
    rihs01="b106235e25a4c5ed35098aa0a61a3ee9c9b18d197f398b0e4206cea9acf9c197",
):
    """Seconds since 1970 (up to 2038) and the nanoseconds beyond them."""

    sec: int32 = 0
    nanosec: uint32 = 0

    @classmethod
    def from_ns(cls, ns: int) -> Time:
        """The time ``ns`` nanoseconds after 1970."""
        return cls(*divmod(ns, _NS))

    @property
    def ns(self) -> int:
        """Nanoseconds since 1970."""
        return self.sec * _NS + self.nanosec


@dataclass(frozen=True)
class Header(
    Message,
    ros_type="std_msgs/msg/Header",
    rihs01="f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01",
):
    """When an image was taken, and the coordinate frame of its camera: answers copy it from their image."""

    stamp: Time = Time()
    frame_id: str = ""


@dataclass(frozen=True)
class Image(
    Message,
    ros_type="sensor_msgs/msg/Image",
    rihs01="d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
):
    """Raw pixels; ``step`` is bytes from row to row. See ``images.to_frame``."""

    header: Header = Header()
    height: uint32 = 0
    width: uint32 = 0
    encoding: str = ""
    is_bigendian: uint8 = 0
    step: uint32 = 0
    data: octets = b""


@dataclass(frozen=True)
class CompressedImage(
    Message,
    ros_type="sensor_msgs/msg/CompressedImage",
    rihs01="15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
):
    """The bytes of a JPEG or PNG file. See ``images.decompress``."""

    header: Header = Header()
    format: str = ""
    data: octets = b""


@dataclass(frozen=True)
class Expression(
    Message,
    ros_type="hri_msgs/msg/Expression",
    rihs01="411b88e0604397d44775d8ec6a4bc69398fb0dfbfe864c33a40fa99ee85f1b00",
):
    """One face's expression as REP-155 has it. See ``expressions.expression``."""

    header: Header = Header()
    expression: str = ""
    valence: float32 = 0.0
    arousal: float32 = 0.0
    confidence: float32 = 0.0


@dataclass(frozen=True)
class IdsList(
    Message,
    ros_type="hri_msgs/msg/IdsList",
    rihs01="7e0812d1ac945c98fd3e393568d581ad0ab567f37b24eff633eab778c1bfe62d",
):
    """The faces tracked now."""

    header: Header = Header()
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class NormalizedRegionOfInterest2D(
    Message,
    ros_type="hri_msgs/msg/NormalizedRegionOfInterest2D",
    rihs01="2e50c93f1ca166ee77af9a5424dc951ae4e452b740162a7f83c082d917dcaff5",
):
    """A box as shares of the picture's width and height, 0 to 1; ``c`` is the confidence."""

    header: Header = Header()
    xmin: float32 = 0.0
    ymin: float32 = 0.0
    xmax: float32 = 0.0
    ymax: float32 = 0.0
    c: float32 = 0.0


@dataclass(frozen=True)
class ObjectHypothesis(
    Message,
    ros_type="vision_msgs/msg/ObjectHypothesis",
    rihs01="51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
):
    """A label and its probability."""

    class_id: str = ""
    score: float64 = 0.0


@dataclass(frozen=True)
class Classification(
    Message,
    ros_type="vision_msgs/msg/Classification",
    rihs01="f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
):
    """The probabilities of one face."""

    header: Header = Header()
    results: tuple[ObjectHypothesis, ...] = ()


@dataclass(frozen=True)
class Point(
    Message,
    ros_type="geometry_msgs/msg/Point",
    rihs01="6963084842a9b04494d6b2941d11444708d892da2f4b09843b9c43f42a7f6881",
):
    """In metres."""

    x: float64 = 0.0
    y: float64 = 0.0
    z: float64 = 0.0


@dataclass(frozen=True)
class Quaternion(
    Message,
    ros_type="geometry_msgs/msg/Quaternion",
    rihs01="8a765f66778c8ff7c8ab94afcc590a2ed5325a1d9a076ffff38fbce36f458684",
):
    """A rotation, by default none."""

    x: float64 = 0.0
    y: float64 = 0.0
    z: float64 = 0.0
    w: float64 = 1.0


@dataclass(frozen=True)
class Pose(
    Message,
    ros_type="geometry_msgs/msg/Pose",
    rihs01="d501954e9476cea2996984e812054b68026ae0bfae789d9a10b23daf35cc90fa",
):
    """Place and rotation."""

    position: Point = Point()
    orientation: Quaternion = Quaternion()


@dataclass(frozen=True)
class PoseWithCovariance(
    Message,
    ros_type="geometry_msgs/msg/PoseWithCovariance",
    rihs01="9a7c0fd234b7f45c6098745ecccd773ca1085670e64107135397aee31c02e1bb",
):
    """A pose and its 6x6 covariance, row after row."""

    pose: Pose = Pose()
    covariance: Annotated[tuple[float, ...], "float64[36]"] = (0.0,) * 36


@dataclass(frozen=True)
class ObjectHypothesisWithPose(
    Message,
    ros_type="vision_msgs/msg/ObjectHypothesisWithPose",
    rihs01="41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
):
    """A label and its probability; the pose stays at its default, none is estimated."""

    hypothesis: ObjectHypothesis = ObjectHypothesis()
    pose: PoseWithCovariance = PoseWithCovariance()


@dataclass(frozen=True)
class Point2D(
    Message,
    ros_type="vision_msgs/msg/Point2D",
    rihs01="eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
):
    """In pixels."""

    x: float64 = 0.0
    y: float64 = 0.0


@dataclass(frozen=True)
class Pose2D(
    Message,
    ros_type="vision_msgs/msg/Pose2D",
    rihs01="b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
):
    """A place, and a rotation in radians."""

    position: Point2D = Point2D()
    theta: float64 = 0.0


@dataclass(frozen=True)
class BoundingBox2D(
    Message,
    ros_type="vision_msgs/msg/BoundingBox2D",
    rihs01="008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
):
    """A box by its centre and its sides in pixels."""

    center: Pose2D = Pose2D()
    size_x: float64 = 0.0
    size_y: float64 = 0.0


@dataclass(frozen=True)
class Detection2D(
    Message,
    ros_type="vision_msgs/msg/Detection2D",
    rihs01="0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
):
    """One face: its probabilities, its box and its track."""

    header: Header = Header()
    results: tuple[ObjectHypothesisWithPose, ...] = ()
    bbox: BoundingBox2D = BoundingBox2D()
    id: str = ""


@dataclass(frozen=True)
class Detection2DArray(
    Message,
    ros_type="vision_msgs/msg/Detection2DArray",
    rihs01="214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
):
    """All faces of one image."""

    header: Header = Header()
    detections: tuple[Detection2D, ...] = ()


@dataclass(frozen=True)
class VisionClass(
    Message,
    ros_type="vision_msgs/msg/VisionClass",
    rihs01="1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
):
    """The name of one output of the network."""

    class_id: uint16 = 0
    class_name: str = ""


@dataclass(frozen=True)
class LabelInfo(
    Message,
    ros_type="vision_msgs/msg/LabelInfo",
    rihs01="3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
):
    """The names of all outputs, and the probability below which none is claimed."""

    header: Header = Header()
    class_map: tuple[VisionClass, ...] = ()
    threshold: float32 = 0.0


@dataclass(frozen=True)
class KeyValue(
    Message,
    ros_type="diagnostic_msgs/msg/KeyValue",
    rihs01="d68081eaa540288c5440753baecef0c4e16e81a5f78ad68902ded5100413bb42",
):
    """One figure of a part's health."""

    key: str = ""
    value: str = ""


@dataclass(frozen=True)
class DiagnosticStatus(
    Message,
    ros_type="diagnostic_msgs/msg/DiagnosticStatus",
    rihs01="b0e3e692ea2d54a8af2f4ef1930e81556a2db55216b771f8a7d2724ed47bf0e4",
):
    """The health of one part of the robot."""

    OK: ClassVar[int] = 0
    WARN: ClassVar[int] = 1
    ERROR: ClassVar[int] = 2
    STALE: ClassVar[int] = 3

    level: byte = OK
    name: str = ""
    message: str = ""
    hardware_id: str = ""
    values: tuple[KeyValue, ...] = ()


@dataclass(frozen=True)
class DiagnosticArray(
    Message,
    ros_type="diagnostic_msgs/msg/DiagnosticArray",
    rihs01="5a8a36efb05fb25070fa0fb3810290c0e6cd4862b54a8fb975a1ee8dc55a333e",
):
    """What a node reports on ``/diagnostics``."""

    header: Header = Header()
    status: tuple[DiagnosticStatus, ...] = ()
