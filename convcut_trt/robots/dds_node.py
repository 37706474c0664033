"""``dds:TOPIC`` on the command line: results to, and images from, a ROS 2 network that speaks DDS."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from convcut_trt.errors import InputError
from convcut_trt.optional import load
from convcut_trt.robots.address import parse
from convcut_trt.robots.messages import CompressedImage, Image
from convcut_trt.robots.publish import FACES, RosSink

if TYPE_CHECKING:
    from convcut_trt.robots.dds_source import DdsImages
    from convcut_trt.robots.sinks import About

_KINDS = {"image": Image, "compressed": CompressedImage}
_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_LAST_DOMAIN = 232  # the ports of the next one are beyond 65535


def open_sink(rest: str, about: About) -> RosSink:
    """Publishes results below a topic, see ``publish``.

    Args:
        rest: ``TOPIC?domain=0``; both may be left out, for ``publish.FACES`` and ROS_DOMAIN_ID or 0.
        about: See ``sinks.About``.

    Raises:
        InputError: A bad address, or DDS does not start.
        BackendMissing: No cyclonedds.
    """
    topic, domain, _ = _address(rest, {}, f"dds:{FACES}?domain=0")
    load("cyclonedds", "dds")  # names the extra where it is missing
    from convcut_trt.robots.dds_wire import DdsWire

    return RosSink(DdsWire(domain), about, topic or FACES)


def open_source(rest: str) -> DdsImages:
    """Subscribes to a topic of images.

    Args:
        rest: ``TOPIC?domain=0&type=image``; the type is ``image`` or ``compressed``, by default the latter where
            the topic ends in ``/compressed``, as ROS names them.

    Raises:
        InputError: A bad address, or DDS does not start.
        BackendMissing: No cyclonedds.
    """
    example = "dds:/camera/image_raw/compressed?domain=0"
    topic, domain, options = _address(rest, {"type": ""}, example)
    if not topic:
        raise InputError(f"'dds:{rest}' names no topic to read images from: write it as {example}")
    name = options["type"] or ("compressed" if topic.endswith("/compressed") else "image")
    if name not in _KINDS:
        raise InputError(f"'dds:{rest}': type={name} is none of {', '.join(_KINDS)}")
    load("cyclonedds", "dds")  # names the extra where it is missing
    from convcut_trt.robots.dds_source import DdsImages

    return DdsImages(domain, topic, _KINDS[name])


def _address(rest: str, options: dict[str, str], example: str) -> tuple[str, int, dict[str, str]]:
    """The topic with its leading slash, or empty; the domain; and the other options."""
    default = os.environ.get("ROS_DOMAIN_ID") or "0"
    topic, values = parse(rest, {"domain": default, **options}, example)
    topic = f"/{topic.removeprefix('/')}" if topic else ""
    if topic and not _TOPIC.fullmatch(topic):
        raise InputError(
            f"{topic!r} is no ROS topic: its names are letters, digits and _, start with no digit, and have one / "
            f"between them, as in {example}"
        )
    domain = values["domain"]
    if not (domain.isascii() and domain.isdecimal() and int(domain) <= _LAST_DOMAIN):
        raise InputError(
            f"{domain!r} is no DDS domain: give a number from 0 to {_LAST_DOMAIN}, as in {example}, or in "
            "ROS_DOMAIN_ID"
        )
    return topic, int(domain), values
