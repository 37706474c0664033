"""An environment with the wheel and some extras, and nothing of the one that runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.test_packaging import run

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Environment:
    """Commands of an environment, run in a folder outside the checkout.

    Attributes:
        folder: Where they run; the environment is its ``venv``.
        variables: Of the process environment, beside those that are there.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def _command(self, program: str, arguments: Sequence[object]) -> list[str]:
        return [str(self.python.parent / program), *map(str, arguments)]

    def _environment(self) -> dict[str, str]:
        home = {"CONVCUT_HOME": str(self.folder / "home"), "PYTHONPATH": ""}
        return {**os.environ, **home, **self.variables}

    def cc(self, *arguments: object, cwd: Path | None = None) -> str:
        """What ``convcut-trt`` says on stdout; it must succeed."""
        command = self._command("convcut-trt", arguments)
        return run(command, cwd or self.folder, **self._environment())

    def script(self, *arguments: object) -> str:
        """What ``python`` says on stdout; it must succeed."""
        return run(self._command("python", arguments), self.folder, **self._environment())

    def refused(self, *arguments: object) -> str:
        """What ``convcut-trt`` says on stderr when it ends with exit code 2, without a traceback."""
        done = subprocess.run(
            self._command("convcut-trt", arguments),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A Python program that runs meanwhile."""
        return subprocess.Popen(
            self._command("python", arguments),
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def version(self, package: str) -> str:
        """Of an installed package."""
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return self.script("-c", code).strip()


def make(
    uv: Path,
    folder: Path,
    *install: str | Path,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
) -> Environment:
    """A new environment: ``install`` are the arguments of ``uv pip install``."""
    run([uv, "venv", "--quiet", "--python", python, folder / "venv"], folder)
    made = Environment(folder, variables or {})
    command: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", made.python]
    run([*command, *install], folder, **made.variables)
    return made
