"""One picture of a user's: what is decoded to what, and what is refused with which words."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from convcut_trt.errors import InputError
from convcut_trt.pictures import MAX_PIXELS, load_picture


def gradient(height: int = 6, width: int = 9) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 20, x * 20, (x + y) * 10], axis=-1).astype(np.uint8)


def write_png_header(path: Path, width: int, height: int) -> Path:
    """A PNG with sound checksums that claims a size and holds a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = gradient()
    # What a camera stores so that a viewer shows ``upright``, by the table of the EXIF standard.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(load_picture(path), upright)


def test_grey_and_black_and_white_get_equal_channels(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey > 50).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "grey.png"), np.dstack([grey] * 3))
    assert set(np.unique(load_picture(tmp_path / "bits.png"))) == {0, 255}


def test_grey_on_request_is_exact_for_grey_and_luma_for_colour(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "as_rgb.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "as_rgb.png", grey=True), grey)
    Image.fromarray(gradient()).save(tmp_path / "colour.png")
    luma = gradient().astype(float) @ [0.299, 0.587, 0.114]
    measured = load_picture(tmp_path / "colour.png", grey=True)
    np.testing.assert_allclose(measured, luma, atol=0.51)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_the_high_byte(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 255, 256], [0x1234, 0x80FF, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    picture = load_picture(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(picture[..., 1], [[0, 0, 1], [0x12, 0x80, 0xFF]])


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = [0, 255, 128]
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "alpha.png")[0, :, 0], [255, 0, 127])

    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "hole.png", transparency=1)
    expected = [[10, 20, 30], [200, 100, 50]]
    np.testing.assert_array_equal(load_picture(tmp_path / "palette.png")[0], expected)
    expected[1] = [255, 255, 255]
    np.testing.assert_array_equal(load_picture(tmp_path / "hole.png")[0], expected)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    np.testing.assert_array_equal(load_picture(tmp_path / "print.tif")[0, 0], [255, 0, 0])


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load_picture(tmp_path / "moving.gif")[0, 0], [255, 0, 0])


def encoded(tmp_path: Path, suffix: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    return (tmp_path / f"whole.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    whole = encoded(tmp_path, suffix)
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=f"cut.{suffix}"):
        load_picture(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_give_pixels_or_an_input_error_and_nothing_else(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for suffix in ("png", "jpg", "gif", "tif", "webp"):
        whole = np.frombuffer(encoded(tmp_path, suffix), dtype=np.uint8)
        for _ in range(40):
            broken = whole.copy()
            broken[generator.integers(0, min(len(broken), 400), 8)] = generator.integers(0, 256, 8)
            (tmp_path / "broken").write_bytes(broken.tobytes())
            try:
                assert load_picture(tmp_path / "broken").shape[2] == 3
            except InputError as error:
                assert "broken" in str(error)


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 9_000), (8_000, 5_001)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path, size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(InputError, match="bomb.png claims .* limit of 40 million: scale"):
        load_picture(write_png_header(tmp_path / "bomb.png", *size))


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_bomb_warning_turned_error_is_the_same_refusal(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="limit of 40 million"):
        load_picture(write_png_header(tmp_path / "bomb.png", 12_000, 9_000))


def test_the_limit_itself_is_decoded_not_refused(tmp_path: Path) -> None:
    # 64 bytes of pixels are there: it fails because of that, not because of its size.
    with pytest.raises(InputError, match="damaged or cut short"):
        load_picture(write_png_header(tmp_path / "large.png", 8_000, 5_000))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((2, 2), 1 << 20, dtype=np.int32)).save(tmp_path / "int.tif")
    table = {
        "nowhere.png": "does not exist",
        ".": "is not a file",
        "empty.png": "is empty",
        "text.png": "is not a picture that can be read",
        "page.eps": "is not a picture that can be read",
        "float.tif": "floating-point",
        "int.tif": "32 bits a pixel",
    }
    for name, reason in table.items():
        with pytest.raises(InputError, match=reason):
            load_picture(tmp_path / name)
