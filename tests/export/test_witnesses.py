"""The pictures that travel with models: made by this code, and the ones that are bundled."""

from pathlib import Path

import numpy as np
import pytest

from convcut_trt.home import GATE_PICTURES
from convcut_trt.pictures import load_picture

pytest.importorskip("skimage")
from export import witnesses  # noqa: E402 it needs scikit-image


def test_the_bundled_gate_pictures_are_the_ones_this_code_makes() -> None:
    with np.load(GATE_PICTURES, allow_pickle=False) as file:
        bundled = file["pictures"]
    assert bundled.shape == (256, 64, 64, 3)
    assert np.array_equal(bundled, witnesses.gate_pictures())


def test_witnesses_are_colour_and_their_boxes_lie_inside() -> None:
    pictures = witnesses.pictures()
    assert len(pictures) == witnesses.COUNT == 16
    for picture in pictures:
        height, width = picture.pixels.shape[:2]
        x, y, box_width, box_height = picture.box
        assert 0 <= x < x + box_width <= width
        assert 0 <= y < y + box_height <= height
        assert np.ptp(picture.pixels.astype(int), axis=2).max() > 20


def test_a_witness_file_is_named_by_its_content(tmp_path: Path) -> None:
    picture = witnesses.portrait()
    file, digest = witnesses.write(tmp_path, picture)
    assert digest[:12] in file
    assert np.array_equal(load_picture(tmp_path / file), picture.pixels)
    before = (tmp_path / file).stat().st_mtime_ns
    assert witnesses.write(tmp_path, picture) == (file, digest)
    assert (tmp_path / file).stat().st_mtime_ns == before
