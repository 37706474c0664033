"""What Foxglove draws: the messages against other encoders, and what is drawn for a face."""

from __future__ import annotations

import pytest
from hypothesis import given

from convcut_trt.robots import foxglove
from convcut_trt.robots.foxglove import ImageAnnotations, PointsAnnotation, overlay
from convcut_trt.track import UNKNOWN
from tests.results import face, result
from tests.robots.cases import random
from tests.robots.definitions import DEFINITIONS
from tests.robots.oracles import by_pycdr2, by_rosbags, rosbags_store

CLASSES = [
    getattr(foxglove, name.split("/")[-1]) for name in DEFINITIONS if name.startswith("foxglove")
]


def test_rosbags_gives_the_same_hashes_and_bytes() -> None:
    pytest.importorskip("rosbags")
    for cls in CLASSES:
        assert rosbags_store().hash_rihs01(cls.ros_type) == cls.rihs01

    @given(random(ImageAnnotations))
    def check(message: ImageAnnotations) -> None:
        assert by_rosbags(message) == message.encode()
        assert ImageAnnotations.decode(by_rosbags(message, little_endian=False)) == message

    check()


def test_pycdr2_gives_the_same_bytes() -> None:
    pytest.importorskip("pycdr2")

    @given(random(ImageAnnotations))
    def check(message: ImageAnnotations) -> None:
        assert by_pycdr2(message) == message.encode()

    check()


def test_a_face_is_a_box_with_its_expression_above() -> None:
    drawn = overlay(result(face(track=7, label="fear", confidence=0.8)))
    ((box,), (text,)) = (drawn.points, drawn.texts)
    assert box.type == PointsAnnotation.LINE_LOOP
    assert [(point.x, point.y) for point in box.points] == [(10, 20), (40, 20), (40, 60), (10, 60)]
    assert text.text == "f00007 scared 80%"
    assert text.position == box.points[0]
    assert box.timestamp.ns == text.timestamp.ns == 1_700_000_000 * 10**9
    assert drawn.encode()


def test_a_face_of_which_nothing_is_claimed_looks_different() -> None:
    drawn = overlay(result(face(), face(track=2, label=UNKNOWN, confidence=0.2)))
    sure, unsure = drawn.points
    assert sure.outline_color != unsure.outline_color
    assert [text.text for text in drawn.texts] == ["f00001 scared 80%", "f00002 unknown 20%"]


def test_without_a_face_nothing_is_drawn() -> None:
    assert overlay(result()) == ImageAnnotations()
