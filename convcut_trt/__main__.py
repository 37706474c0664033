"""``python -m convcut_trt``: the command line."""

import sys

from convcut_trt.cli import main

if __name__ == "__main__":
    sys.exit(main())
