"""What onnxruntime takes for each layer of a typed ONNX: its profile, laid over the layers of ``measuring.work``.

onnxruntime renames, fuses, splits and adds operations. One whose name holds that of a node, or of what the node
makes, belongs to its layer; a change of layout or a part of a GELU without such a name belongs to the layer that
comes next if that is one of these, and else to the layer before.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from convcut_trt.backends.onnxruntime import NO_SPINNING
from convcut_trt.measuring.work import Work
from convcut_trt.optional import load

onnxruntime = load("onnxruntime", "ort")

F64 = NDArray[np.float64]
_PROVIDERS = ["CPUExecutionProvider"]
_LAYOUTS = ("ReorderInput", "ReorderOutput", "Transpose", "Cast")
_SHORT = 12  # names of fewer letters are not looked for inside others


class Timed:
    """A typed ONNX in two sessions: one that is timed as a whole, one that profiles its operations."""

    def __init__(self, model: onnx.ModelProto, work: Sequence[Work], threads: int) -> None:
        self.work = list(work)
        # One thread's own clock stands still while another process has the core.
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        self._names = _names(model, self.work)
        self._folder = tempfile.TemporaryDirectory(prefix="convcut-")
        path = Path(self._folder.name) / "typed.onnx"
        path.write_bytes(model.SerializeToString())
        self._plain = _open(path, threads, "")
        self._profiled = _open(path, threads, str(path.with_name("profile")))
        image = self._plain.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in image.shape]
        random = np.random.default_rng(0)
        self._feeds = {image.name: random.integers(0, 256, shape, np.uint8)}
        self._runs = 0

    def run(self, count: int) -> list[float]:
        """Seconds of ``count`` runs as a whole; as many more are profiled."""
        seconds = []
        for _ in range(count):
            start = self._clock()
            self._plain.run(None, self._feeds)
            seconds.append(self._clock() - start)
            self._profiled.run(None, self._feeds)
        self._runs += count
        return seconds

    def close(self) -> F64:
        """Microseconds of each layer in each profiled run: float64 [runs, layers]."""
        events = json.loads(Path(self._profiled.end_profiling()).read_text("utf-8"))
        self._folder.cleanup()
        kernels = [
            (event["name"].removesuffix("_kernel_time"), event["args"]["op_name"], event["dur"])
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        ]
        each = len(kernels) // self._runs
        owners = owners_of([kernel[:2] for kernel in kernels[:each]], self.work, self._names)
        durations = np.array([kernel[2] for kernel in kernels], np.float64).reshape(-1, each)
        times = np.zeros((self._runs, len(self.work)))
        np.add.at(times.T, owners, durations.T)
        return times


def owners_of(
    kernels: Sequence[tuple[str, str]], work: Sequence[Work], names: Mapping[str, int]
) -> list[int]:
    """The layer that each kernel of a run belongs to.

    Args:
        kernels: Name and operation of each, in the order in which they ran.
        work: The layers.
        names: Of nodes and tensors -> position in ``work``.
    """
    inside = [name for name in sorted(names, key=len, reverse=True) if len(name) > _SHORT]
    owners, last = [], 0
    for kernel, kind in kernels:
        plain = kernel.removesuffix("_nchwc").replace("InsertedPrecisionFreeCast_", "")
        found = names.get(plain)
        if found is None:
            found = next((names[name] for name in inside if name in plain), None)
        if found is None:
            following = work[last + 1].kind if last + 1 < len(work) else ""
            turns = following == "layout" and kind in _LAYOUTS
            shapes = following == "gelu" and kind not in _LAYOUTS
            found = last + 1 if turns or shapes else last
        last = found
        owners.append(found)
    return owners


def _open(path: Path, threads: int, profile: str) -> Any:
    options = onnxruntime.SessionOptions()
    # as backends.onnxruntime opens an engine
    options.use_deterministic_compute = True
    options.add_session_config_entry(*NO_SPINNING)
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(str(path), options, _PROVIDERS)


def _names(model: onnx.ModelProto, work: Sequence[Work]) -> dict[str, int]:
    """Name of a node, and of what it makes -> the layer that it is part of."""
    places = {name: at for at, layer in enumerate(work) for name in (layer.name, *layer.riders)}
    found = {}
    for node in model.graph.node:
        if node.name in places:
            found[node.name] = found[node.output[0]] = places[node.name]
    return found
