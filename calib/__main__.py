"""``python -m calib VERB``: what ``convcut-trt calibrate`` runs in a checkout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from convcut_trt.errors import ConvcutError, GateFailed, InputError


def main(arguments: Sequence[str]) -> int:
    """Runs a verb and returns its exit code; a user's mistake is one sentence, as everywhere in the CLI."""
    try:
        if not arguments or arguments[0] != "calibrate":
            raise InputError("which lab verb? The only one here is calibrate")
        from calib import calibrate

        return calibrate.main(arguments[1:])
    except ConvcutError as error:
        if "--json" in arguments and not isinstance(error, GateFailed):
            print(json.dumps({"error": type(error).__name__, "text": str(error)}))
        print(f"convcut-trt: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("convcut-trt: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
