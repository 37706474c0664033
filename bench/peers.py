"""Peers: other systems that answer the same faces, in a bench beside the engine that they are compared with.

    convcut-trt bench conv-cut-mini --against torch --against fer --data ferplus.npz
    convcut-trt bench conv-cut-mini --against all

A peer gets the uint8 faces in host memory that the engine gets, computes on the same device with as many threads,
and in the same bits where it can: its name says in which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Arrays, Runnable
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.gates import BUDGETS
from convcut_trt.home import Model
from convcut_trt.measuring.entrants import Entrant

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Peer = Callable[[Entrant], Entrant]
"""Makes the entrant that is asked the same as an engine; BackendMissing where it is not installed or has no such
device."""

_OURS = ("bench", "calib", "convcut_trt", "export")
NARROWER = ("fp16", "bf16")  # what a GPU computes in; of these a CPU has bf16, and widens fp16


def _later(module: str, name: str) -> Peer:
    """A peer whose libraries are imported when it is asked for."""

    def make(engine: Entrant) -> Entrant:
        try:
            found: Peer = getattr(import_module(f"bench.{module}"), name)
            return found(engine)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library in ("", *_OURS):
                raise
            raise BackendMissing(
                f"{library} is not installed: pip install -e '.[lab,peers]' in the checkout"
            ) from error

    return make


PEERS: Mapping[str, Peer] = {
    "torch": _later("peer_torch", "eager"),
    "torch-compile": _later("peer_torch", "compiled"),
    "onnxruntime": _later("peer_onnx", "onnxruntime"),
    "openvino": _later("peer_onnx", "openvino"),
    "torch-tensorrt": _later("peer_gpu", "torch_tensorrt"),
    "trtexec": _later("peer_trtexec", "trtexec"),
    "fer": _later("peer_fer", "fer"),
}
"""What ``--against`` takes beside engines."""


class Answering:
    """An open peer: a function from uint8 faces [N, S, S, 3] to probabilities, float32 [N, K]."""

    def __init__(self, answer: Callable[[U8], F32]) -> None:
        self._answer = answer

    def run(self, images: U8, out: Arrays | None = None) -> dict[str, F32]:
        """See Runnable; ``probabilities`` alone, in an array of its own."""
        return {"probabilities": self._answer(images)}


def entrant(
    engine: Entrant,
    peer: str,
    precision: str,
    words: str,
    open: Callable[[], AbstractContextManager[Runnable]],
    *,
    versions: Mapping[str, str],
    sha256: Mapping[str, str],
) -> Entrant:
    """An entrant that is asked the same as ``engine``.

    Args:
        engine: What it is compared with.
        peer: Its name in ``PEERS``.
        precision: What it computes in, which its answers may differ by: fp32, fp16, bf16 or int8.
        words: The same for people, with device or threads.
        open: Opens it afresh.
        versions: Of its libraries.
        sha256: Of its weights.
    """
    subject = replace(
        engine.subject,
        name=f"{peer} {precision}",
        kind="peer",
        flavour=peer,
        asked=precision,
        precision=words,
        stored={},
        computed={},
        placement="",
        mlp="",
        tail="",
        target="",
        operations=None,
        sha256=dict(sha256),
        versions=dict(versions),
        gates=(),
        verified_on="",
        judged_on="",
        date="",
    )
    budget = BUDGETS[precision]["witnesses"]
    return replace(engine, subject=subject, open=open, budget=budget, manifest=None)


def original(engine: Entrant) -> Model:
    """The FP32 model that an engine was built from: that of ``--model``, else the bundled one of its name.

    Raises:
        InputError: It is not there, or is another one.
    """
    from convcut_trt.verify import find_original

    if engine.manifest is None:
        raise InputError(f"{engine.name} is no engine: a peer is compared with one")
    return find_original(engine.manifest, engine.model)


def same_bits(engine: Entrant, has: Collection[str] = NARROWER) -> str:
    """The precision in which a peer computes beside ``engine``: the engine's where the peer has it, else fp32.

    On a CPU fp16 is fp32: there engines too store the one and compute in the other.
    """
    asked = engine.subject.asked
    return asked if asked in has and not (engine.on_cpu and asked == "fp16") else "fp32"


def place(engine: Entrant) -> str:
    """Where a peer of ``engine`` computes, in words."""
    return f"on {count} thread{'s' * (count > 1)}" if (count := threads(engine)) else "on the GPU"


def threads(engine: Entrant) -> int:
    """Threads that an engine computes on: one per physical core that this process may use; 0 on the GPU.

    onnxruntime and OpenVINO take as many by themselves.
    """
    return cores() if engine.on_cpu else 0


def cores() -> int:
    """Physical cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return os.cpu_count() or 1
    found = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        found.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return len(found)
