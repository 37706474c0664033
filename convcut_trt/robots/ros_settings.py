"""The parameters of the ROS 2 node: their defaults, limits and texts, and when each may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.robots.publish import FACES
from convcut_trt.robots.ros_wire import ros
from convcut_trt.track import Tracking

FIXED = "fixed"
CONFIGURED = "configured"
TUNABLE = "tunable"
_HOUR = 3600.0


def _parameter(default: Any, when: str, text: str, most: float = 0.0, least: float = 0.0) -> Any:
    return field(
        default=default, metadata={"when": when, "text": text, "least": least, "most": most}
    )


@dataclass(frozen=True)
class Settings:
    """The values of all parameters; the texts in the fields' metadata are what ``ros2 param describe`` says."""

    engine: str = _parameter(
        DEFAULT_MODEL, CONFIGURED, "model name, folder of engines, or an engine's manifest"
    )
    precision: str = _parameter("", CONFIGURED, "fp32, fp16, ...; empty: the newest engine")
    backend: str = _parameter(
        "auto", CONFIGURED, "tensorrt, tensorrt-rtx, onnxruntime, or auto: the first that runs"
    )
    image_topic: str = _parameter(
        "", CONFIGURED, "topic of camera images; empty: follow the faces of a ROS4HRI detector"
    )
    compressed: bool = _parameter(False, CONFIGURED, "image_topic carries CompressedImage")
    detector: str = _parameter(
        "", CONFIGURED, "with image_topic: YuNet's .onnx file, haar, whole; empty: what is there"
    )
    faces_topic: str = _parameter(FACES, CONFIGURED, "what the topics of faces lie below")
    reject: float = _parameter(
        -1.0, TUNABLE, "probability below which nothing is claimed; -1: the model's own", 1.0, -1.0
    )
    time_constant: float = _parameter(
        0.3, TUNABLE, "s, of the moving average of the probabilities; 0: none", _HOUR
    )
    hysteresis: float = _parameter(
        0.1, TUNABLE, "lead that another expression needs to take over; 0: none", 1.0
    )
    dwell: float = _parameter(0.5, TUNABLE, "s that an expression stays at least; 0: none", _HOUR)
    gap: float = _parameter(1.0, TUNABLE, "s without its image after which a face is new", _HOUR)
    max_rate: float = _parameter(0.0, TUNABLE, "answers per second at most; 0: every image", 1e3)
    diagnostics_period: float = _parameter(1.0, FIXED, "s between diagnostics", _HOUR, 0.05)

    def tracking(self) -> Tracking:
        """How faces are followed and smoothed."""
        return Tracking(
            gap=self.gap,
            time_constant=self.time_constant,
            hysteresis=self.hysteresis,
            dwell=self.dwell,
            reject=None if self.reject < 0 else self.reject,
        )


def when(name: str) -> str:
    """When the parameter may change: ``FIXED`` never, ``CONFIGURED`` before configuring, ``TUNABLE`` later, too."""
    return str(_FIELDS[name].metadata["when"])


_FIELDS: Mapping[str, Field[Any]] = {entry.name: entry for entry in fields(Settings)}


def declare(node: Any) -> None:
    """Declares all parameters; ROS itself holds their types and limits from then on.

    Raises:
        rclpy.exceptions.ParameterException: A value given at the start has the wrong type, or is out of range.
    """
    node.declare_parameters(
        "", [(entry.name, entry.default, _descriptor(entry)) for entry in _FIELDS.values()]
    )


def _descriptor(entry: Field[Any]) -> Any:
    messages = ros("rcl_interfaces.msg")
    limits = []
    if isinstance(entry.default, float):
        least, most = entry.metadata["least"], entry.metadata["most"]
        limits = [messages.FloatingPointRange(from_value=least, to_value=most, step=0.0)]
    fixed = entry.metadata["when"] == FIXED
    return messages.ParameterDescriptor(
        description=entry.metadata["text"], read_only=fixed, floating_point_range=limits
    )


def read(node: Any) -> Settings:
    """The values that a node's parameters have now."""
    return Settings(**{name: node.get_parameter(name).value for name in _FIELDS})


def changes(parameters: Any) -> Iterator[tuple[str, Any]]:
    """Those of the parameters that are being set which are ours: ROS has some of its own."""
    for parameter in parameters:
        if parameter.name in _FIELDS:
            yield parameter.name, parameter.value
