"""Where results go: addresses, and the JSON of a frame."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from convcut_trt.errors import InputError
from convcut_trt.robots.sinks import JsonLines, open_sink, record
from tests.results import ABOUT, CLASSES, face, result


def test_a_frame_is_one_line_of_json() -> None:
    file = io.StringIO()
    sink = JsonLines(file, ABOUT)
    for number in range(3):
        sink.send(result(face(track=4), face(track=9), sequence=number))
    sink.close()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["sequence"] for line in lines] == [0, 1, 2]
    assert [entry["track"] for entry in lines[0]["faces"]] == [4, 9]
    assert not file.closed


def test_what_a_frame_says() -> None:
    said = record(result(face(track=3), sequence=5, timestamp=123), ABOUT)
    one = said.pop("faces")[0]
    assert said == {
        **{"sequence": 5, "timestamp": 123, "frame_id": "camera_color_optical_frame"},
        **{"width": 160, "height": 120, "latency_ms": 12.5, "late": False},
    }
    assert one["box"] == [10, 20, 30, 40] and one["label"] == "fear" and one["confidence"] == 0.8
    assert tuple(one["probabilities"]) == tuple(one["smoothed"]) == CLASSES
    assert one["smoothed"]["fear"] == 0.8 and one["probabilities"]["fear"] == 0.7
    assert sum(one["smoothed"].values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("address", ["", "nowhere", "kafka:topic", "faces.txt", "zenoh", "stdout:"])
def test_an_unknown_address_names_those_there_are(address: str) -> None:
    with pytest.raises(InputError) as caught:
        open_sink(address, ABOUT)
    assert all(word in str(caught.value) for word in ("zenoh:", "stdout", ".mp4", ".mcap"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        open_sink(str(tmp_path / "missing" / "a.mcap"), ABOUT)
