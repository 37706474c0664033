"""``python -m calib VERB``: what ``convcut-trt calibrate`` runs in a checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from convcut_trt.errors import InputError
from convcut_trt.guard import guarded


def main(arguments: Sequence[str]) -> int:
    """Runs a verb and returns its exit code."""
    return guarded(lambda: _run(arguments), as_json="--json" in arguments)


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] != "calibrate":
        raise InputError("which lab verb? The only one here is calibrate")
    from calib import calibrate

    return calibrate.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
