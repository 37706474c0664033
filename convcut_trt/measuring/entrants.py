"""What takes part in a bench: engines, and whatever else answers the same faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from convcut_trt import backends
from convcut_trt.backends.base import Runnable
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.engine import open_session
from convcut_trt.errors import EngineMismatch, InputError
from convcut_trt.fit import build_command, misfit
from convcut_trt.gates import BUDGETS
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring.results import Subject, subject_of
from convcut_trt.measuring.timed import F32, F64, FIX, U8
from convcut_trt.measuring.versus import Contender
from convcut_trt.pictures import load_picture
from convcut_trt.spec import ModelSpec

SPINNING = " spinning"
"""Ends the name of an engine whose threads do."""


@dataclass(frozen=True)
class Work:
    """Faces whose answers are known: a model's witnesses.

    Attributes:
        spec: Of the model.
        faces: uint8 [W, S, S, 3].
        wanted: The trained model's probabilities, float32 [W, K].
        frames: The pictures they were cut from, each uint8 [H, W, 3].
        boxes: Of the face in each, (x, y, width, height) in pixels.
    """

    spec: ModelSpec
    faces: U8
    wanted: F32
    frames: tuple[U8, ...]
    boxes: tuple[tuple[float, float, float, float], ...]

    @classmethod
    def read(cls, spec: ModelSpec, folder: Path) -> Work:
        """Of a spec, and the folder that the witnesses lie in.

        Raises:
            SpecError: A picture is missing or changed, or there is none.
        """
        faces, wanted = spec.witness_faces(folder)
        frames = tuple(load_picture(folder / witness.file) for witness in spec.witnesses)
        return cls(spec, faces, wanted, frames, tuple(witness.box for witness in spec.witnesses))

    def batches(self, size: int) -> tuple[list[U8], list[F32]]:
        """Two batches or more, of which no two begin with the same face, and the right answers.

        Returns:
            Each uint8 [size, S, S, 3], and float32 [size, K].
        """
        count = len(self.faces)
        starts = range(0, count, max(1, min(size, count // 2)))
        rows = [(start + np.arange(size)) % count for start in starts]
        return [self.faces[row] for row in rows], [self.wanted[row] for row in rows]


@dataclass(frozen=True)
class Entrant:
    """One that is measured or compared.

    Attributes:
        subject: What a result says of it.
        work: What it is asked.
        open: Opens it afresh.
        budget: Largest difference of a probability from the trained model's that is allowed.
        on_cpu: Whether it computes on the CPU.
        manifest: Of an engine; None for others.
        model: The FP32 model that an engine was built from, as ``--model`` gives it; None for the bundled one.
        own_times: Of one that cannot be asked and tells its own times: from a batch and seconds to milliseconds on
            the GPU, float64 [calls]. None for others.
    """

    subject: Subject
    work: Work
    open: Callable[[], AbstractContextManager[Runnable]]
    budget: float
    on_cpu: bool
    manifest: EngineManifest | None = None
    model: str | None = None
    own_times: Callable[[int, float], F64] | None = None

    @property
    def name(self) -> str:
        """For people and results."""
        return self.subject.name

    @property
    def fix(self) -> str:
        """What to do where it answers wrong."""
        if self.subject.kind != "peer":
            return FIX
        peer = self.subject.flavour
        return f"leave `--against {peer}` out, or compare with another version of it"

    def contender(self, batch: int) -> Contender:
        """The same for ``versus``, at one batch."""
        faces, wanted = self.work.batches(batch)
        return Contender(self.name, self.open, faces, self.budget, wanted, self.fix)

    def check_batches(self, batches: Sequence[int]) -> None:
        """Refuses batches that it was not built for.

        Raises:
            InputError: The first such batch.
        """
        low, high = self.subject.batch[0], self.subject.batch[-1]
        for batch in batches:
            if not low <= batch <= high:
                raise InputError(
                    f"{self.name} was built for batches {low} to {high}, not {batch}: leave it out of --batch, or "
                    f"build with --batch 1:{batch}:{max(batch, high)}"
                )


def engine_entrant(
    manifest: EngineManifest, model: str | None = None, *, spin: bool = False
) -> Entrant:
    """An engine, its files checked.

    Args:
        manifest: Of it.
        model: See ``Entrant``.
        spin: See ``engine.load``; one of onnxruntime is then called ``NAME spinning``.

    Raises:
        EngineMismatch: It cannot run here; the text names the build command.
        ManifestError: It is not what its manifest was written for.
        SpecError: A witness is missing or changed.
    """
    if reason := misfit(manifest):
        raise EngineMismatch(
            f"{manifest.path.name} {reason}; run: {build_command(manifest.name, manifest)}"
        )
    manifest.check_files()
    subject = subject_of(manifest)
    if spins := spin and manifest.flavour == OnnxRuntime.flavour:
        subject = replace(subject, name=subject.name + SPINNING)
    budgets = {**BUDGETS[manifest.precision["asked"]], **manifest.budgets}
    return Entrant(
        subject=subject,
        work=Work.read(manifest.spec, manifest.path.parent),
        open=partial(open_session, manifest, spin=spins),
        budget=float(budgets["witnesses"]),
        on_cpu=backends.get(manifest.flavour).on_cpu,
        manifest=manifest,
        model=model,
    )
