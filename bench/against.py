"""What ``convcut-trt bench --against PEER`` runs in a checkout: the same verb, with the peers."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.peers import PEERS
from convcut_trt import cli


def main(given: Sequence[str] | None = None) -> int:
    """Runs the verb with its arguments."""
    return cli.main(["bench", *(sys.argv[1:] if given is None else given)], PEERS)


if __name__ == "__main__":
    sys.exit(main())
