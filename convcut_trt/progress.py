"""Progress on stderr: phase, bar and ETA on a terminal, one line a phase elsewhere."""

from __future__ import annotations

import shutil
import sys
from typing import Any


class Progress:
    """Shows ``step(phase, done, total)`` calls. A context manager, so that a bar never stays behind."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._bar: Any = None
        self._seen: set[str] = set()
        self._total = -1

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` is reached in ``phase``."""
        if self._quiet:
            return
        if not self._terminal:
            if phase not in self._seen:  # a builder returns to its phases again and again
                print(f"... {phase}", file=sys.stderr)
            self._seen.add(phase)
            return
        # One bar for all phases of one total: a builder counts its whole work in one.
        if total != self._total or self._bar is None or done < self._bar.n:
            self._open(phase, total)
        self._bar.set_description_str(f"{phase:36}", refresh=False)
        self._bar.update(done - self._bar.n)
        self._bar.refresh()

    def _open(self, phase: str, total: int) -> None:
        from tqdm import tqdm

        self._close()
        layout = "{desc} {bar:18} {percentage:3.0f} %  {elapsed} < {remaining}"
        size = shutil.get_terminal_size()
        self._bar = tqdm(
            desc=f"{phase:36}",
            total=total,
            file=sys.stderr,
            leave=False,
            bar_format=layout,
            # tqdm asks the terminal itself, and draws nothing where that claims 0 by 0
            ncols=size.columns,
            nrows=size.lines,
        )
        self._total = total

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
