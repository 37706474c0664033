"""``python -m export VERB``: what the lab verbs, but for ``calibrate`` and ``report``, run in a checkout."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence

from convcut_trt.errors import ConvcutError, InputError

VERBS = {
    "train": "train",
    "evaluate": "evaluate",
    "export": "to_onnx",
    "ablate": "ablate",
    "explain": "explain",
}


def main(arguments: Sequence[str]) -> int:
    """Runs a verb and returns its exit code; a user's mistake is one sentence, as everywhere in the CLI."""
    try:
        if not arguments or arguments[0] not in VERBS:
            raise InputError(f"which lab verb? Use one of {', '.join(VERBS)}")
        # Each verb imports torch and more: only the one that is asked for.
        module = importlib.import_module(f"export.{VERBS[arguments[0]]}")
        return int(module.main(arguments[1:]))
    except ConvcutError as error:
        if "--json" in arguments:
            print(json.dumps({"error": type(error).__name__, "text": str(error)}))
        print(f"convcut-trt: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("convcut-trt: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
