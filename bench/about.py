"""What a result of a GPU says of where it comes from, and the file in which every part keeps its newest one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from convcut_trt.errors import InputError
from convcut_trt.fields import read_json, write_file
from convcut_trt.measuring import clocks
from convcut_trt.measuring.provenance import commit, processor, versions

SCHEMA = 1
_FIX = "move it away, or choose another folder with --out"


def about(command: Sequence[str]) -> dict[str, Any]:
    """Command, commit, date, versions and machine, without a path or a name of the machine.

    Args:
        command: As typed, but for the folder that results go to.
    """
    return {
        "command": " ".join(command),
        "commit": commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": versions(),
        "machine": {"processor": processor(), "cores": os.cpu_count()},
    }


def clock_state() -> dict[str, Any] | None:
    """Clocks, temperature and power of the GPU now; None where they cannot be read."""
    state = clocks.read()
    return None if state is None else asdict(state)


def slug(name: str) -> str:
    """A GPU's name as part of a file's: ``NVIDIA H200`` is ``nvidia-h200``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def keep(path: Path, device: str, part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a part into a result file, beside the other parts; returns the whole.

    Raises:
        InputError: The file there is damaged or of another schema, or cannot be written.
    """
    parts: dict[str, Any] = {}
    if path.is_file():
        parts = read_json(path, SCHEMA, InputError, _FIX).get("parts", dict)
    whole = {"schema": SCHEMA, "device": device, "parts": {**parts, part: dict(values)}}
    write_file(path, (_lines(whole) + "\n").encode())
    return whole


def _lines(value: Any, depth: int = 0) -> str:
    """JSON with a line for each field of the upper objects, and for each object of a list."""
    if depth < 3 and isinstance(value, dict):
        fields = (f"{json.dumps(name)}: {_lines(v, depth + 1)}" for name, v in value.items())
        return "{\n" + ",\n".join(fields) + "\n}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
    return json.dumps(value)
