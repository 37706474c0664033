"""One picture of a user's. What becomes of unusual and harmful ones: ``test_hostile_pictures``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convcut_trt.errors import InputError
from convcut_trt.pictures import list_pictures, load_picture, shown_name
from tests.hostile_files import gradient, png


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif"])
def test_lossless_rgb_comes_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(gradient()).save(path)
    picture = load_picture(path)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous and picture.flags.writeable
    np.testing.assert_array_equal(picture, gradient())


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "named.jpg"
    Image.fromarray(gradient()).save(path, format="PNG")
    np.testing.assert_array_equal(load_picture(str(path)), gradient())


def test_grey_on_request_is_exact_for_grey_and_luma_for_colour(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "as_rgb.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "as_rgb.png", grey=True), grey)
    Image.fromarray(gradient()).save(tmp_path / "colour.png")
    luma = gradient().astype(float) @ [0.299, 0.587, 0.114]
    measured = load_picture(tmp_path / "colour.png", grey=True)
    np.testing.assert_allclose(measured, luma, atol=0.51)


def empty_png(path: Path, width: int, height: int) -> Path:
    """A PNG with sound checksums that claims a size and holds a few bytes."""
    path.write_bytes(png(width, height, 8, 2, bytes(9)))
    return path


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_bomb_warning_turned_error_is_the_same_refusal(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="limit of 40 million"):
        load_picture(empty_png(tmp_path / "bomb.png", 12_000, 9_000))


def test_the_limit_itself_is_decoded_not_refused(tmp_path: Path) -> None:
    # 64 bytes of pixels are there: it fails because of that, not because of its size.
    with pytest.raises(InputError, match="damaged or cut short"):
        load_picture(empty_png(tmp_path / "large.png", 8_000, 5_000))


def test_a_folder_is_listed_by_name_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "._a.jpg", "notes.txt", "c.avif"):
        (tmp_path / name).touch()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.JPG", "b.png"]
    with pytest.raises(InputError, match="nowhere"):
        list_pictures(tmp_path / "nowhere")


def test_any_name_can_be_shown() -> None:
    assert shown_name(Path("portrait \N{GRINNING FACE}.png")) == "portrait \N{GRINNING FACE}.png"
    assert shown_name(Path("\udcff.png")) == "\N{REPLACEMENT CHARACTER}.png"
