"""Which engines a sweep makes: every combination that was asked for, and why some of them cannot be."""

from __future__ import annotations

import argparse
import hashlib
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np

from convcut_trt import __version__, backends, request, tails
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import canonical, sha256
from convcut_trt.home import DEFAULT_MODEL, Model, find_model
from convcut_trt.measuring import provenance
from convcut_trt.network import read_model
from convcut_trt.optional import load
from convcut_trt.precision.int8 import PLACEMENTS
from convcut_trt.precision.typed import DEFAULT_PLACEMENT, MLPS, PRECISIONS
from convcut_trt.request import DEFAULT_BATCH, Request

TAILS = ("native", "kernel")
AXES = {
    "precision": PRECISIONS,
    "placement": tuple(PLACEMENTS),
    "mlp": MLPS,
    "tail": TAILS,
    "backend": backends.NAMES,
}
"""Option -> what it takes, one or several with commas between."""


@dataclass(frozen=True)
class Cell:
    """One engine of a sweep.

    Attributes:
        onnx: Of the network.
        network: Its name.
        precision: One of ``PRECISIONS``.
        backend: Flavour.
        placement: Of INT8; empty without.
        mlp: One of ``MLPS``.
        tail: One of ``TAILS``.
        refused: Why it cannot be built or run here; empty where it is tried.
    """

    onnx: Path
    network: str
    precision: str
    backend: str
    placement: str
    mlp: str
    tail: str
    refused: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """Unlike that of every other in the sweep; a folder is called so."""
        tail = "kernel-tail" if self.tail == "kernel" else ""
        parts = (self.network, self.precision, self.placement, self.backend, self.mlp, tail)
        return ".".join(part for part in parts if part)

    def request(self, folder: Path, batches: Sequence[int]) -> Request:
        """What is built for it."""
        ordered = sorted(batches)
        return Request(
            precision=self.precision,
            output=folder,
            backend=self.backend,
            batch=(ordered[0], ordered[len(ordered) // 2], ordered[-1]),
            placement=self.placement or None,
            mlp=self.mlp,
            tail=self.tail,
        )


@dataclass(frozen=True)
class Asked:
    """How every engine of a sweep is measured.

    Attributes:
        batches: Faces in a call; engines are compared at each.
        seconds: Of each measurement and each opening.
        openings: Of each comparison.
        data: Labelled faces; None without.
    """

    batches: tuple[int, ...]
    seconds: float
    openings: int
    data: str | None

    @classmethod
    def of(cls, options: Namespace) -> Asked:
        """As ``cli`` parses it."""
        batches = options.batch or DEFAULT_BATCH
        return cls(tuple(batches), options.seconds, options.openings, options.data)


def keys(cells: Sequence[Cell], asked: Asked) -> dict[str, str]:
    """Cell -> what changes with all that its outcome depends on: model, ranges, task, versions, machine."""
    libraries = {name: str(load(name, "ort").__version__) for name in ("onnx", "onnxruntime")}
    machine = asdict(provenance.machine())
    data = Path(asked.data) if asked.data is not None else None
    facts = {
        "asked": asdict(asked),
        "data": sha256(data) if data is not None and data.is_file() else None,
        "versions": {"convcut_trt": __version__, "numpy": np.__version__, **libraries},
        # how much memory the system reports may change from one start to the next
        "machine": {k: v for k, v in machine.items() if not k.endswith("memory_bytes")},
    }
    specs, ranges = {}, {}
    for onnx in {cell.onnx for cell in cells}:
        beside = onnx.with_suffix(".ranges.json")
        specs[onnx] = find_model(onnx).spec.to_json()
        ranges[onnx] = sha256(beside) if beside.is_file() else None
    found = {}
    for cell in cells:
        own = {
            "cell": cell.name,
            "spec": specs[cell.onnx],
            "ranges": ranges[cell.onnx] if cell.precision == "int8" else None,
            "backend": backends.get(cell.backend).versions(),
        }
        found[cell.name] = hashlib.sha256(canonical({**facts, **own})).hexdigest()
    return found


def several(option: str) -> Callable[[str], tuple[str, ...]]:
    """What argparse's ``type`` makes of an option of ``AXES``."""

    def parse(text: str) -> tuple[str, ...]:
        given = tuple(dict.fromkeys(text.split(",")))
        if strangers := [name for name in given if name not in AXES[option]]:
            raise argparse.ArgumentTypeError(
                f"{strangers[0]!r} is not known: choose from {', '.join(AXES[option])}, several with commas between"
            )
        return given

    return parse


def refuse_without_sweep(options: Namespace) -> None:
    """Refuses options that say what to build, where nothing is built.

    Raises:
        InputError: The first of them.
    """
    for option in AXES:
        if getattr(options, option, None) is not None:
            raise InputError(f"--{option} says what a sweep builds: add --sweep, or leave it out")


def plan(options: Namespace) -> tuple[Cell, ...]:
    """The cells, those that the others of a network are compared with before them.

    Raises:
        InputError: No such network, two of one name, or an option that is for other cells.
        BackendMissing: No backend is named, and none runs here.
    """
    models = [find_model(name) for name in options.engines or (DEFAULT_MODEL,)]
    names = [model.spec.name for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two networks are called {twice[0]}: sweep over them in two folders")
    precisions = options.precision or PRECISIONS
    if options.placement is not None and "int8" not in precisions:
        raise InputError("--placement says what int8 quantises: add int8 to --precision")
    flavours = options.backend or _running()
    cells = [
        Cell(model.onnx, model.spec.name, precision, flavour, placement, mlp, tail)
        for model, precision in product(models, precisions)
        for flavour in flavours
        for placement in _placements(precision, options.placement)
        for mlp in options.mlp or MLPS
        for tail in options.tail or _tails(flavour)
    ]
    batches = Asked.of(options).batches
    return tuple(_judged(cells, {model.spec.name: model for model in models}, batches))


def _running() -> tuple[str, ...]:
    found = tuple(name for name in backends.NAMES if backends.get(name).can_run() is None)
    if not found:
        backends.for_running()  # raises, and says why of each
    return found


def _placements(precision: str, given: Iterable[str] | None) -> Iterable[str]:
    if precision != "int8":
        return ("",)
    return given or (DEFAULT_PLACEMENT,)


def _tails(flavour: str) -> tuple[str, ...]:
    return TAILS[:1] if backends.get(flavour).on_cpu else TAILS


def _judged(
    cells: Iterable[Cell], models: dict[str, Model], batches: Sequence[int]
) -> Iterator[Cell]:
    for cell in cells:
        reason = _refusal(cell, models[cell.network], batches)
        yield replace(cell, refused=reason)


def _refusal(cell: Cell, model: Model, batches: Sequence[int]) -> str:
    backend = backends.get(cell.backend)
    if reason := backend.can_run() or backend.refuses(cell.precision):
        return reason
    wanted = cell.request(Path(), batches)
    try:
        request.check(wanted)
        request.find_ranges(model, wanted)
        if cell.tail == "kernel":
            tails.check_kernel(backend, read_model(model), runs_here=True)
    except ConvcutError as error:
        return str(error)
    return ""
