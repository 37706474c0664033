"""Addresses of transports: ``TOPIC?option=value&option=value``."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from convcut_trt.errors import InputError

_LONGEST = 2000


def parse(text: str, options: Mapping[str, str], example: str) -> tuple[str, dict[str, str]]:
    """Takes an address apart.

    Args:
        text: Without the transport's name and colon.
        options: Those there are, with their defaults.
        example: A full address, for the message.

    Returns:
        The topic, and the value of every option.

    Raises:
        InputError: An unknown option, or one that is given twice or without a value; or no such text.
    """
    topic, mark, query = text.partition("?")
    if len(text) > _LONGEST or not text.isprintable():
        raise InputError(
            f"{text[:80]!r} is no address: it has {len(text)} characters, or some that cannot be printed; write it "
            f"as {example}"
        )
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if mark else []
    except ValueError:
        raise InputError(f"{text!r} is no address: write it as {example}") from None
    names = [name for name, _ in given]
    wrong = [
        name
        for name, value in given
        if name not in options or not value.isprintable() or not value or names.count(name) > 1
    ]
    if wrong:
        raise InputError(
            f"{text!r}: {wrong[0]!r} is no option, empty or given twice; there are "
            f"{', '.join(options)}, as in {example}"
        )
    return topic, {**options, **dict(given)}
