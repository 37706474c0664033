"""The errors a user can meet. Every text names the fix; the builder's own log rides along in ``log``."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convcut_trt.gates import Gate


_FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "give this user the permission, or choose another folder",
    errno.EPERM: "give this user the permission, or choose another folder",
    errno.EROFS: "choose another folder",
    errno.EMFILE: "allow more open files with `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs",
    errno.ENOENT: "give another path",
    errno.ENOTDIR: "give another path",
    errno.EISDIR: "give another path",
    errno.ELOOP: "give another path",
    errno.ENAMETOOLONG: "give another path",
}


def of_system(error: OSError) -> str:
    """What the system refused, as a sentence that names the file and the fix."""
    place = "a file" if error.filename is None else error.filename
    fix = _FIXES.get(error.errno or 0, "see whether the disk is sound, and try again")
    return f"{place} could not be read or written ({error.strerror or error}): {fix}"


class ConvcutError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line returns for it."""

    exit_code = 2

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log

    @property
    def page(self) -> str:
        """Where the documentation says more of its kind: a file of the repository, and a section of it."""
        kind = next(each for each in type(self).__mro__ if each.__module__ == __name__)
        return f"docs/errors.md#{kind.__name__.lower()}"


class InputError(ConvcutError):
    """A file, picture, array or option of the user's cannot be used."""


class SpecError(ConvcutError):
    """A model spec is missing, broken, or belongs to another model."""


class ManifestError(ConvcutError):
    """An engine manifest is missing, broken, edited, or does not match its engine."""


class EngineMismatch(ConvcutError):
    """A sound engine that cannot run here: another device, another version, another flavour."""


class BackendMissing(ConvcutError):
    """A library that this verb needs is not installed; the text says which extra brings it."""


class BuildError(ConvcutError):
    """The builder refused, crashed or was killed; ``log`` holds what it said."""


class CudaError(ConvcutError):
    """A call of the CUDA driver failed. ``name`` is the driver's; ``fatal``: the context is lost with all in it."""

    def __init__(self, message: str, name: str, fatal: bool) -> None:
        super().__init__(message)
        self.name = name
        self.fatal = fatal


class GateFailed(ConvcutError):
    """A check failed: nothing was published. ``gates`` holds all results, ``log`` the same as a table."""

    exit_code = 1

    def __init__(self, message: str, *, log: str = "", gates: Sequence[Gate] = ()) -> None:
        super().__init__(message, log=log)
        self.gates = tuple(gates)
