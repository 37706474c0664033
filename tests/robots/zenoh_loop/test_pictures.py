"""Pictures over Zenoh in every form, and answers as JSON."""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import pytest
import zenoh
import zenoh.ext

from convcut_trt.errors import InputError
from convcut_trt.robots.messages import CompressedImage, Expression, Header, Image
from convcut_trt.robots.zenoh_keys import attachment, stamp
from convcut_trt.robots.zenoh_node import open_sink, open_source
from convcut_trt.sources import Frame
from convcut_trt.stream import Stream
from tests.results import ABOUT, SECOND
from tests.robots.cases import raw_image
from tests.robots.zenoh_loop.robot import (
    HEADER,
    PATIENCE_S,
    PICTURE,
    Robot,
    connect,
    encoded,
    one_face,
    pump,
    wait,
)
from tests.stream.loop import FakeEngine


def bodies(samples: list[zenoh.Sample]) -> list[dict[str, Any]]:
    return [json.loads(sample.payload.to_bytes()) for sample in samples]


def test_jpeg_in_json_out(robot: Robot) -> None:
    answers, health = robot.listen("faces/front"), robot.listen("faces/front/health")
    with ExitStack() as opened:
        sink = opened.enter_context(closing(open_sink(f"faces/front{connect(robot.port)}", ABOUT)))
        source = open_source(f"camera/front{connect(robot.port)}")
        stream = opened.enter_context(Stream(FakeEngine(), source, detector=one_face))
        thread = pump(stream, sink)
        camera = robot.camera("camera/front")
        for number in range(100, 110):
            picture = encoded(level=100 + number)
            camera.put(picture, attachment=stamp(number, number * SECOND), encoding="image/jpeg")
            wait(lambda seen=number: len(answers) > seen - 100, "an answer")  # type: ignore[misc]
        stream.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        wait(lambda: health, "the health")
    found = bodies(answers)
    assert [entry["sequence"] for entry in found] == list(range(100, 110))
    assert [entry["timestamp"] for entry in found] == [n * SECOND for n in range(100, 110)]
    for entry in found:
        assert (entry["width"], entry["height"], entry["frame_id"]) == (48, 32, "camera/front")
        (seen,) = entry["faces"]
        assert seen["box"] == [4, 4, 24, 24] and set(seen["probabilities"]) == set(ABOUT.classes)
    assert str(answers[0].encoding) == "application/json"
    (figures,) = bodies(health)
    assert (figures["processed"], figures["dropped"], figures["bad"]) == (10, 0, 0)


def test_what_is_not_answered_is_counted(robot: Robot) -> None:
    answers = robot.listen("faces")
    count = 150
    with closing(open_sink(f"faces{connect(robot.port)}", ABOUT)) as sink:
        source = open_source(f"camera{connect(robot.port)}")
        with Stream(FakeEngine(lambda: time.sleep(0.01)), source, detector=one_face) as stream:
            thread = pump(stream, sink)
            camera = robot.camera("camera")
            picture = encoded()
            for number in range(count):
                camera.put(picture, attachment=stamp(number, number))
            wait(lambda: stream.health().frames == count, "the last frame")
            wait(lambda: any(a["sequence"] == count - 1 for a in bodies(answers)), "its answer")
            stream.stop()
            thread.join(PATIENCE_S)
            health = stream.health()
    numbers = [entry["sequence"] for entry in bodies(answers)]
    assert numbers == sorted(set(numbers))
    assert health.dropped == count - len(numbers) > 0


def test_a_damaged_picture_is_counted_and_the_loop_goes_on(robot: Robot) -> None:
    answers = robot.listen("faces")
    good = encoded()
    with closing(open_sink(f"faces{connect(robot.port)}", ABOUT)) as sink:
        source = open_source(f"camera{connect(robot.port)}")
        with Stream(FakeEngine(), source, detector=one_face) as stream:
            thread = pump(stream, sink)
            camera = robot.camera("camera")
            for bad, payload in enumerate((good[:-200], b"", b"no picture"), 1):
                camera.put(payload)
                wait(lambda seen=bad: stream.health().bad == seen, "the count")  # type: ignore[misc]
            camera.put(good)
            wait(lambda: answers, "an answer")
            stream.stop()
            thread.join(PATIENCE_S)
    assert [entry["sequence"] for entry in bodies(answers)] == [3]  # counted: none came along


def received(robot: Robot, key: str, *options: str, **sample: Any) -> Frame:
    """What a source makes of one sample."""
    source = open_source(f"{key}{connect(robot.port, *options)}")
    frames: list[Frame] = []
    thread = threading.Thread(target=lambda: frames.extend(source), daemon=True)
    thread.start()
    try:
        robot.camera(sample.pop("at", key)).put(sample.pop("payload"), **sample)
        wait(lambda: frames, "the frame")
    finally:
        source.stop()
        thread.join(PATIENCE_S)
        source.close()
    assert not thread.is_alive() and len(frames) == 1
    return frames[0]


RMW_IMAGE = f"7/cam/raw/{Image.dds_type}/{Image.rihs01}"
RMW_JPEG = f"7/cam/raw/{CompressedImage.dds_type}/TypeHashNotSupported"


@pytest.mark.parametrize(
    ("options", "sample", "tolerance"),
    [
        ((), {"payload": encoded("JPEG"), "encoding": "image/jpeg"}, 9),
        ((), {"payload": encoded("PNG")}, 0),
        ((), {"payload": encoded("WEBP")}, 9),
        ((), {"payload": PICTURE.tobytes(), "encoding": "zenoh/bytes;rgb8;48x32"}, 0),
        ((), {"payload": PICTURE[..., ::-1].tobytes(), "encoding": "image/raw;bgr8;48x32"}, 0),
        (
            ("ros=rmw_zenoh", "domain=7"),
            {"at": RMW_IMAGE, "payload": raw_image(PICTURE, "rgb8", HEADER).encode()},
            0,
        ),
        (
            ("ros=rmw_zenoh", "domain=7"),
            {"at": RMW_JPEG, "payload": CompressedImage(HEADER, "jpeg", encoded()).encode()},
            9,
        ),
        (("ros=bridge",), {"payload": CompressedImage(HEADER, "png", encoded("PNG")).encode()}, 0),
        (("ros=bridge",), {"payload": raw_image(PICTURE, "rgb8", HEADER).encode()}, 0),
    ],
)
def test_pictures_in_every_form(
    robot: Robot, options: tuple[str, ...], sample: dict[str, Any], tolerance: int
) -> None:
    beside = attachment(41, 17 * SECOND, bytes(16))
    frame = received(robot, "cam/raw", *options, **sample, attachment=beside)
    assert np.abs(frame.picture().astype(int) - PICTURE).mean() <= tolerance
    assert frame.sequence == 41
    if options:
        assert (frame.timestamp, frame.frame_id) == (HEADER.stamp.ns, "front")
    else:
        assert (frame.timestamp, frame.frame_id) == (17 * SECOND, "cam/raw")


@pytest.mark.parametrize(
    "beside", [None, b"somebody's own", uuid.UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479").bytes]
)
def test_the_time_is_zenohs_where_nobody_else_gives_one(robot: Robot, beside: bytes | None) -> None:
    before = time.time_ns()
    frame = received(robot, "cam", payload=encoded(), attachment=beside)
    assert before - 10**6 <= frame.timestamp <= time.time_ns() + 10**6 and frame.sequence == 0


def test_an_image_without_a_stamp_has_that_of_its_message(robot: Robot) -> None:
    image = raw_image(PICTURE, "rgb8", Header(frame_id="front")).encode()
    beside = attachment(1, 17 * SECOND, bytes(16))
    frame = received(robot, "cam", "ros=bridge", payload=image, attachment=beside)
    assert frame.timestamp == 17 * SECOND


@pytest.mark.parametrize(
    ("options", "sample"),
    [
        ((), {"payload": encoded()[:300]}),
        ((), {"payload": b"\xff\xd8\xff\xe0 and no more"}),
        ((), {"payload": PICTURE.tobytes()[:-1], "encoding": "zenoh/bytes;rgb8;48x32"}),
        ((), {"payload": PICTURE.tobytes(), "encoding": "zenoh/bytes;yuyv;48x32"}),
        ((), {"payload": b"", "encoding": "zenoh/bytes;rgb8;0x0"}),
        (("ros=bridge",), {"payload": encoded()}),
        (("ros=bridge",), {"payload": Expression(HEADER, "happy").encode()}),
        (("ros=bridge",), {"payload": Image(HEADER, 2, 2, "16UC1", 0, 4, bytes(8)).encode()}),
        (("ros=bridge",), {"payload": CompressedImage(HEADER, "jpeg", b"no").encode()}),
    ],
)
def test_a_payload_that_is_no_picture_is_said_when_its_turn_comes(
    robot: Robot, options: tuple[str, ...], sample: dict[str, Any]
) -> None:
    frame = received(robot, "cam", *options, **sample)
    with pytest.raises(InputError):
        frame.picture()


def test_a_source_that_waits_can_be_stopped(robot: Robot) -> None:
    source = open_source(f"cam{connect(robot.port)}")
    thread = threading.Thread(target=lambda: list(source), daemon=True)
    thread.start()
    source.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    source.close()
    source.close()
