"""One process at a time in a folder, where two would spoil each other's work."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convcut_trt.errors import InputError

_ASK_AGAIN_S = 0.05


@contextmanager
def alone(folder: Path, busy: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Holds the lock of a folder, for whoever asks for it too.

    It is the system's own, on the folder itself: it leaves no file behind, and ends with the process however that
    ends. Windows has none for folders, nor have some network disks: nothing is locked there, and False is given.

    Args:
        folder: It exists.
        busy: What to say where another process, or another part of this one, holds it for longer.
        wait_s: How long to wait for it, seconds.

    Raises:
        InputError: ``busy``.
        OSError: The folder cannot be read.
    """
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    held = False
    try:
        deadline = time.monotonic() + wait_s
        while not held:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(busy) from None
                time.sleep(_ASK_AGAIN_S)
            except OSError:
                break  # NFS: only files that are open for writing
        yield held
    finally:
        os.close(descriptor)  # and the lock with it
