"""What is compiled once and used again: files under a name that says what is in them, private to the user."""

from __future__ import annotations

import hashlib
import logging
import os

from convcut_trt.errors import InputError
from convcut_trt.fields import write_file
from convcut_trt.home import engine_folder, make_engine_folder

_log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size


def key_of(*parts: bytes | str) -> str:
    """A name for what was made from ``parts``: another part is another name."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class Cache:
    """Files of one kind in ``$CONVCUT_HOME``, else in the user's cache.

    What is kept is native code. So the folder has to be the user's own and closed to all others, and each file
    begins with the SHA-256 of the rest. Where that cannot be had nothing is kept, which the log says.

    Args:
        kind: Name of the folder.
    """

    def __init__(self, kind: str) -> None:
        self._folder = engine_folder() / kind

    def get(self, key: str) -> bytes | None:
        """What was kept under a name; None where there is nothing, or it was damaged."""
        path = self._folder / key
        try:
            if not path.is_file() or not self._private():
                return None
            data = path.read_bytes()
        except OSError as error:
            _log.warning("%s cannot be read (%s): it is made again", path, error.strerror)
            return None
        digest, content = data[:_DIGEST], data[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            _log.warning("%s is damaged: it is made again", path)
            return None
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keeps something, whole or not at all."""
        try:
            make_engine_folder(self._folder)
            if self._private():
                write_file(self._folder / key, hashlib.sha256(content).digest() + content)
        except (InputError, OSError) as error:
            _log.warning("%s; it is made again next time", error)

    def _private(self) -> bool:
        if not hasattr(os, "getuid"):
            return True  # Windows: a user's folders are closed to others as they are
        status = self._folder.stat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return True
        _log.warning(
            "%s is open to other users, so nothing is kept in it: chmod 700 %s",
            self._folder,
            self._folder,
        )
        return False
