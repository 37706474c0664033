"""A process that has everything imported: each command runs in a child forked from it, which may be killed.

Started with the shim in LD_PRELOAD. A task comes as a line of JSON on stdin, the child's exit code goes out.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

LONGEST_S = 60


def main() -> None:
    """Takes tasks until stdin ends."""
    verbs = _verbs(sys.argv[1])
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(verbs[task["arguments"][0]], task))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _verbs(room: str) -> dict[str, Callable[[Sequence[str]], int]]:
    """What can be asked for; the lab's are imported only where they are."""
    import onnxruntime

    from convcut_trt import build, cli

    assert onnxruntime and build
    if room == "robot":
        return {"build": cli.main, "publish": _publish, "serve": _serve}
    import torch

    import calib.calibrate
    import export.train
    from calib.__main__ import main as calibrate
    from export.__main__ import main as lab

    assert calib.calibrate and export.train
    torch.set_num_threads(1)
    return {"calibrate": calibrate, "train": lab}


def _publish(arguments: Sequence[str]) -> int:
    """Publishes what lies in a folder already, into another one: ``publish MODEL.onnx MANIFEST FOLDER``."""
    from convcut_trt.guard import guarded
    from convcut_trt.home import find_model
    from convcut_trt.manifest import EngineManifest
    from convcut_trt.publish import publish

    _, model, path, folder = arguments
    there = EngineManifest.read(Path(path))
    here = replace(there, path=Path(folder) / there.path.name)

    def run() -> int:
        publish(find_model(model), here, there.typed_onnx, there.engine.read_bytes())
        return 0

    return guarded(run, as_json=False)


def _serve(arguments: Sequence[str]) -> int:
    """Writes a version into a model repository of Triton's: ``serve MANIFEST FOLDER``."""
    from convcut_trt.guard import guarded
    from convcut_trt.manifest import EngineManifest
    from convcut_trt.triton import write_repository

    _, path, folder = arguments

    def run() -> int:
        write_repository(EngineManifest.read(Path(path)), Path(folder))
        return 0

    return guarded(run, as_json=False)


def _run(verb: Callable[[Sequence[str]], int], task: dict[str, Any]) -> int:
    signal.alarm(LONGEST_S)
    os.environ.update(task["environment"])
    tempfile.tempdir = None
    for stream, path in ((sys.stdout, task["out"]), (sys.stderr, task["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    arm = ctypes.CDLL(None).fault_arm
    arm.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    root, record = os.fsencode(task["root"]), os.fsencode(task["record"])
    arm(root, record, task["number"], task["kind"], task["error"])
    try:
        return verb(task["arguments"])
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    main()
