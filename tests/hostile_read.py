"""Pictures that are unusual or carry something harmful, and are read all the same.

``READ`` holds one function for each row of the table "Read" of ``docs/pictures.md``, under its name. It writes
files into a folder and gives, for each, the pixels that have to come out of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.hostile_files import (
    Files,
    Pixels,
    chunk,
    exif,
    flat,
    gradient,
    grey_tags,
    many_tags,
    packed,
    png,
    tiff,
    with_chunk,
)

WHITE = (255, 255, 255)
Read = Iterator[tuple[Path, Pixels]]


def colour_8(files: Files) -> Read:
    for suffix in ("png", "bmp", "ppm", "tif"):
        yield files.save(suffix, Image.fromarray(gradient())), gradient()
    yield files.save("webp", Image.fromarray(gradient()), lossless=True), gradient()


def grey_8(files: Files) -> Read:
    grey = gradient()[..., 1]
    for suffix in ("png", "bmp", "pgm", "tif", "gif"):
        yield files.save(suffix, Image.fromarray(grey)), np.dstack([grey] * 3)
    yield files.save("jpg", Image.new("L", (16, 16), 77), quality=95), flat((77, 77, 77))


def sixteen_bits(files: Files) -> Read:
    high = gradient()
    deep = high.astype(np.uint16) << 8 | 0xA5
    grey, rows = deep[..., 1], np.dstack([high[..., 1]] * 3)
    for suffix in ("png", "tif"):
        yield files.save(suffix, Image.fromarray(grey)), rows
    yield files.write("pgm", b"P5 18 12 65535\n" + grey.astype(">u2").tobytes()), rows
    yield files.write("png", png(18, 12, 16, 2, deep.astype(">u2").tobytes())), high
    for order in "<>":
        data = deep.astype(f"{order}u2").tobytes()
        tags = grey_tags(18, len(data) - 6) | {
            257: (4, 1, 12),
            258: (3, 3, 8),
            262: (3, 1, 2),
            273: (4, 1, 14),
            277: (3, 1, 3),
        }
        bits = struct.pack(f"{order}HHH", 16, 16, 16)
        tags[279] = (4, 1, len(data))
        yield files.write("tif", tiff(tags, bits + data, order)), high


def one_bit(files: Files) -> Read:
    bits = gradient()[..., 1] > 100
    seen = np.dstack([bits.astype(np.uint8) * 255] * 3)
    for suffix in ("png", "tif", "bmp"):
        yield files.save(suffix, Image.fromarray(bits)), seen
    yield files.save("tif", Image.fromarray(bits), compression="group4"), seen


def palette(files: Files) -> Read:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    for suffix in ("png", "gif", "bmp", "tif"):
        yield files.save(suffix, picture), np.array([[[10, 20, 30], [200, 100, 50]]], np.uint8)


def transparent(files: Files) -> Read:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    seen = np.array([[[10, 20, 30], WHITE]], np.uint8)
    for suffix in ("png", "gif"):
        yield files.save(suffix, picture, transparency=1), seen
    yield files.save("png", picture, transparency=b"\xff\x00"), seen
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = [0, 255, 128]
    over = np.array([[WHITE, (0, 0, 0), (127, 127, 127)]], np.uint8)
    for suffix in ("png", "tif"):
        yield files.save(suffix, Image.fromarray(rgba)), over
        la = Image.fromarray(rgba).convert("LA")
        yield files.save(suffix, la), over
    yield files.save("webp", Image.fromarray(rgba), lossless=True, exact=True), over
    key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    yield (
        files.write("png", png(2, 1, 8, 2, bytes([1, 2, 3, 4, 5, 6]), key)),
        np.array([[WHITE, (4, 5, 6)]], np.uint8),
    )
    deep = struct.pack(">8H", 0x1122, 0x3344, 0x5566, 0xFFFF, 0x1122, 0x3344, 0x5566, 0)
    yield (
        files.write("png", png(2, 1, 16, 6, deep)),
        np.array([[(0x11, 0x33, 0x55), WHITE]], np.uint8),
    )


def cmyk(files: Files) -> Read:
    red = flat((255, 0, 0))
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    yield files.save("tif", ink), red
    adobe = packed(ink, "JPEG", quality=100)
    yield files.write("jpg", adobe), red
    begin = adobe.index(b"\xff\xee")
    plain = adobe[:begin] + adobe[begin + 16 :]
    yield files.write("jpg", plain), red
    # YCCK: the ink as Y, Cb and Cr, which for (0, 255, 255) are 179, 171 and 0, the black inverted.
    ycck = bytearray(packed(Image.new("CMYK", (16, 16), (76, 84, 255, 0)), "JPEG", quality=100))
    ycck[ycck.index(b"Adobe") + 11] = 2
    yield files.write("jpg", bytes(ycck)), red


def turned(files: Files) -> Read:
    upright = gradient()
    # What a camera stores so that a viewer shows ``upright``, by the table of the EXIF standard.
    stored = (
        upright,
        upright[:, ::-1],
        upright[::-1, ::-1],
        upright[::-1],
        upright.transpose(1, 0, 2),
        np.rot90(upright, 1),
        np.rot90(upright, 2).transpose(1, 0, 2),
        np.rot90(upright, -1),
    )
    for orientation, pixels in enumerate(stored, 1):
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        yield files.save("png", picture, exif=exif(orientation)), upright
        yield files.save("tif", picture, exif=exif(orientation)), upright
        lossless = {"lossless": True, "exif": exif(orientation)}
        yield files.save("webp", picture, **lossless), upright
        blocks = Image.fromarray(np.ascontiguousarray(pixels).repeat(8, 0).repeat(8, 1))
        path = files.save("jpg", blocks, quality=100, subsampling=0, exif=exif(orientation))
        yield path, upright.repeat(8, 0).repeat(8, 1)


def bad_exif(files: Files) -> Read:
    file = packed(Image.fromarray(gradient()), "PNG")
    for block in (b"", b"II*\0", b"no EXIF", bytes(range(256)), exif(9).tobytes()):
        yield files.write("png", with_chunk(file, b"eXIf", block)), gradient()
    picture = Image.new("RGB", (16, 16), (200, 200, 200))
    yield files.save("jpg", picture, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), flat((200, 200, 200))


def profile(files: Files) -> Read:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for suffix in ("png", "tif"):
        yield files.save(suffix, Image.fromarray(gradient()), icc_profile=icc), gradient()
    path = files.save("webp", Image.fromarray(gradient()), lossless=True, icc_profile=icc)
    yield path, gradient()
    picture = Image.new("RGB", (16, 16), (90, 90, 90))
    yield files.save("jpg", picture, icc_profile=icc), flat((90, 90, 90))


def animated(files: Files) -> Read:
    first = Image.new("RGB", (16, 16), (255, 0, 0))
    more = [Image.new("RGB", (16, 16), (0, 0, shade)) for shade in (255, 128)]
    options: dict[str, Any] = {"save_all": True, "append_images": more}
    yield files.save("gif", first, **options), flat((255, 0, 0))
    yield files.save("png", first, **options), flat((255, 0, 0))
    yield files.save("webp", first, lossless=True, **options), flat((255, 0, 0))


def pages(files: Files) -> Read:
    first = Image.fromarray(gradient())
    more = [Image.new("RGB", (900, 900), "blue")]
    for compression in ("raw", "tiff_lzw"):
        options: dict[str, Any] = {"save_all": True, "append_images": more}
        yield files.save("tif", first, compression=compression, **options), gradient()
    grey = Image.new("RGB", (16, 16), (60, 60, 60))
    options = {"save_all": True, "append_images": [Image.new("RGB", (32, 32), "red")]}
    yield files.save("mpo", grey, **options), flat((60, 60, 60))
    behind = packed(grey, "JPEG") + b"\xff\xda" * 100_000
    yield files.write("jpg", behind), flat((60, 60, 60))


def wrong_suffix(files: Files) -> Read:
    yield files.write("jpg", packed(Image.fromarray(gradient()), "PNG")), gradient()
    yield files.write("png", packed(Image.fromarray(gradient()), "BMP")), gradient()
    jpeg = packed(Image.new("RGB", (16, 16), (9, 9, 9)), "JPEG")
    yield files.write("tif", jpeg), flat((9, 9, 9))


def metadata(files: Files) -> Read:
    file = packed(Image.fromarray(gradient()), "PNG")
    inflating = zlib.compress(bytes(50_000_000), 9)
    for name in (b"zTXt", b"iCCP"):
        yield files.write("png", with_chunk(file, name, b"a\0\0" + inflating)), gradient()
    texts = chunk(b"iTXt", b"a\0\1\0\0\0" + inflating) * 100
    yield files.write("png", file[:33] + texts + file[33:]), gradient()
    sharing = many_tags(2000, 60_000)
    yield files.write("png", with_chunk(file, b"eXIf", sharing)), gradient()
    black = np.zeros((4, 4, 3), np.uint8)
    yield files.write("tif", sharing), black
    jpeg = packed(Image.new("RGB", (16, 16), (9, 9, 9)), "JPEG")
    note = b"\xff\xe1" + struct.pack(">H", 60_000) + b"Exif\0\0" + many_tags(2000, 36_000)[:59_992]
    yield files.write("jpg", jpeg[:2] + note * 50 + jpeg[2:]), flat((9, 9, 9))
    gif = packed(Image.fromarray(gradient()[..., 0]), "GIF")
    comment = b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0"
    at = gif.index(b",", 13 + (3 << (gif[10] & 7) + 1))
    grey = np.dstack([gradient()[..., 0]] * 3)
    yield files.write("gif", gif[:at] + comment + gif[at:]), grey


READ: dict[str, Callable[[Files], Read]] = {
    "8 bits, colour": colour_8,
    "8 bits, grey": grey_8,
    "16 bits a channel": sixteen_bits,
    "1 bit": one_bit,
    "palette": palette,
    "transparency": transparent,
    "CMYK and YCCK": cmyk,
    "EXIF orientation": turned,
    "damaged EXIF": bad_exif,
    "colour profile": profile,
    "animation": animated,
    "several pages": pages,
    "wrong suffix": wrong_suffix,
    "harmful metadata": metadata,
}
