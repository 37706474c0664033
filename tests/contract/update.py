"""Writes ``api.json`` anew: ``python -m tests.contract.update``. Needs the package index and tensorrt_rtx."""

from __future__ import annotations

import json

from tests.contract import contract, wheels
from tests.contract.contract import Version


def tensorrt(number: str) -> Version:
    """One of ``wheels.WHEELS``.

    Raises:
        Unavailable: It cannot be had here.
    """
    return Version("tensorrt", number, wheels.api_of(number))


def rtx() -> Version:
    """The TensorRT-RTX that is installed."""
    return Version("tensorrt-rtx", wheels.rtx_version(), wheels.api_of_rtx())


def as_text(versions: list[Version]) -> str:
    """What ``api.json`` should hold: a line for each name."""
    uses, _ = contract.scan(contract.sources(), contract.merged(versions))
    content = contract.select(versions, uses)
    lines = [f"{json.dumps(path)}: {json.dumps(e)}" for path, e in content["names"].items()]
    head = f'{{"versions": {json.dumps(content["versions"])},\n"names": {{\n'
    return head + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    contract.COMMITTED.write_text(as_text([*map(tensorrt, wheels.WHEELS), rtx()]), "utf-8")
