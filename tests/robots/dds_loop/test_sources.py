"""DDS: our source, of the images that independent writers send."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from cyclonedds.idl import IdlStruct
from PIL import Image as Pillow

from convcut_trt.errors import InputError
from convcut_trt.faces.detect import whole_picture
from convcut_trt.robots import dds_source, messages
from convcut_trt.robots.dds_node import open_source
from convcut_trt.robots.dds_types import carrier
from convcut_trt.stream import Stream
from tests.robots.dds_loop.others import (
    PATIENCE_S,
    CompressedImage,
    Expression,
    Header,
    Image,
    Time,
    until,
    writer,
)
from tests.stream.loop import FakeEngine

STAMP = Header(Time(1_700_000_000, 5), "camera")


def jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_camera_of_another_program_is_a_source(domain: int, compressed: bool) -> None:
    pixels = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    message: Image | CompressedImage
    if compressed:
        topic, message = "/camera/compressed", CompressedImage(STAMP, "jpeg", list(jpeg(pixels)))
    else:
        data = list(pixels.tobytes())
        topic, message = "/camera", Image(STAMP, 48, 64, "rgb8", 0, 192, data)
    camera = writer(domain, topic, type(message))
    source = open_source(f"{topic}?domain={domain}")
    with Stream(FakeEngine(), source, detector=whole_picture) as stream:
        answers = iter(stream)
        until(camera.get_matched_subscriptions)
        for number in range(3):
            message.header = Header(Time(7, number), "optical")
            camera.write(message)
            answer = next(answers)
            assert answer.frame.timestamp == 7 * 10**9 + number
            assert (answer.frame.frame_id, answer.frame.sequence) == ("optical", number)
            assert np.abs(answer.picture.astype(int) - pixels).max() <= 3 * compressed
    source.stop()
    source.close()
    assert not camera.get_matched_subscriptions()


def test_an_unstamped_image_has_the_time_of_its_sending(domain: int) -> None:
    camera = writer(domain, "/camera", Image)
    source = open_source(f"/camera?domain={domain}")
    until(camera.get_matched_subscriptions)
    before = time.time_ns()
    camera.write(Image(Header(Time(0, 0), "c"), 1, 1, "mono8", 0, 1, [7]))
    frame = next(iter(source))
    assert before <= frame.timestamp <= time.time_ns()
    source.close()


def test_images_that_cannot_be_read_are_counted_and_the_stream_goes_on(domain: int) -> None:
    kind = carrier(messages.Image)
    camera = writer(domain, "/camera", kind)
    good = messages.Image(messages.Header(messages.Time(9), "?"), 1, 2, "mono8", 0, 2, b"ab")
    bad = [
        messages.Image(good.header, 100, 100, "rgb8", 0, 300, b"short").encode(),
        messages.Image(good.header, 1, 2, "16UC1", 0, 4, b"abcd").encode(),
        messages.Image().encode(),
        good.encode().replace(b"?\0", b"\xff\0"),  # not UTF-8
    ]
    source = open_source(f"camera?domain={domain}")
    until(camera.get_matched_subscriptions)
    for cdr in [*bad, good.encode()]:
        camera.write(kind(cdr))
    with Stream(FakeEngine(), source, detector=whole_picture, newest=False) as stream:
        answer = next(iter(stream))
        assert (answer.frame.timestamp, answer.frame.sequence) == (9 * 10**9, 4)
        assert (stream.health().processed, stream.health().bad) == (1, 4)


@pytest.mark.parametrize(
    ("address", "topic", "kind", "word"),
    [
        ("/camera", "/camera", CompressedImage, "type=compressed"),
        ("/camera?type=compressed", "/camera", Image, "type=image"),
        ("/humans/faces/x/expression", "/humans/faces/x/expression", Expression, "Expression_"),
    ],
)
def test_a_topic_of_another_type_is_said(
    domain: int,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    topic: str,
    kind: type[IdlStruct],
    word: str,
) -> None:
    monkeypatch.setattr(dds_source, "_SILENCE_S", 0.05)
    _other = writer(domain, topic, kind)
    mark = "&" if "?" in address else "?"
    source = open_source(f"{address}{mark}domain={domain}")
    with (
        Stream(FakeEngine(), source, detector=whole_picture) as stream,
        pytest.raises(InputError, match=word),
    ):
        next(iter(stream))


def test_stop_wakes_the_thread_that_waits(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dds_source, "_SILENCE_S", 600.0)
    source = open_source(f"/camera?domain={domain}")
    ended = threading.Event()

    def read() -> None:
        assert list(source) == []
        source.close()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    time.sleep(0.1)  # it waits by now; if not, the test is weaker
    source.stop()
    assert ended.wait(PATIENCE_S)
    source.stop()
    source.close()
