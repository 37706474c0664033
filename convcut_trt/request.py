"""What a build is asked for, and whether it makes sense: found out before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convcut_trt import backends, devices, gates
from convcut_trt.backends.base import Backend, BuildOptions
from convcut_trt.candidate import known_budgets
from convcut_trt.errors import InputError
from convcut_trt.gates.judged import Judged
from convcut_trt.home import Model
from convcut_trt.precision.typed import NO_RANGES, PRECISIONS, form_of
from convcut_trt.ranges import Ranges
from convcut_trt.tails import TAILS

AUTO = "auto"
DEFAULT_BATCH = (1, 4, 16)


@dataclass(frozen=True)
class Request:
    """What to build.

    Attributes:
        precision: One of ``typed.PRECISIONS``, or ``auto``: the fastest that passes.
        output: Folder to publish into.
        backend: A flavour, or ``auto``: the first that can run here.
        targets: Keys of ``devices.json``; empty builds for this machine.
        batch: Smallest, usual and largest batch; three equal numbers fix it.
        judged: Faces for the gates; None takes the bundled ones.
        budgets: Changes to the gates' budgets.
        placement: What INT8 quantises; None for the default.
        mlp: ``conv`` or ``linear``; None for what the backend is best served with.
        ranges: ``NAME.ranges.json``; None takes the one beside the model.
        tail: One of ``tails.TAILS``: inside the engine, the kernel behind it, or the faster of both.
        workspace_mib: See ``BuildOptions``.
        timing_cache: See ``BuildOptions``.
    """

    precision: str
    output: Path
    backend: str = "auto"
    targets: tuple[str, ...] = ()
    batch: tuple[int, int, int] = DEFAULT_BATCH
    judged: Judged | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    placement: str | None = None
    mlp: str | None = None
    ranges: Path | None = None
    tail: str = "native"
    workspace_mib: int | None = None
    timing_cache: Path | None = None

    def options(self) -> BuildOptions:
        """What of it the backend is told.

        Raises:
            InputError: No such target.
        """
        return BuildOptions(
            batch=self.batch,
            targets=tuple(devices.find(name) for name in self.targets),
            workspace_mib=self.workspace_mib,
            timing_cache=self.timing_cache,
        )


def choose_backend(name: str, targets: tuple[str, ...]) -> Backend:
    """The backend of a request: ``auto`` is the first that can run here, or builds for the targets."""
    if name == "auto":
        return backends.get("tensorrt-rtx") if targets else backends.for_running()
    return backends.get(name)


def check(request: Request) -> Backend:
    """The backend of a request that makes sense.

    Raises:
        InputError: Precision, placement, budgets or backend do not fit each other.
        BackendMissing: It is not installed.
    """
    backend = choose_backend(request.backend, request.targets)
    if request.tail not in TAILS:
        raise InputError(f"--tail {request.tail!r} is not known: choose from {', '.join(TAILS)}")
    if request.precision == AUTO:
        if request.placement is not None:
            raise InputError("--precision auto tries every placement: leave --placement out")
        known = {key for limits in gates.BUDGETS.values() for key in limits}
        if strangers := sorted(set(request.budgets) - known):
            raise InputError(
                f"--budget {strangers[0]} is not known: choose from {', '.join(sorted(known))}"
            )
        for precision in PRECISIONS:
            gates.budgets(precision, known_budgets(precision, request.budgets))
    else:
        form_of(request.precision, backend.on_cpu, request.placement, request.mlp)
        gates.budgets(request.precision, request.budgets)
        if reason := backend.refuses(request.precision):
            raise InputError(reason)
    if reason := backend.missing():
        backend.versions()  # raises BackendMissing with the line to install
        raise InputError(reason)
    return backend


def find_ranges(model: Model, request: Request) -> tuple[Path, Ranges] | None:
    """The ranges of a request: those given, else those beside the model; None where it needs none or has none.

    Raises:
        InputError: INT8 without ranges, ranges of another model, or ranges for what needs none.
    """
    if request.precision not in ("int8", AUTO):
        if request.ranges is not None:
            raise InputError(f"--ranges is for int8, not for {request.precision}: leave it out")
        return None
    path = request.ranges or model.onnx.with_suffix(".ranges.json")
    if request.ranges is None and not path.is_file():
        if request.precision == "int8":
            raise InputError(NO_RANGES)
        return None
    ranges = Ranges.read(path)
    ranges.check(model.spec.onnx_sha256)
    return path, ranges
