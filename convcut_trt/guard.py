"""Between a verb and the shell: an error of ours becomes a sentence, a page and an exit code, never a traceback."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable

from convcut_trt.errors import ConvcutError, GateFailed, InputError

_FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "give this user the permission, or choose another folder",
    errno.EPERM: "give this user the permission, or choose another folder",
    errno.EROFS: "choose another folder",
    errno.EMFILE: "allow more open files with `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs",
}


def guarded(run: Callable[[], int], *, as_json: bool) -> int:
    """Runs a verb and returns its exit code: its own, that of its error, or 130 where it was interrupted.

    Args:
        run: The verb. Where a gate fails it prints its own report.
        as_json: Whether the error is printed on stdout as one JSON object too.
    """
    try:
        return run()
    except ConvcutError as error:
        return _said(error, as_json)
    except KeyboardInterrupt:
        print("convcut-trt: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read stdout has gone, `| head` for one; nothing is lost
        sys.stderr.close()
        return 0
    except MemoryError:
        text = "memory ran out: close other programs, or give it fewer or smaller things at a time"
        return _said(InputError(text), as_json)
    except OSError as error:  # where nothing closer to it has said what was being done
        return _said(InputError(_of_system(error)), as_json)


def _said(error: ConvcutError, as_json: bool) -> int:
    failed = isinstance(error, GateFailed)
    if as_json and not failed:
        said = {"error": type(error).__name__, "text": str(error), "page": error.page}
        print(json.dumps(said))
    print(f"convcut-trt: {error}\nmore in the repository: {error.page}", file=sys.stderr)
    if error.log and not failed:
        print(f"--- what the builder said ---\n{error.log.rstrip()}", file=sys.stderr)
    return error.exit_code


def _of_system(error: OSError) -> str:
    place = "a file" if error.filename is None else error.filename
    fix = _FIXES.get(error.errno or 0, "see whether the disk is sound, and try again")
    return f"{place} could not be read or written ({error.strerror or error}): {fix}"
