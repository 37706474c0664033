"""A folder for files in the making, among the temporary ones of the system."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convcut_trt.errors import InputError


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards; a process that is killed leaves it to the system to remove.

    Raises:
        InputError: What is in temporary files does not fit the disk, or cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="convcut-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        # What fails at writing, not at opening, names no file; who writes elsewhere says so in an error of ours.
        place = tempfile.tempdir or "any of the usual folders"
        if error.filename is not None and not str(error.filename).startswith(place):
            raise
        raise InputError(
            f"temporary files could not be written to {place} ({error.strerror}): free some space there, or name "
            "another folder in TMPDIR"
        ) from error
