"""Addresses of transports."""

from __future__ import annotations

import pytest

from convcut_trt.errors import InputError
from convcut_trt.robots.address import parse

OPTIONS = {"connect": "", "ros": "", "domain": "0"}
EXAMPLE = "zenoh:robot/expressions?connect=tcp/localhost:7447"


@pytest.mark.parametrize(
    ("text", "topic", "given"),
    [
        ("robot/faces", "robot/faces", {}),
        ("", "", {}),
        ("a?domain=3", "a", {"domain": "3"}),
        (
            "a/b?connect=tcp/[::1]:7447&ros=bridge",
            "a/b",
            {"connect": "tcp/[::1]:7447", "ros": "bridge"},
        ),
        ("a?connect=tcp%2Flocalhost:7447", "a", {"connect": "tcp/localhost:7447"}),
    ],
)
def test_an_address_is_a_topic_and_options(text: str, topic: str, given: dict[str, str]) -> None:
    assert parse(text, OPTIONS, EXAMPLE) == (topic, {**OPTIONS, **given})


@pytest.mark.parametrize(
    "text",
    [
        *("a?domain", "a?domain=", "a?domain=1&domain=2", "a?dommain=1", "a?domain=&ros=x"),
        "a?domain=" + "9" * 5000,  # Python reads no number as long as this
        *("a\udcff", "a?domain=%00", "a\n"),
    ],
)
def test_a_wrong_address_names_a_right_one(text: str) -> None:
    with pytest.raises(InputError, match="zenoh:robot/expressions"):
        parse(text, OPTIONS, EXAMPLE)
