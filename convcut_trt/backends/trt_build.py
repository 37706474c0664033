"""Parses a typed ONNX and builds an engine from it. Runs in the child process only.

Written to what TensorRT 10.3 to 11.x and TensorRT-RTX 1.7 have in common: strongly typed networks,
no precision flags, no calibrators, and no plugins (under RTX the parser aborts where any plugin is
registered).
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from convcut_trt.backends import preflight
from convcut_trt.backends.base import Progress
from convcut_trt.backends.probe import Gpu, gpu
from convcut_trt.backends.trt_flavours import FLAVOURS, Feature
from convcut_trt.backends.trt_network import network_layers
from convcut_trt.backends.trt_timing import TimingCache
from convcut_trt.errors import BuildError, InputError

_STEPS = 1000  # progress is told in thousandths of the build


@dataclass(frozen=True)
class Request:
    """What the parent asks for; see BuildOptions.

    Attributes:
        flavour: The key into FLAVOURS.
        onnx: Absolute path of the typed ONNX.
        batch: Smallest, usual, largest.
        capabilities: (major, minor) to build for; empty for the GPU of this machine.
        workspace_mib: Or None.
        timing_cache: Absolute path of a folder, or None.
        layers_only: Read the network, and build nothing.
    """

    flavour: str
    onnx: str
    batch: tuple[int, int, int]
    capabilities: tuple[tuple[int, int], ...]
    workspace_mib: int | None
    timing_cache: str | None = None
    layers_only: bool = False

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The reverse of ``to_json``."""
        fields = json.loads(text)
        fields["batch"] = tuple(fields["batch"])
        fields["capabilities"] = tuple((major, minor) for major, minor in fields["capabilities"])
        return cls(**fields)


def build(request: Request, progress: Progress) -> tuple[dict[str, Any], memoryview]:
    """Builds the engine.

    Returns:
        ``version``, ``seconds`` and ``layers`` (the fields of Layer) of the build, and the plan; of ``layers_only``
        no ``seconds`` and an empty plan.

    Raises:
        BackendMissing, InputError, BuildError: As Backend.build.
    """
    flavour = FLAVOURS[request.flavour]
    trt = flavour.load()
    start = time.perf_counter()
    own = gpu()
    builds_here = not request.capabilities and not request.layers_only
    shared = builds_here and isinstance(own, Gpu) and own.integrated
    workspace_mib = preflight.workspace(Path(request.onnx), request.workspace_mib, shared)
    timings = None
    if request.timing_cache is not None:
        timings = TimingCache(flavour, trt, Path(request.timing_cache))
    progress("parsing", 0, _STEPS)
    problems: list[str] = []
    logger = _logger(trt, problems)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request.onnx):
        found = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise BuildError(
            f"{flavour.title} cannot read {Path(request.onnx).name}. "
            + (" ".join(found) or "It is not a whole ONNX file: export or copy it again.")
        )
    image = _image_input(network, request.batch)
    picture = tuple(image.shape[1:])
    low, usual, high = request.batch
    free = image.shape[0] == -1
    if free:  # read the layers at one image: then every shape is known
        image.shape = (1, *picture)
    layers = network_layers(trt, network)
    if request.layers_only:
        return {
            "version": trt.__version__,
            "layers": [asdict(layer) for layer in layers],
        }, memoryview(b"")
    config = builder.create_builder_config()
    if free and low == high:
        image.shape = (low, *picture)  # a batch known to the builder lets it fuse more
    elif free:
        image.shape = (-1, *picture)
        profile = builder.create_optimization_profile()
        profile.set_shape(image.name, (low, *picture), (usual, *picture), (high, *picture))
        config.add_optimization_profile(profile)
    _configure(trt, config, request, workspace_mib)
    if timings is not None:
        timings.attach(config)
    monitor = _monitor(trt, progress)  # the builder does not keep it alive
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(
            f"{flavour.title} cannot build {Path(request.onnx).name}: "
            + ("; ".join(problems) or "it does not say why")
        )
    if timings is not None:
        timings.keep(config)
    progress("done", _STEPS, _STEPS)
    result = {
        "version": trt.__version__,
        "seconds": time.perf_counter() - start,
        "layers": [asdict(layer) for layer in layers],
    }
    return result, memoryview(plan)


def _image_input(network: Any, batch: tuple[int, int, int]) -> Any:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or -1 in shapes[0][1:]:
        found = ", ".join(f"{t.name} {list(s)}" for t, s in zip(inputs, shapes, strict=True))
        raise InputError(
            f"the graph takes {found or 'nothing'}; an engine takes one [N, H, W, 3] with only N "
            "free: export the model again"
        )
    fixed = shapes[0][0]
    if fixed != -1 and batch != (fixed, fixed, fixed):
        raise InputError(
            f"the graph has a fixed batch of {fixed}: build with --batch {fixed}:{fixed}:{fixed}, "
            "or export it with a free one"
        )
    return inputs[0]


def _configure(trt: ModuleType, config: Any, request: Request, workspace_mib: int | None) -> None:
    flavour = FLAVOURS[request.flavour]
    # FP32 means FP32: TF32 has 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    if flavour.has(Feature.USER_ALLOCATION, trt):
        # Without it an engine may allocate while it runs, which no CUDA graph can hold.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if flavour.has(Feature.COMPUTE_CAPABILITY, trt):
        kinds = trt.ComputeCapability
        wanted = [f"SM{major}{minor}" for major, minor in request.capabilities] or ["CURRENT"]
        unknown = [name for name in wanted if name not in kinds.__members__]
        if unknown:
            raise InputError(
                f"{flavour.title} {trt.__version__} does not build for {', '.join(unknown)}: "
                f"it knows {', '.join(kinds.__members__)}"
            )
        config.num_compute_capabilities = len(wanted)
        for index, name in enumerate(wanted):
            config.set_compute_capability(kinds.__members__[name], index)


def _parser_error(error: Any) -> str:
    # desc() is the failed assertion of the parser's source: `condition && "why"`.
    quoted = re.findall(r'"([^"]+)"', error.desc())
    said = (quoted[-1] if quoted else error.desc()).strip().rstrip(".")
    if not error.node_operator():
        return f"{said}."
    return f"Node {error.node_name() or '(unnamed)'} ({error.node_operator()}): {said}."


def _logger(trt: ModuleType, problems: list[str]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Prints to stderr, which is the parent's log, and keeps the errors."""

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.VERBOSE:
                return
            print(f"{severity.name}: {message}", file=sys.stderr, flush=True)
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                problems.append(message.strip())

    return Logger()


class Fraction:
    """How much of a build is done, from phases that nest."""

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int]] = {}  # (parent, steps) of the open ones
        self._done: dict[str, int] = {}
        self._share = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside the one called ``parent``."""
        self._phases[phase] = parent, max(steps, 1)
        self._done[phase] = 0

    def step(self, phase: str, step: int) -> None:
        """The phase's step number ``step``, counted from 0, is done."""
        if phase in self._phases:
            self._done[phase] = step + 1

    def finish(self, phase: str) -> None:
        """The phase ends, perhaps before all its steps."""
        self._phases.pop(phase, None)

    @property
    def share(self) -> float:
        """From 0 to 1; never falls."""
        self._share = max(self._share, self._of(None))
        return self._share

    def _of(self, parent: str | None) -> float:
        """The part that is done of the furthest phase in ``parent``."""
        inside = [phase for phase, (above, _) in self._phases.items() if above == parent]
        return max(
            (min(1.0, (self._done[p] + self._of(p)) / self._phases[p][1]) for p in inside),
            default=0.0,
        )


def _monitor(trt: ModuleType, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Passes the builder's phases on. Methods may not raise: native code calls them."""

        def __init__(self) -> None:
            super().__init__()
            self._fraction = Fraction()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._fraction.start(phase_name, parent_phase, num_steps)
            self._tell(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._fraction.step(phase_name, step)
            self._tell(phase_name)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._fraction.finish(phase_name)

        def _tell(self, phase: str) -> None:
            progress(phase, int(self._fraction.share * (_STEPS - 1)), _STEPS)

    return Monitor()
