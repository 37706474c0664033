"""What a robot is told of a face: the labels of ROS4HRI, and the messages that carry them.

REP-155 has seven strings for our eight classes: ``fear`` is ``scared``, ``anger`` is ``angry`` and so on;
``contempt`` has none. Two topics with two promises:

- ``hri_msgs/Expression`` makes one statement in REP-155's words, or none. Where the network's answer is a
  class without such a word, or less certain than the reject threshold, the string is ``unknown`` (not one of
  REP-155's) and the confidence is 0: who looks at the confidence alone ignores it too. The second-best class
  is never published instead: a face that is 90 % contempt is not "60 % neutral".
- ``vision_msgs/Classification`` always holds all probabilities, contempt under its own name.

**Valence and arousal are not estimated.** They hold 0.0, the messages' default, which lies within REP-155's
[-1, 1] and is what ``hri_emotion_recognizer`` publishes; it does not mean a calm face. NaN would say so more
plainly, but breaks JSON bridges and every subscriber that averages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.robots.messages import (
    BoundingBox2D,
    Classification,
    Detection2D,
    Expression,
    Header,
    LabelInfo,
    NormalizedRegionOfInterest2D,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)

UNKNOWN = "unknown"
ROS4HRI = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprised",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "scared",
}
"""Our class names and the strings of ``hri_msgs/Expression``."""
# The constants of hri_msgs/Expression: a network with such classes publishes them as they are.
_CONSTANTS = frozenset(
    (*ROS4HRI.values(), "pleading", "vulnerable", "despaired", "guilty", "disappointed")
    + ("embarrassed", "horrified", "skeptical", "annoyed", "furious", "suspicious", "rejected")
    + ("bored", "tired", "asleep", "confused", "amazed", "excited")
)

Box = tuple[float, float, float, float]


def ros_label(name: str) -> str:
    """What a class is called in messages: the string of ROS4HRI, its own name where there is none."""
    return ROS4HRI.get(name, name)


def expression(label: str, probability: float, reject: float, header: Header) -> Expression:
    """The statement about one face.

    Args:
        label: The chosen class, or ``UNKNOWN``.
        probability: Of this class, 0 to 1.
        reject: Below this probability nothing is claimed.
        header: Of the image, copied.
    """
    word = ros_label(label)
    if word not in _CONSTANTS or not probability >= reject:  # a NaN claims nothing either
        return Expression(header, UNKNOWN)
    return Expression(header, word, confidence=float(probability))


def classification(
    classes: Sequence[str], probabilities: NDArray[np.float32], header: Header
) -> Classification:
    """All probabilities of one face, the largest first.

    Args:
        classes: The K names of the spec.
        probabilities: [K].
        header: Of the image, copied.

    Raises:
        InputError: Not one finite probability a class.
    """
    return Classification(header, _hypotheses(classes, probabilities))


def detection(
    classes: Sequence[str],
    probabilities: NDArray[np.float32],
    box: Box,
    face_id: str,
    header: Header,
) -> Detection2D:
    """One face of a ``Detection2DArray``: all probabilities, the largest first, with its box.

    Args:
        classes: The K names of the spec.
        probabilities: [K].
        box: (x, y, width, height) in pixels.
        face_id: Of its track.
        header: Of the image, copied.

    Raises:
        InputError: Not one finite probability a class, or a box that is not finite.
    """
    x, y, width, height = _finite(box)
    center = Pose2D(Point2D(x + width / 2, y + height / 2))
    results = tuple(
        ObjectHypothesisWithPose(hypothesis) for hypothesis in _hypotheses(classes, probabilities)
    )
    return Detection2D(header, results, BoundingBox2D(center, width, height), face_id)


def region(
    box: Box, size: tuple[int, int], confidence: float, header: Header
) -> NormalizedRegionOfInterest2D:
    """A face's box as shares of the picture, what lies outside cut off.

    Args:
        box: (x, y, width, height) in pixels.
        size: Width and height of the picture in pixels.
        confidence: Of the detector, 0 to 1.
        header: Of the image, copied.

    Raises:
        InputError: The box is not finite.
    """
    x, y, width, height = _finite(box)
    sides = (size[0], size[1], size[0], size[1])
    ends = zip((x, y, x + width, y + height), sides, strict=True)
    xmin, ymin, xmax, ymax = (min(max(end / side, 0.0), 1.0) for end, side in ends)
    return NormalizedRegionOfInterest2D(header, xmin, ymin, xmax, ymax, confidence)


def label_info(classes: Sequence[str], reject: float, header: Header) -> LabelInfo:
    """The names behind the outputs of the network, as the other messages use them.

    Args:
        classes: The K names of the spec.
        reject: Below this probability nothing is claimed.
        header: When it was published.
    """
    names = tuple(VisionClass(index, ros_label(name)) for index, name in enumerate(classes))
    return LabelInfo(header, names, reject)


def _hypotheses(
    classes: Sequence[str], probabilities: NDArray[np.float32]
) -> tuple[ObjectHypothesis, ...]:
    if probabilities.shape != (len(classes),) or not np.isfinite(probabilities).all():
        raise InputError(
            f"a face has one finite probability for each of {len(classes)} classes, "
            f"these are {probabilities.tolist()!s:.80}: pass one face's probabilities"
        )
    order = np.argsort(-probabilities, kind="stable")
    return tuple(
        ObjectHypothesis(ros_label(classes[index]), float(probabilities[index])) for index in order
    )


def _finite(box: Box) -> Box:
    if not all(math.isfinite(value) for value in box):
        raise InputError(
            f"a face box is four finite numbers in pixels, this is {box}: drop the face"
        )
    return box
