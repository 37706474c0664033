"""Pictures that are unusual, damaged or made to harm, each with what has to become of it.

``READ`` and ``REFUSED`` hold one function for each row of ``docs/pictures.md``, under its name. It writes files
into a folder and gives, for each, the pixels that have to come out of it; from ``REFUSED`` the path alone.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]
WHITE = (255, 255, 255)


def gradient(height: int = 12, width: int = 18) -> Pixels:
    """A picture that differs in every pixel, from every side."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 20, x * 14, (x + y) * 8], axis=-1).astype(np.uint8)


def flat(colour: tuple[int, int, int], height: int = 16, width: int = 16) -> Pixels:
    """One colour all over."""
    return np.full((height, width, 3), colour, np.uint8)


def packed(picture: Image.Image, format: str, **options: Any) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF that says how the picture is to be turned."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with a sound checksum."""
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *between: bytes) -> bytes:
    """A PNG of raw rows without their filter bytes; ``between`` lies before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    step = len(rows) // height if height else 0
    filtered = b"".join(b"\0" + rows[at : at + step] for at in range(0, len(rows), step or 1))
    parts = [chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(filtered))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def with_chunk(file: bytes, name: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return file[:33] + chunk(name, data) + file[33:]


def tiff(tags: Mapping[int, tuple[int, int, int]], pixels: bytes, order: str = "<") -> bytes:
    """A TIFF whose pixels lie at byte 8 and whose tags are (type, count, value or place)."""
    place = 8 + len(pixels) + len(pixels) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place)
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (
            struct.pack(f"{order}HH", value, 0)
            if kind == 3 and count == 1
            else struct.pack(f"{order}I", value)
        )
        for tag, (kind, count, value) in sorted(tags.items())
    )
    body = head + pixels + bytes(len(pixels) % 2)
    return body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def grey_tags(side: int, length: int) -> dict[int, tuple[int, int, int]]:
    """Of a TIFF of side x side grey pixels of 8 bits, without compression."""
    return {
        256: (4, 1, side),
        257: (4, 1, side),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, side),
        279: (4, 1, length),
    }


def many_tags(count: int, size: int) -> bytes:
    """A TIFF of 4 x 4 pixels, ``count`` of whose tags all point at the same ``size`` bytes."""
    tags = grey_tags(4, 16) | {1000 + number: (7, size, 8) for number in range(count)}
    return tiff(tags, bytes(size))


class Files:
    """Writes pictures into a folder under numbered names."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.count = folder, name, 0

    def write(self, suffix: str, data: bytes) -> Path:
        """One file more."""
        self.count += 1
        path = self.folder / f"{self.name} {self.count}.{suffix}"
        path.write_bytes(data)
        return path

    def save(self, suffix: str, picture: Image.Image, **options: Any) -> Path:
        """One picture more, by Pillow."""
        self.count += 1
        path = self.folder / f"{self.name} {self.count}.{suffix}"
        picture.save(path, **options)
        return path


Read = Iterator[tuple[Path, Pixels]]
Refused = Iterator[Path]


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
