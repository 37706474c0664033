"""Between a verb and the shell: an error of ours becomes a sentence, a page and an exit code, never a traceback."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from convcut_trt.errors import ConvcutError, GateFailed, InputError, of_system


def guarded(run: Callable[[], int], *, as_json: bool) -> int:
    """Runs a verb and returns its exit code: its own, that of its error, or 130 where it was interrupted.

    Args:
        run: The verb. Where a gate fails it prints its own report.
        as_json: Whether the error is printed on stdout as one JSON object too.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        code = run()
        # what goes wrong with it can be told here, and not at Python's end
        print(end="", flush=True)
        return code
    except ConvcutError as error:
        return _said(error, as_json)
    except KeyboardInterrupt:
        print("convcut-trt: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0  # whoever read stdout has gone, `| head` for one; nothing is lost
    except MemoryError:
        text = "memory ran out: close other programs, or give it fewer or smaller things at a time"
        return _said(InputError(text), as_json)
    except OSError as error:  # where nothing closer to it has said what was being done
        return _said(InputError(of_system(error)), as_json)
    finally:
        _drop_the_rest()


def _said(error: ConvcutError, as_json: bool) -> int:
    failed = isinstance(error, GateFailed)
    with suppress(OSError):  # where nobody can be told, the exit code tells
        print(f"convcut-trt: {error}\nmore in the repository: {error.page}", file=sys.stderr)
        if error.log and not failed:
            print(f"--- what the builder said ---\n{error.log.rstrip()}", file=sys.stderr)
        if as_json and not failed:
            said = {"error": type(error).__name__, "text": str(error), "page": error.page}
            print(json.dumps(said))
    return error.exit_code


def _drop_the_rest() -> None:
    """Lets go of what cannot be printed: at its end Python would try once more, complain, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # closed by the shell
                stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())
