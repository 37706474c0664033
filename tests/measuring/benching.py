"""What tests of the verb ``bench`` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAME = "conv-cut-mini.fp16.onnxruntime"
QUICK = ["--seconds", "0.03", "--openings", "8", "--batch", "1"]
Change = Callable[[str, int, Callable[[Any], Any]], None]
"""Of an engine by name: from which of its calls on, and what its answers become."""


class Changed:
    """An open engine, of whose answers some become something else."""

    def __init__(self, session: Any, change: Callable[[Any], Any]) -> None:
        self._session, self._change = session, change

    def run(self, images: Any, out: Any = None) -> Any:
        return self._change(self._session.run(images, out))

    def __enter__(self) -> Changed:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()


def wrong(answers: Any) -> Any:
    """The classes in another order."""
    return {**answers, "probabilities": answers["probabilities"][:, ::-1].copy()}


def interrupted(answers: Any) -> Any:
    """As Ctrl-C does."""
    raise KeyboardInterrupt
