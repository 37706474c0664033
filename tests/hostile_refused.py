"""Pictures that are damaged or made to harm, or no pictures at all, and are refused.

``REFUSED`` holds one function for each row of the table "Refused" of ``docs/pictures.md``, under its name. It
writes files into a folder and gives their paths.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile_files import Files, grey_tags, packed, png, tiff

Refused = Iterator[Path]


def cut_short(files: Files) -> Refused:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for format in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"):
        whole = packed(noise, format)
        for share in (0.02, 0.5, 0.9):
            yield files.write(format.lower(), whole[: int(len(whole) * share)])
    yield files.write("tif", packed(noise, "TIFF", compression="tiff_lzw")[:4000])


def claims(files: Files) -> Refused:
    small = Image.new("RGB", (8, 8))
    yield files.write("png", png(60_000, 60_000, 8, 2, bytes(9)))
    yield files.write("png", png(8_000, 5_001, 8, 2, bytes(9)))
    gif = bytearray(packed(small, "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    yield files.write("gif", bytes(gif))
    jpeg = bytearray(packed(small, "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 7_000, 7_000)
    yield files.write("jpg", bytes(jpeg))
    bmp = bytearray(packed(small, "BMP"))
    bmp[18:26] = struct.pack("<ii", 7_000, 7_000)
    yield files.write("bmp", bytes(bmp))
    yield files.write("ppm", b"P6 7000 7000 255\n" + bytes(99))
    yield files.write("tif", tiff(grey_tags(7_000, 16), bytes(16)))
    webp = bytearray(
        packed(small, "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    )
    webp[24:30] = (6_999).to_bytes(3, "little") * 2
    yield files.write("webp", bytes(webp))


def large_file(files: Files) -> Refused:
    for suffix, start in (
        ("png", b""),
        ("webp", b"RIFF\xff\xff\xff\x7fWEBPVP8 "),
        ("tif", b"II*\0"),
    ):
        path = files.write(suffix, start)
        os.truncate(path, 2 << 30)  # sparse: no disk is filled
        yield path


def no_pixels(files: Files) -> Refused:
    small = Image.new("RGB", (8, 8))
    gif = bytearray(packed(small, "GIF"))
    gif[6:10] = bytes(4)
    at = gif.rindex(b",\0\0\0\0")
    gif[at + 5 : at + 9] = bytes(4)
    yield files.write("gif", bytes(gif))
    yield files.write("png", png(0, 0, 8, 2, b""))
    yield files.write("ppm", b"P6 0 0 255\n")
    yield files.write("tif", tiff(grey_tags(0, 0), b""))
    bmp = bytearray(packed(small, "BMP"))
    bmp[18:26] = bytes(8)
    yield files.write("bmp", bytes(bmp))
    jpeg = bytearray(packed(small, "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = bytes(4)
    yield files.write("jpg", bytes(jpeg))


def no_picture(files: Files) -> Refused:
    yield files.write("png", b"not a picture")
    yield files.write("png", bytes(range(256)) * 8)
    yield files.write("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    yield files.write("jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    yield files.write("jpg", b"\0\0\0\x1cftypavif" + bytes(40))
    yield files.write("jpg", b"\0\0\0\x18ftypheic" + bytes(40))
    yield files.write("ppm", b"P3 1 1 255\n1 2 3\n")
    yield files.write("tif", b"%PDF-1.7\n")


def integers(files: Files) -> Refused:
    yield files.save("tif", Image.fromarray(np.full((2, 2), 1 << 20, np.int32)))
    yield files.save("tif", Image.fromarray(np.full((2, 2), -1, np.int32)))


def floats(files: Files) -> Refused:
    for value in (0.5, np.nan, np.inf):
        yield files.save("tif", Image.fromarray(np.full((2, 2), value, np.float32)))


def passes(files: Files) -> Refused:
    whole = packed(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    yield files.write("jpg", whole[:-2] + scan * 100 + whole[-2:])
    # A comment between the passes that looks like the picture's end.
    hidden = b"\xff\xfe\0\4\xff\xd9"
    yield files.write("jpg", whole[:-2] + hidden + scan * 100 + whole[-2:])


def tags(files: Files) -> Refused:
    strips = grey_tags(4, 16) | {273: (4, 600_000, 8), 279: (4, 600_000, 8)}
    yield files.write("tif", tiff(strips, bytes(2_400_000)))


def tiles(files: Files) -> Refused:
    sides = grey_tags(16, 16)
    for tag in (273, 278, 279):
        del sides[tag]
    placed = {322: (4, 1, 1 << 15), 323: (4, 1, 1 << 15), 324: (4, 1, 8), 325: (4, 1, 16)}
    yield files.write("tif", tiff(sides | placed, bytes(16)))


def not_a_file(files: Files) -> Refused:
    folder = files.folder / f"{files.name}.png"
    folder.mkdir()
    yield folder
    pipe = files.folder / f"{files.name}, a pipe.png"
    os.mkfifo(pipe)
    yield pipe
    device = files.folder / f"{files.name}, a device.png"
    device.symlink_to("/dev/zero")
    yield device


def empty(files: Files) -> Refused:
    yield files.write("png", b"")


def missing(files: Files) -> Refused:
    dangling = files.folder / f"{files.name}.png"
    dangling.symlink_to(files.folder / "nowhere")
    yield dangling


REFUSED: dict[str, Callable[[Files], Refused]] = {
    "cut short": cut_short,
    "too many pixels": claims,
    "too large a file": large_file,
    "no pixels": no_pixels,
    "no picture": no_picture,
    "32-bit integers": integers,
    "floating point": floats,
    "too many passes": passes,
    "too many tags": tags,
    "too large tiles": tiles,
    "not a file": not_a_file,
    "empty file": empty,
    "missing": missing,
}
