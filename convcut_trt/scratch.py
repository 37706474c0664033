"""A folder for files in the making, among the temporary ones of the system."""

from __future__ import annotations

import shutil
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
        folder = Path(tempfile.mkdtemp(prefix="convcut-"))
        try:
            yield folder
        finally:
            # TemporaryDirectory raises where it may remove nothing any more, even if told to ignore that.
            shutil.rmtree(folder, ignore_errors=True)
    except BrokenPipeError:  # of who reads what is printed
        raise
    except OSError as error:
        # What fails at writing, not at opening, names no file; who writes elsewhere says so in an error of ours.
        place = tempfile.tempdir or "any of the usual folders"
        if error.filename is not None and not str(error.filename).startswith(place):
            raise
        raise InputError(
            f"temporary files could not be written to {place} ({error.strerror}): free some space there, or name "
            "another folder in TMPDIR"
        ) from error
