"""Recordings as sources: the pictures of an MCAP file, ours or one that ``ros2 bag record`` wrote.

A file whose end is missing or damaged gives all pictures up to there, chunk by chunk, and then one error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from convcut_trt.errors import InputError
from convcut_trt.optional import load
from convcut_trt.robots.address import parse
from convcut_trt.robots.cdr import Buffer
from convcut_trt.robots.images import frame_of
from convcut_trt.robots.messages import CompressedImage, Image
from convcut_trt.sources import Frame

if TYPE_CHECKING:
    from mcap.records import Channel, Schema

_MAGIC = b"\x89MCAP0\r\n"
_LISTED = 8  # topics in an error
_MOST_BYTES = (
    128 << 20
)  # of a chunk, unpacked: rosbag2's have 768 kB, or one picture where that is more


def open_source(address: str) -> Recording:
    """Opens a recording.

    Args:
        address: A path, or ``PATH?topic=TOPIC`` where more than one camera was recorded.

    Raises:
        InputError: Not an MCAP file, or not to be read.
        BackendMissing: The package mcap is not installed; the text names the extra.
    """
    if os.path.exists(address):  # Path.exists raises where a name is too long
        return Recording(Path(address))
    path, options = parse(address, {"topic": ""}, "run.mcap?topic=/camera/image/compressed")
    return Recording(Path(path), options["topic"])


class Recording:
    """The pictures of one topic, in the order of the file: ``sensor_msgs/msg/Image`` or ``CompressedImage`` in CDR.

    They come as fast as they are asked for, with the timestamps and frame ids of their headers, numbered from 0,
    and are decoded when their turn comes. A message that is none of its type is a frame that cannot be decoded.

    Attributes:
        live: False: the pictures wait for whoever takes them.
    """

    live = False

    def __init__(self, path: Path, topic: str = "") -> None:
        """Looks at the first bytes.

        Args:
            path: Of the file.
            topic: Whose pictures; "" is the topic of the first one.

        Raises:
            InputError: Not an MCAP file, or not to be read.
            BackendMissing: The package mcap is not installed.
        """
        load("mcap", "mcap")
        self._path, self._topic = path, topic
        try:
            with path.open("rb") as file:
                start = file.read(len(_MAGIC))
        except (OSError, ValueError) as error:  # ValueError: no file can be called so
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{path} cannot be read: {reason}") from error
        if start != _MAGIC:
            kind = "holds no MCAP recording" if start else "is empty: nothing was recorded"
            raise InputError(
                f"{path} {kind}; give a file of `--to x.mcap` or `ros2 bag record -s mcap`, other bags are "
                "converted by `ros2 bag convert`"
            )

    def __iter__(self) -> Iterator[Frame]:
        from mcap.exceptions import EndOfFile
        from mcap.stream_reader import StreamReader

        count = 0
        others: dict[str, str] = {}  # topic -> what it holds
        try:
            with self._path.open("rb") as file:
                whole: Any = _Whole(file, self._path.stat().st_size)
                reader = StreamReader(whole, emit_chunks=True, validate_crcs=True)
                for frame in self._frames(_unpacked(reader.records), others):
                    yield frame
                    count += 1
        except EndOfFile as error:
            raise InputError(
                f"{self._path} has no end, after {count} pictures: it is still being recorded, or its recorder was "
                "killed; `mcap recover` makes a whole file of it"
            ) from error
        except Exception as error:  # damaged bytes raise almost anything
            raise InputError(
                f"{self._path} is damaged after {count} pictures ({type(error).__name__}: {error}): "
                "take another copy, or let `mcap recover` save what follows"
            ) from error
        if not count:
            wanted = f"on {self._topic}" if self._topic else "that can be read"
            names = [f"{topic} ({kind})" for topic, kind in sorted(others.items())]
            names[_LISTED:] = ["..."] if len(names) > _LISTED else []
            raise InputError(
                f"{self._path} holds no pictures {wanted}: record sensor_msgs/msg/Image or CompressedImage in CDR; "
                f"there are {', '.join(names) or 'no messages at all'}"
            )

    def _frames(self, records: Iterator[Any], others: dict[str, str]) -> Iterator[Frame]:
        from mcap.records import Channel, Message, Schema

        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        topic, number = self._topic, 0
        for record in records:
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels[record.channel_id]
                schema = schemas.get(channel.schema_id)
                kind = schema.name if schema is not None else "no schema"
                reader = _READERS.get(kind) if channel.message_encoding == "cdr" else None
                if reader is not None and channel.topic == (topic or channel.topic):
                    topic = channel.topic
                    # A header whose time was never set: that of the recording instead.
                    yield frame_of(record.data, reader, number, record.log_time)
                    number += 1
                else:
                    others[channel.topic] = f"{kind} in {channel.message_encoding or 'no encoding'}"


_READERS: dict[str, Callable[[Buffer], CompressedImage | Image]] = {
    kind.ros_type: kind.decode for kind in (CompressedImage, Image)
}


def _unpacked(records: Iterator[Any]) -> Iterator[Any]:
    """The records of a file, those in chunks among them."""
    from mcap.records import Chunk
    from mcap.stream_reader import breakup_chunk

    for record in records:
        if not isinstance(record, Chunk):
            yield record
            continue
        if max(record.uncompressed_size, len(record.data)) > _MOST_BYTES:
            raise ValueError(f"a chunk of {record.uncompressed_size} bytes")
        # What a chunk claims to unpack to need not be true: nothing is unpacked beyond that.
        data = _UNPACK.get(record.compression, _stored)(record.data, record.uncompressed_size)
        if len(data) != record.uncompressed_size:
            raise ValueError("a chunk does not unpack to the size that it states")
        yield from breakup_chunk(replace(record, compression="", data=data), validate_crc=True)


def _stored(data: bytes, size: int) -> bytes:
    return data


def _lz4(data: bytes, size: int) -> bytes:
    unpacked: bytes = load("lz4.frame", "mcap").LZ4FrameDecompressor().decompress(data, size + 1)
    return unpacked


def _zstd(data: bytes, size: int) -> bytes:
    unpacker = load("zstandard", "mcap").ZstdDecompressor(max_window_size=_MOST_BYTES)
    unpacked: bytes = unpacker.stream_reader(data).read(size + 1)
    return unpacked


_UNPACK = {"lz4": _lz4, "zstd": _zstd}


class _Whole:
    """A file that gives what is asked for or nothing: a record that is cut short is no record."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, length: int) -> bytes:
        # Not even tried: a damaged length may be more than the memory, or negative.
        if not 0 <= length <= self._left:
            return b""
        data = self._file.read(length)
        self._left -= length
        return data if len(data) == length else b""
