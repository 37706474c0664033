"""``python -m export VERB``: what the lab verbs, but for ``calibrate`` and ``report``, run in a checkout."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from convcut_trt.errors import InputError
from convcut_trt.guard import guarded

VERBS = {
    "train": "train",
    "evaluate": "evaluate",
    "export": "to_onnx",
    "ablate": "ablate",
    "explain": "explain",
}


def main(arguments: Sequence[str]) -> int:
    """Runs a verb and returns its exit code."""
    return guarded(lambda: _run(arguments), as_json="--json" in arguments)


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in VERBS:
        raise InputError(f"which lab verb? Use one of {', '.join(VERBS)}")
    # Each verb imports torch and more: only the one that is asked for.
    module = importlib.import_module(f"export.{VERBS[arguments[0]]}")
    return int(module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
