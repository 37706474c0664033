"""What is killed and disturbed: commands over what was there before them, and what must be whole after them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.shim import KILLED, Ended, Fault, Warm

NOTES = "notes of mine.txt"
_LONG_AGO_S = 7200


class Scene(ABC):
    """A command that writes into the folder ``out`` below a root.

    Attributes:
        whole: What an undisturbed run leaves there, of ``found``.
        files: The names of all that it leaves there.
        operations: What it does, in order.
    """

    def __init__(self, warm: Warm, folder: Path) -> None:
        self.warm, self.template = warm, folder / "template"
        (self.template / "out").mkdir(parents=True)
        self.prepare(self.template)
        (self.template / "out" / NOTES).write_text("not yours")
        self.before, self.own = self.found(self.template), self.mine(self.template)
        root = self.place(folder / "whole")
        ended = self.run(root)
        assert ended.code == 0, ended.err
        self.operations = ended.operations
        self.whole, self.files = self.found(root), names(root / "out")

    @abstractmethod
    def prepare(self, root: Path) -> None:
        """Makes what is there before."""

    @abstractmethod
    def arguments(self, root: Path) -> list[object]:
        """The command."""

    @abstractmethod
    def found(self, root: Path) -> Any:
        """What somebody who uses ``out`` finds there, to be compared.

        Raises:
            AssertionError, ConvcutError: Half a file is taken for a whole one.
        """

    def mine(self, root: Path) -> dict[str, bytes]:
        """Files in ``out`` that the command has nothing to do with."""
        return {NOTES: (root / "out" / NOTES).read_bytes()}

    def run(self, root: Path, fault: Fault = KILLED, number: int = 0) -> Ended:
        """Runs the command."""
        return self.warm.run(root, self.arguments(root), fault, number)

    def place(self, root: Path) -> Path:
        """A copy of what is there before."""
        return Path(shutil.copytree(self.template, root, symlinks=True))

    def numbers(self, count: int | None) -> list[int]:
        """Operations to disturb: all, or so many of them, evenly spread."""
        last = len(self.operations)
        if count is None or count >= last:
            return list(range(1, last + 1))
        return [1 + (2 * i + 1) * last // (2 * count) for i in range(count)]

    def suffers(self, folder: Path, fault: Fault, count: int | None = None) -> None:
        """Disturbs the command at so many operations (see ``numbers``), each in a folder of its own."""
        for number in self.numbers(count):
            self._suffers(folder / str(number), fault, number)

    def _suffers(self, root: Path, fault: Fault, number: int) -> None:
        """Disturbs the command at an operation, looks at what is left, and runs it again."""
        self.place(root)
        ended = self.run(root, fault, number)
        assert ended.operations[number - 1].split()[0] == self.operations[number - 1].split()[0]
        self.check_ended(ended, fault)
        self.check_left(self.found(root), ended, fault)
        assert self.mine(root) == self.own
        grow_old(root / "out")
        grow_old(root / "home")
        again = self.run(root)
        assert again.code == 0, again.err
        assert self.found(root) == self.whole
        assert self.mine(root) == self.own
        assert names(root / "out") == self.files
        assert not [path for path in (root / "home").rglob("*") if path.suffix == ".tmp"]
        shutil.rmtree(root)

    def check_ended(self, ended: Ended, fault: Fault) -> None:
        """Holds the command to its exit codes, and to one sentence."""
        if fault is KILLED:
            assert ended.code == -signal.SIGKILL
            return
        assert "Traceback" not in ended.err, ended.err
        assert ended.code in (0, 2), ended.err
        if ended.code:
            said = [line for line in ended.err.splitlines() if line.startswith("convcut-trt: ")]
            # a library may not say why its temporary file is not there
            assert len(said) == 1, ended.err
            assert os.strerror(fault.error) in said[0] or "TMPDIR" in said[0], ended.err

    def check_left(self, left: Any, ended: Ended, fault: Fault) -> None:
        """Holds what is found after a disturbance to what may be found."""
        if ended.code == 0:
            assert left == self.whole
        elif fault is KILLED:
            assert left in (self.before, self.whole)
        else:
            assert left == self.before


def names(folder: Path) -> set[str]:
    """Every file and folder below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def grow_old(folder: Path) -> None:
    """Makes every temporary file as old as what nobody writes to any more."""
    then = time.time() - _LONG_AGO_S
    for path in folder.rglob("*.tmp"):
        os.utime(path, (then, then))


def digests(files: Iterable[Path]) -> list[str]:
    """SHA-256 of files."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def without(values: dict[str, Any], *fields: str) -> dict[str, Any]:
    """Values without what differs from run to run."""
    kept = {key: value for key, value in values.items() if key not in fields}
    return dict(json.loads(json.dumps(kept)))
