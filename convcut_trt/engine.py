"""Running an engine: ``load`` opens what was built and checked, ``Engine`` answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from convcut_trt import backends
from convcut_trt.backends.base import Session
from convcut_trt.errors import ConvcutError, EngineMismatch, InputError
from convcut_trt.fit import find
from convcut_trt.manifest import EngineManifest
from convcut_trt.pictures import load_picture
from convcut_trt.preprocess import faces as faces_of
from convcut_trt.spec import ModelSpec
from convcut_trt.trusted import trusted

F32 = NDArray[np.float32]
Face = str | Path | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """Answers for N faces.

    Attributes:
        classes: The K expressions.
        logits: float32 [N, K].
        probabilities: float32 [N, K], rows sum to 1.
    """

    classes: tuple[str, ...]
    logits: F32
    probabilities: F32

    @property
    def labels(self) -> list[str]:
        """The likeliest expression of each face."""
        return [self.classes[index] for index in self.probabilities.argmax(axis=1)]

    def __len__(self) -> int:
        return len(self.probabilities)


class Engine:
    """An open engine. Thread-safe; a context manager; made by ``load``.

    Attributes:
        manifest: What it is, and how it did at the gates.
        spec: The model's spec.
    """

    def __init__(self, manifest: EngineManifest, session: Session) -> None:
        self.manifest = manifest
        self._session: Session | None = session
        self._closing = threading.Lock()

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self.manifest.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """The K expressions, in the order of the outputs."""
        return self.spec.classes

    @property
    def verified(self) -> bool:
        """Whether the gates ran on this engine itself; False where a stand-in was checked."""
        return self.manifest.verified

    def predict(
        self,
        faces: Sequence[Face] | NDArray[np.uint8],
        boxes: Sequence[tuple[float, float, float, float] | None] | None = None,
    ) -> Prediction:
        """Crops and resizes faces by the model's rule, and answers.

        Args:
            faces: Pictures: uint8 RGB [H, W, 3] or grey [H, W] of any size, or paths; an array
                uint8 [N, H, W, 3] is N of them.
            boxes: (x, y, width, height) of the face in each picture, in pixels; None, or None for a
                picture, takes its largest centred square for the face.

        Raises:
            InputError: Something is no picture, or a box does not fit it.
        """
        if isinstance(faces, (str, Path)):
            raise InputError("predict takes a list of faces: write predict([face])")
        if isinstance(faces, np.ndarray) and faces.ndim != 4 and len(faces):
            raise InputError(
                f"predict takes a list of pictures or uint8 [N, H, W, 3], this is {list(faces.shape)}"
            )
        if boxes is not None and len(boxes) != len(faces):
            raise InputError(f"{len(faces)} faces and {len(boxes)} boxes: give one box a face")
        size = self.spec.size
        batch = np.empty((len(faces), size, size, 3), np.uint8)
        for row, face in enumerate(faces):
            picture = load_picture(face) if isinstance(face, (str, Path)) else face
            if not isinstance(picture, np.ndarray):
                raise InputError(f"a face is a numpy array or a path, not {type(picture).__name__}")
            batch[row] = self.spec.face(picture, None if boxes is None else boxes[row])
        answers = self.infer(batch)
        return Prediction(self.classes, answers["logits"], answers["probabilities"])

    def predict_frame(
        self,
        frame: object,
        boxes: Sequence[Sequence[float]] | NDArray[np.floating],
        format: str = "rgb8",
        *,
        margin: float | None = None,
        stream: int | None = None,
    ) -> Prediction:
        """Answers for all faces of one camera frame, by the model's rule.

        A frame in GPU memory never leaves it: one launch cuts all faces out, to the last bit as the host does it.

        Args:
            frame: uint8 [H, W, 3] (rgb8, bgr8), [H, W, 4] (rgba8), [H, W] (mono8) or [H * 3 / 2, W] (nv12), rows
                with or without gaps: a numpy array, or in GPU memory anything with ``__dlpack__`` or
                ``__cuda_array_interface__``.
            boxes: N faces as (x, y, width, height) in pixels, any N.
            format: One of ``frames.FORMATS``.
            margin: Of the crop, see ``faces.detect.crop_margin``; None is the model's own.
            stream: See ``infer``.

        Raises:
            InputError: No such frame, a bad box, a frame in GPU memory for an engine on the CPU, or it is closed.
            CudaError: The GPU failed.
        """
        session, spec = self._opened(), self.spec
        share = spec.margin if margin is None else margin
        if isinstance(frame, np.ndarray):
            size = spec.size
            cut = np.empty((0, size, size, 3), np.uint8)
            if len(boxes):
                cut = faces_of(frame, boxes, size, share, format)
            answers = session.run(cut)
        else:
            answers = session.run_frame(frame, format, boxes, share, stream)
        return Prediction(self.classes, answers["logits"], answers["probabilities"])

    @overload
    def infer(
        self, batch: NDArray[np.uint8], out: Mapping[str, F32] | None = None
    ) -> dict[str, F32]: ...

    @overload
    def infer(
        self, batch: object, out: Mapping[str, Any] | None = None, *, stream: int | None = None
    ) -> dict[str, Any]: ...

    def infer(
        self, batch: Any, out: Mapping[str, Any] | None = None, *, stream: int | None = None
    ) -> dict[str, Any]:
        """Answers for faces that are cropped and resized already.

        Args:
            batch: uint8 RGB [N, size, size, 3], any N: a numpy array, or one of any library with ``__dlpack__`` or
                ``__cuda_array_interface__``. In GPU memory it has to be contiguous; the host then does not wait.
            out: Arrays to write into, by output name; outputs without one get a new array. For faces in GPU memory
                all of them lie there too, or all are numpy arrays, for which the host waits.
            stream: Handle of the CUDA stream on which arrays in GPU memory are used; None for what they say
                themselves, else the legacy default stream.

        Returns:
            ``logits`` [N, K], ``probabilities`` [N, K] and ``map`` [N, C, P, P], float32, the caller's own. For
            faces in GPU memory ``gpu.arrays.DeviceArray``: any such library takes them, ``numpy()`` copies them.

        Raises:
            InputError: Wrong dtype or shape, faces in GPU memory for an engine on the CPU, or the engine is closed.
            CudaError: The GPU failed. Where ``fatal``, every later call says so too.
        """
        session = self._opened()
        if not isinstance(batch, np.ndarray):
            from convcut_trt.gpu.arrays import on_device

            if on_device(batch):
                return session.run_on_device(batch, out, stream)
            if hasattr(batch, "__dlpack__"):
                batch = np.from_dlpack(batch)
        return session.run(batch, out)

    def clone(self) -> Engine:
        """The same engine for another thread, closed by itself: weights are shared, calls run side by side, but on
        OpenVINO, where they take turns."""
        return Engine(self.manifest, self._opened().clone())

    def _opened(self) -> Session:
        session = self._session
        if session is None:
            raise InputError("this engine is closed: load it again")
        return session

    def close(self) -> None:
        """Frees the engine. Calls in flight finish; a second close does nothing."""
        with self._closing:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def load(
    name: str | Path,
    precision: str | None = None,
    backend: str = "auto",
    *,
    require_verified: bool = False,
    threads: int | None = None,
    spin: bool = False,
    trust: str | Path | None = None,
) -> Engine:
    """Opens the newest engine that fits this machine. Never builds one.

    Manifest and SHA-256 are checked before a byte of the engine is opened: engines are native code.

    Args:
        name: A model's name (looked up in ``$CONVCUT_HOME``, else the user's cache), a folder of engines,
            or an engine's manifest, ``.engine`` or typed ``.onnx``.
        precision: Only engines built for it.
        backend: Only engines of this flavour; ``auto`` takes any that runs here.
        require_verified: Refuse an engine whose gates ran on a stand-in.
        threads: CPU threads, where the backend computes on the CPU; None is one a core.
        spin: onnxruntime's threads wait busily between the layers of a call. On a machine with cores to spare
            answers come sooner; where other work wants them, later (``bench/results/spinning.json``).
        trust: The model of an ``.engine`` or ``.onnx`` that has no manifest, for example trtexec's: it is opened
            though nothing is known of it, and ``verified`` is False.

    Raises:
        EngineMismatch: No engine fits this machine; the text names the build command.
        ManifestError: The engine has no manifest, or does not match it.
        InputError: The system does not let it be looked up.
    """
    if trust is not None:
        unknown = trusted(Path(name), trust, backend)
        if require_verified:
            raise EngineMismatch(f"{Path(name).name} has no manifest, so nothing of it is verified")
        return Engine(unknown, open_session(unknown, threads=threads, spin=spin))
    while True:
        manifest = find(name, precision, backend)
        if require_verified and not manifest.verified:
            raise EngineMismatch(
                f"{manifest.path.name} was checked on {manifest.verified_on} only: build it on this machine"
            )
        try:
            manifest.check_files()
            return Engine(manifest, open_session(manifest, threads=threads, spin=spin))
        except ConvcutError:
            if find(name, precision, backend) == manifest:
                raise
            # it was built anew in between, so that the files were its successor's, or gone


def open_session(
    manifest: EngineManifest, *, threads: int | None = None, spin: bool = False
) -> Session:
    """Opens the engine of a manifest whose files were checked; see ``Backend.open``."""
    tail = manifest.typed_onnx if manifest.tail == "kernel" else None
    backend = backends.get(manifest.flavour)
    return backend.open(manifest.engine, threads=threads, spin=spin, tail=tail)
