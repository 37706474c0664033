"""The demo clip: what the script draws is what lies in ``examples``."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from convcut_trt.faces.haar import Haar
from export import clip
from export.drawing import Mood

COMMITTED = Path(__file__).parents[2] / "examples" / "faces.mp4"


def test_the_committed_clip_is_what_the_script_draws() -> None:
    capture = cv2.VideoCapture(str(COMMITTED))
    assert capture.get(cv2.CAP_PROP_FPS) == clip.RATE
    count = 0
    while (answer := capture.read())[0]:
        if count % 40 == 0:
            rgb = answer[1][..., ::-1].astype(int)
            assert rgb.shape == (clip.HEIGHT, clip.WIDTH, 3)
            difference = abs(rgb - clip.picture(count).astype(int))
            assert difference.mean() < 3
            assert np.percentile(difference, 99) < 25
        count += 1
    assert count == clip.FRAMES
    assert COMMITTED.stat().st_size < 600_000


def test_a_detector_without_a_file_finds_both_people() -> None:
    find, both = Haar(), []
    numbers = range(75, 200, 12)
    for number in numbers:
        boxes = find(clip.picture(number))
        middles = boxes[:, 0] + boxes[:, 2] / 2
        places = [clip.place_at(part, number / clip.RATE)[0] for part in clip.PARTS]
        both.append(all((abs(middles - place) < 25).any() for place in places))
    assert sum(both) >= 0.8 * len(numbers)


def test_expressions_pass_into_each_other_and_eyes_blink() -> None:
    lids = Mood._fields.index("lids")
    for part in clip.PARTS:
        moods = np.array([clip.mood_at(part, number / 30) for number in range(clip.FRAMES)])
        assert abs(np.diff(np.delete(moods, lids, axis=1), axis=0)).max() < 0.3
        for blink in part.blinks:
            assert moods[round(blink * 30), lids] < -0.8
        last = clip.MOODS[part.moods[-1][1]]
        assert clip.mood_at(part, clip.FRAMES / clip.RATE) == pytest.approx(last)


def test_the_command_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clip, "FRAMES", 2)
    assert clip.main(["-o", str(tmp_path / "new" / "faces.mp4")]) == 0
    assert "2 frames" in capsys.readouterr().out
    assert clip.main(["-o", str(tmp_path)]) == 2
    (tmp_path / "file").touch()
    assert clip.main(["-o", str(tmp_path / "file" / "faces.mp4")]) == 2
    assert "another place" in capsys.readouterr().err
