"""The lab verbs: they run the checkout's own code, which is not in the wheel."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from convcut_trt.errors import ConvcutError, InputError

VERBS = {
    "train": "train a model by a recipe",
    "evaluate": "measure a model on labelled faces",
    "export": "write a trained model as ONNX, with spec and witnesses",
    "ablate": "repeat the paper's ablations behind a trained trunk",
    "explain": "draw the paper's figures for a trained model",
    "calibrate": "find the ranges that an INT8 engine is built from",
    "report": "write all results as one HTML page, beside the paper's",
}
# What `python -m` runs for a verb, where it is not export.
_MODULES = {
    "calibrate": ("calib", "calibrate"),
    "report": ("bench.report",),
    "bench": ("bench.against",),  # a robot's verb, which other systems make one of the lab
}
_NAME = re.compile(r'^name\s*=\s*"convcut-trt"', re.MULTILINE)


def checkout() -> Path:
    """The checkout that the lab verbs run: the one this package lies in, else the one around the current folder.

    Raises:
        InputError: There is none.
    """
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[1], here, *here.parents):
        project = folder / "pyproject.toml"
        if (
            (folder / "export").is_dir()
            and project.is_file()
            and _NAME.search(project.read_text("utf-8"))
        ):
            return folder
    raise InputError(
        "this is a lab verb: it needs a checkout of convcut-trt and torch. Clone the repository, run "
        "`pip install -e '.[lab]'` in it, and call this again from there"
    )


def run(verb: str, arguments: Sequence[str]) -> int:
    """Runs a lab verb in a process of its own and returns its exit code.

    Raises:
        InputError: No checkout, or a Python before 3.11.
        ConvcutError: It was killed.
    """
    root = checkout()
    if sys.version_info < (3, 11):
        raise InputError(f"the lab needs Python 3.11 or later, this is {sys.version.split()[0]}")
    print(f"lab: {root}", file=sys.stderr)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    # -P keeps the current folder off the path: an export/ in it must not stand for ours
    module = _MODULES.get(verb, ("export", verb))
    command = [sys.executable, "-P", "-m", *module, *arguments]
    # Ctrl-C goes to both: this one waits for what the other makes of it, which may be a result to keep.
    former = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        code = subprocess.call(command, env=environment)
    finally:
        signal.signal(signal.SIGINT, former)
    if code == -signal.SIGINT:  # before it could handle it
        raise KeyboardInterrupt
    if code < 0:
        raise ConvcutError(_death(verb, -code))
    return code


def _death(verb: str, number: int) -> str:
    if number == signal.SIGKILL:
        return (
            f"{verb} was killed (SIGKILL), most likely because memory ran out: close other programs, or give it a "
            "smaller batch or fewer pictures"
        )
    return f"{verb} was ended by signal {number} ({signal.strsignal(number)}): call it again"
