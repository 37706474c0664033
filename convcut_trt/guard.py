"""Between a verb and the shell: every error of ours becomes a sentence and an exit code, never a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from convcut_trt.errors import ConvcutError, GateFailed


def guarded(run: Callable[[], int], *, as_json: bool) -> int:
    """Runs a verb and returns its exit code: its own, that of its error, or 130 where it was interrupted.

    Args:
        run: The verb. Where a gate fails it prints its own report.
        as_json: Whether the error is printed on stdout as one JSON object too.
    """
    try:
        return run()
    except ConvcutError as error:
        failed = isinstance(error, GateFailed)
        if as_json and not failed:
            print(json.dumps({"error": type(error).__name__, "text": str(error)}))
        print(f"convcut-trt: {error}", file=sys.stderr)
        if error.log and not failed:
            print(f"--- what the builder said ---\n{error.log.rstrip()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("convcut-trt: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read stdout has gone, `| head` for one; nothing is lost
        sys.stderr.close()
        return 0
