"""Commands under the shim: what they do to files is counted, and one of these operations fails or is the last."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fault:
    """What happens at an operation.

    Attributes:
        name: For the names of tests.
        kind: As in shim.c: the process is killed, the operation fails, or it and later ones of its kind do.
        error: errno of what fails.
    """

    name: str
    kind: int
    error: int = 0


KILLED = Fault("killed", 0)
ONCE = Fault("once", 1, errno.EIO)
FULL = Fault("full", 2, errno.ENOSPC)
LOST = Fault("lost", 2, errno.EACCES)
READ_ONLY = Fault("read-only", 2, errno.EROFS)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what it said and did."""

    code: int
    out: str
    err: str
    operations: tuple[str, ...]


def compiled(folder: Path) -> Path:
    """The shim; the test is skipped where it cannot be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the shim is for Linux, and compiled here")
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *options, "-o", library, source, "-ldl"], check=True)
    return library


class Warm:
    """A process with everything imported that runs commands under the shim, one by one.

    Args:
        room: ``robot`` or ``lab``.
        folder: Empty; the shim and what the commands say go there.
    """

    def __init__(self, room: str, folder: Path) -> None:
        self._folder = folder
        environment = {
            **os.environ,
            "LD_PRELOAD": str(compiled(folder)),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm", room],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )

    def run(
        self,
        root: Path,
        arguments: Sequence[object],
        fault: Fault = KILLED,
        number: int = 0,
    ) -> Ended:
        """Runs a command.

        Args:
            root: Operations below it count. TMPDIR and CONVCUT_HOME are folders there, made where they are missing.
            arguments: Of the command line, the verb first.
            fault: What happens at the operation.
            number: Of the operation, from 1; 0 for none.
        """
        out, err, record = (self._folder / name for name in ("out", "err", "record"))
        record.unlink(missing_ok=True)
        environment = {"TMPDIR": str(root / "tmp"), "CONVCUT_HOME": str(root / "home")}
        for folder in environment.values():
            Path(folder).mkdir(exist_ok=True)
        task = {
            "root": str(root.resolve()),
            "arguments": [str(argument) for argument in arguments],
            "environment": environment,
            "number": number,
            "kind": fault.kind,
            "error": fault.error,
            "out": str(out),
            "err": str(err),
            "record": str(record),
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        done = record.read_text().splitlines() if record.exists() else []
        return Ended(code, out.read_text(), err.read_text(), tuple(done))

    def __enter__(self) -> Warm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
