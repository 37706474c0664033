"""Answers to frames, made by hand: what sinks get."""

from __future__ import annotations

import numpy as np

from convcut_trt.home import find_model
from convcut_trt.robots.sinks import About
from convcut_trt.sources import Frame
from convcut_trt.stream import Result
from convcut_trt.track import Box, Face

CLASSES = find_model("conv-cut-mini").spec.classes
ABOUT = About("conv-cut-mini", CLASSES, reject=0.5)
SECOND = 10**9


def shares(label: str, confidence: float) -> np.ndarray:
    """Probabilities of which one is ``confidence`` and the rest alike."""
    rest = (1 - confidence) / (len(CLASSES) - 1)
    return np.array([confidence if name == label else rest for name in CLASSES], np.float32)


def face(
    track: int = 1,
    label: str = "fear",
    confidence: float = 0.8,
    box: Box = (10.0, 20.0, 30.0, 40.0),
) -> Face:
    """A face whose raw answer is a bit less sure than the smoothed one."""
    raw = shares(label, confidence - 0.1)
    return Face(track, box, raw, shares(label, confidence), label, confidence)


def result(*faces: Face, sequence: int = 0, timestamp: int = 1_700_000_000 * SECOND) -> Result:
    """A grey frame of 160x120 with these faces."""
    picture = np.full((120, 160, 3), 128, np.uint8)
    frame = Frame(picture, timestamp, "camera_color_optical_frame", sequence)
    return Result(frame, picture, faces, latency=0.0125, late=False)
