"""What a bench found, as files: JSON with a schema number, which reports and tables are made from.

Times are milliseconds, sizes bytes, shares and probabilities 0 to 1. What was not measured is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convcut_trt.errors import InputError
from convcut_trt.fields import read_json, write_file
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring import typed_json
from convcut_trt.measuring.conditions import Conditions
from convcut_trt.measuring.distribution import Distribution
from convcut_trt.measuring.energy import Energy
from convcut_trt.measuring.provenance import Machine

SCHEMA = 1
STEADY, IDLE, WHOLE, ON_GPU = "steady", "after idle", "frame to label", "on the GPU"
"""Ways of timing. steady: calls one behind the other, from faces in host memory to answers there. after idle: the
same, 30 times a second. frame to label: from a uint8 frame and a box in host memory to the label: crop, resize,
infer, argmax. on the GPU: between events, faces and answers in GPU memory, as a CUDA graph: what trtexec shows."""
_FIX = "bench again, or read it with the version that wrote it"


@dataclass(frozen=True)
class Series:
    """One way of timing at one batch.

    Attributes:
        way: ``STEADY``, ``IDLE``, ``WHOLE`` or ``ON_GPU``.
        batch: Faces in a call.
        settled: Whether the warm-up ended with stable times.
        times: Of the calls.
    """

    way: str
    batch: int
    settled: bool
    times: Distribution

    @property
    def throughput(self) -> float:
        """Faces a second, by the mean."""
        return 1000 * self.batch / self.times.mean


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        process: Resident, with the engine open and warm.
        engine: By how much that grew when it was opened and ran; None where more was freed meanwhile.
        peak: Most that the process ever had.
        gpu: By how much the GPU's free memory shrank; None without a GPU of its own.
    """

    process: int | None
    engine: int | None
    peak: int | None
    gpu: int | None


@dataclass(frozen=True)
class Accuracy:
    """On labelled faces.

    Attributes:
        data: Which.
        images: How many.
        share: Answered right.
        low: Lower end of its 95 % interval.
        high: Upper end.
        confusion: Of each class, the true one, how often every class was answered, in the order of the classes.
    """

    data: str
    images: int
    share: float
    low: float
    high: float
    confusion: Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """What was measured.

    Attributes:
        name: Unlike every other in a result: an engine's file without its ending, or a peer's name.
        kind: ``engine`` or ``peer``.
        model: Name of the network.
        flavour: Backend, or the peer's library.
        asked: Precision that was asked for: fp32, fp16, bf16 or int8.
        precision: In words: what is stored, and what it is computed in.
        stored: Share of the weight bytes by type.
        computed: Share of the multiply-adds by type.
        batch: Smallest, usual and largest batch.
        placement: Of INT8; empty without.
        mlp: Form of the MLPs.
        tail: ``native`` or ``kernel``.
        target: Device it was built for; empty for this machine.
        operations: Of its plan.
        sha256: Of ``engine``, ``typed_onnx``, ``onnx`` and ``ranges``.
        versions: Of what built it.
        gates: Name, value, budget, verdict and detail of each.
        verified_on: Where the gates ran.
        judged_on: On which faces.
        date: When it was built.
    """

    name: str
    kind: str
    model: str
    flavour: str
    asked: str
    precision: str
    stored: Mapping[str, Any]
    computed: Mapping[str, Any]
    batch: tuple[int, ...]
    placement: str
    mlp: str
    tail: str
    target: str
    operations: int | None
    sha256: Mapping[str, Any]
    versions: Mapping[str, Any]
    gates: tuple[Mapping[str, Any], ...]
    verified_on: str
    judged_on: str
    date: str


def subject_of(manifest: EngineManifest) -> Subject:
    """What a result says of an engine."""
    return Subject(
        name=manifest.path.stem,
        kind="engine",
        model=manifest.name,
        flavour=manifest.flavour,
        asked=str(manifest.precision["asked"]),
        precision=str(manifest.precision["text"]),
        stored=manifest.precision["stored"],
        computed=manifest.precision["computed"],
        batch=manifest.batch,
        placement=manifest.placement,
        mlp=manifest.mlp,
        tail=manifest.tail,
        target=manifest.target,
        operations=manifest.operations,
        sha256=manifest.sha256,
        versions=manifest.versions,
        gates=manifest.gates,
        verified_on=manifest.verified_on,
        judged_on=manifest.judged_on,
        date=manifest.date,
    )


@dataclass(frozen=True)
class Measured:
    """One engine or peer.

    Attributes:
        subject: What it is.
        open_ms: Opening it.
        first_ms: The first call after that.
        difference: Largest difference of a probability from the trained model's, over all timed answers.
        series: In the order in which they were measured.
        not_measured: Way -> why not.
        memory: What it needs.
        energy: What an inference costs; None where the machine does not tell.
        accuracy: On the faces of ``--data``.
        before: The machine.
        after: The same, after the last series.
        flags: ``throttled``, ``swapped``, ``busy``, each with what showed it.
    """

    subject: Subject
    open_ms: float
    first_ms: float
    difference: float
    series: tuple[Series, ...]
    not_measured: Mapping[str, Any]
    memory: Memory
    energy: Energy | None
    accuracy: Accuracy | None
    before: Conditions
    after: Conditions
    flags: Mapping[str, Any]


@dataclass(frozen=True)
class Blocks:
    """Times of one opening of a comparison: of blocks evenly spaced in time, each beside the other's of that block.

    Attributes:
        name_ms: Of the one, the geometric mean of its two calls in each block.
        other_ms: Of the other.
    """

    name_ms: tuple[float, ...]
    other_ms: tuple[float, ...]


@dataclass(frozen=True)
class Compared:
    """Two engines against each other, opened anew many times; see ``versus``.

    Attributes:
        name: ``Subject.name`` of the one.
        other: Of the other.
        batch: Faces in a call.
        openings: How many.
        seconds: Of calls in each.
        ratio: How many times as fast the one is as the other.
        low: Of the ratio's 95 % interval over the openings; None after too few to have one.
        high: Upper end.
        verdict: ``faster``, ``slower``, ``same`` or ``inconclusive``; see ``measure.Ratio``.
        log_ratios: Of each opening.
        name_ms: Of each opening the median of the one.
        other_ms: Of the other.
        before: The machine.
        after: The same, after the last opening.
        flags: As in ``Measured``; where there is one, the verdict is ``inconclusive``.
        blocks: Of each opening 100 blocks at most; empty in results from before they were kept.
    """

    name: str
    other: str
    batch: int
    openings: int
    seconds: float
    ratio: float
    low: float | None
    high: float | None
    verdict: str
    log_ratios: tuple[float, ...]
    name_ms: tuple[float, ...]
    other_ms: tuple[float, ...]
    before: Conditions
    after: Conditions
    flags: Mapping[str, Any]
    blocks: tuple[Blocks, ...] = ()


@dataclass(frozen=True)
class Result:
    """A run of ``convcut-trt bench``.

    Attributes:
        command: With the names of what was measured, and no folder.
        date: UTC, ISO 8601.
        commit: Of the checkout, ``-dirty`` where it has changes; None outside one.
        versions: Of this package, Python and the libraries that are there.
        machine: Where.
        complete: False where it was interrupted: the rest is missing.
        measured: Engines and peers.
        compared: Pairs of them.
        skipped: Peers that were asked for and are not here: name -> why.
    """

    command: str
    date: str
    commit: str | None
    versions: Mapping[str, Any]
    machine: Machine
    complete: bool
    measured: tuple[Measured, ...]
    compared: tuple[Compared, ...]
    skipped: Mapping[str, Any] = field(default_factory=dict)


def write(path: Path, result: Result) -> None:
    """Writes a result, whole or not at all.

    Raises:
        InputError: It cannot be written there.
    """
    write_file(path, (typed_json.text(to_json(result)) + "\n").encode())


def to_json(result: Result) -> dict[str, Any]:
    """A result as a JSON object."""
    return {"schema": SCHEMA, **asdict(result)}


def read(path: Path) -> Result:
    """Reads a result.

    Raises:
        InputError: No such file, a damaged one, or one of another schema; the text names it.
    """
    found: Result = typed_json.read(Result, read_json(path, SCHEMA, InputError, _FIX))
    return found
