"""A file of ROS messages (MCAP) that stays readable whatever ends it: the wire of a recording."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from convcut_trt.errors import InputError
from convcut_trt.optional import load
from convcut_trt.robots.idl import Message
from convcut_trt.robots.messages import Header
from convcut_trt.robots.publish import Publisher

_CHUNK_S = 1.0
_MOST_CHANNELS = 2**16 - 1  # their numbers have 16 bits

# As rosbag2 wrote it up to version 8: numbers of rmw's enums. Humble reads nothing else; Jazzy and later read it
# where the file has a metadata record "rosbag2" without metadata in it.
_QOS = """\
- history: 1
  depth: {depth}
  reliability: 1
  durability: {durability}
  deadline:
    sec: 9223372036
    nsec: 854775807
  lifespan:
    sec: 9223372036
    nsec: 854775807
  liveliness: 1
  liveliness_lease_duration:
    sec: 9223372036
    nsec: 854775807
  avoid_ros_namespace_conventions: false"""
_LATCHED = _QOS.format(depth=1, durability=1)
_VOLATILE = _QOS.format(depth=10, durability=2)


class Log:
    """The wire into a file.

    Messages are sorted by the time of their frame (``log_time``); where the frames' clock jumps back, it runs on
    from where it was, until the clock has caught up. The time that a message's header states stays beside it
    (``publish_time``), and so does the number of its frame (``sequence``).
    """

    def __init__(self, path: Path) -> None:
        """Begins the file; for the errors see ``open_sink``."""
        load("mcap", "mcap")
        from mcap.writer import CompressionType, Writer

        from convcut_trt import __version__

        self._file = _File(path)
        self._writer = Writer(
            self._file,  # type: ignore[arg-type]
            compression=CompressionType.NONE,
            enable_data_crcs=True,
        )
        self._writer.start("ros2", f"convcut-trt {__version__}")
        self._writer.add_metadata("rosbag2", {})
        self._schemas: dict[str, int] = {}
        self._channels = 0
        self._early: list[tuple[int, Message]] = []  # of before the first frame
        self._begun = False
        self._now = self._shift = self._timestamp = self._sequence = 0
        self._due = time.monotonic() + _CHUNK_S

    def at(self, timestamp: int, sequence: int) -> None:
        """What is written from now on belongs to the frame with this timestamp (ns) and number."""
        if timestamp >= self._now:
            self._shift = 0
        elif timestamp + self._shift < self._now:
            self._shift = self._now - timestamp
        self._now = timestamp + self._shift
        self._timestamp, self._sequence = timestamp, sequence
        self._begun = True
        early, self._early = self._early, []
        for channel, message in early:
            self.write(channel, message)

    def advertise(self, topic: str, kind: type[Message], latched: bool) -> Publisher:
        """Opens a channel. Beyond 65535 of them, that is some 30000 faces, nothing is written.

        All faces are in the messages of ``detections`` all the same.
        """
        if self._channels == _MOST_CHANNELS:
            return _Channel(self, None)
        name = kind.ros_type
        if name not in self._schemas:
            definition = kind.definition().encode()
            self._schemas[name] = self._writer.register_schema(name, "ros2msg", definition)
        self._channels = self._writer.register_channel(
            topic,
            "cdr",
            self._schemas[name],
            {
                "offered_qos_profiles": _LATCHED if latched else _VOLATILE,
                "topic_type_hash": kind.rihs01,
            },
        )
        return _Channel(self, self._channels)

    def write(self, channel: int, message: Message) -> None:
        """Writes a message; what comes before the first frame is kept until there is a time to sort it by."""
        if not self._begun:
            self._early.append((channel, message))
            return
        header: Header | None = getattr(message, "header", None)
        stamp = self._timestamp if header is None else header.stamp.ns
        sequence = self._sequence % 2**32
        self._writer.add_message(channel, self._now, message.encode(), max(0, stamp), sequence)

    def end_chunk(self) -> None:
        """Hands the chunk to the system, once a second."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _CHUNK_S
            self._writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Writes the index and closes the file; again does nothing.

        After a full disk there is no index; the recording is whole without it.
        """
        if self._file.closed:
            return
        try:
            if self._early:
                self.at(time.time_ns(), 0)
            if not self._file.full:
                self._writer.finish()  # type: ignore[no-untyped-call]
        finally:
            self._file.close()


class _Channel:
    """Writes the messages of a topic, if it has a number."""

    def __init__(self, log: Log, number: int | None) -> None:
        self._log, self._number = log, number

    def publish(self, message: Message) -> None:
        if self._number is not None:
            self._log.write(self._number, message)

    def close(self) -> None:
        """Nothing: a channel stays in its file."""


class _File:
    """Takes whole records: of one that does not fit on the disk, nothing stays behind.

    Attributes:
        full: Whether there was such a record.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.full = False
        try:
            self._file = path.open("xb", buffering=0)
        except FileExistsError:
            raise InputError(
                f"{path} is there already, and no recording is overwritten: move it away, "
                f'or give a name of its own, such as "{path.stem}-$(date +%F-%H%M%S).mcap"'
            ) from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error.strerror}): give a folder that is there and may be written to"
            ) from error

    def write(self, data: bytes) -> int:
        start = self._file.tell()
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.full = True
            with suppress(OSError):
                self._file.truncate(start)
            raise InputError(
                f"{self._path} cannot grow beyond {start} bytes ({error.strerror}): make room on the disk and "
                "start another recording; what was recorded until then can be read"
            ) from error
        return len(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()
