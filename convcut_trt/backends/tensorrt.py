"""TensorRT 10.3 to 11.x and TensorRT-RTX: one backend, two flavours."""

from __future__ import annotations

from pathlib import Path

from convcut_trt.backends import preflight, trt_inspect, trt_plan
from convcut_trt.backends.base import (
    BuildOptions,
    BuiltEngine,
    Layer,
    Progress,
    Session,
    existing_file,
    no_progress,
)
from convcut_trt.backends.probe import Gpu, gpu
from convcut_trt.backends.trt_build import Request
from convcut_trt.backends.trt_flavours import RTX, Feature, Flavour
from convcut_trt.backends.trt_plan import Operation
from convcut_trt.backends.worker import build_apart
from convcut_trt.devices import Device, supported
from convcut_trt.errors import BackendMissing, EngineMismatch, InputError
from convcut_trt.gpu.driver import load_driver
from convcut_trt.kernels.tail import Tail
from convcut_trt.optional import load
from convcut_trt.seam import split


class TensorRT:
    """The backend of one flavour."""

    on_cpu = False

    def __init__(self, flavour: Flavour) -> None:
        self._flavour = flavour

    @property
    def flavour(self) -> str:
        """See Backend."""
        return self._flavour.name

    def refuses(self, precision: str) -> str | None:
        """See Backend: every GPU of Ampere or later computes all of them."""
        return None

    def missing(self) -> str | None:
        """See Backend."""
        try:
            self._flavour.load()
        except BackendMissing as error:
            return str(error)
        return None

    def can_run(self) -> str | None:
        """See Backend."""
        if reason := self.missing():
            return reason
        found = gpu()
        if isinstance(found, str):
            return found
        try:
            load_driver()
        except BackendMissing as error:
            return str(error)
        return None

    def versions(self) -> dict[str, str]:
        """See Backend. ``cuda`` is the newest that the driver supports, where there is one."""
        versions = {self._flavour.module: str(self._flavour.load().__version__)}
        found = gpu()
        return versions if isinstance(found, str) else {**versions, "cuda": found.cuda}

    def check_build(self, typed_onnx: Path, options: BuildOptions) -> None:
        """See Backend."""
        existing_file(typed_onnx)
        self._capabilities(options.targets)
        if options.timing_cache is not None and not self._flavour.has(
            Feature.TIMING_CACHE, self._flavour.load()
        ):
            raise InputError(
                f"{self._flavour.title} times nothing while it builds: leave --timing-cache out"
            )
        found = gpu()
        shared = not options.targets and isinstance(found, Gpu) and found.integrated
        preflight.workspace(typed_onnx, options.workspace_mib, shared)

    def build(
        self, typed_onnx: Path, options: BuildOptions, progress: Progress = no_progress
    ) -> BuiltEngine:
        """See Backend. Parses and builds in a process of its own."""
        self._flavour.load()
        self.check_build(typed_onnx, options)
        capabilities = self._capabilities(options.targets)
        cache = options.timing_cache
        request = Request(
            flavour=self.flavour,
            onnx=str(typed_onnx.resolve()),
            batch=options.batch,
            capabilities=capabilities if options.targets else (),
            workspace_mib=options.workspace_mib,
            timing_cache=None if cache is None else str(cache.resolve()),
        )
        outcome = build_apart(self._flavour.title, request.to_json(), progress, options.timeout_s)
        report = outcome.report
        layers = tuple(Layer(**layer) for layer in report["layers"])
        operations = trt_plan.operations(outcome.engine)
        return BuiltEngine(
            engine=outcome.engine,
            flavour=self.flavour,
            version=report["version"],
            compute_capabilities=capabilities,
            layers=layers,
            plan=None if operations is None else tuple(trt_plan.as_layers(operations, layers)),
            log=outcome.log,
            seconds=report["seconds"],
            peak_memory=report["peak_memory"],
        )

    def open(
        self,
        engine: Path,
        *,
        threads: int | None = None,
        spin: bool = False,
        tail: Path | None = None,
    ) -> Session:
        """See Backend. Refused where there is no GPU; ``threads`` and ``spin`` have no meaning here."""
        self._flavour.load()
        plan = existing_file(engine).read_bytes()
        rtx = trt_plan.is_plan(plan)
        if self._flavour is RTX and not rtx:
            raise InputError(f"{engine.name} is not a TensorRT-RTX engine: build it again")
        if self._flavour is not RTX and rtx:
            raise EngineMismatch(
                f"{engine.name} is a TensorRT-RTX engine: open it with --backend {RTX.name}"
            )
        found = gpu()
        if isinstance(found, str):
            raise EngineMismatch(
                f"{engine.name}: engine for {_made_for(plan, self._flavour)}: {found}; run it there, or here: "
                "convcut-trt build --backend onnxruntime"
            )
        # Imported here: they bring what only a GPU needs.
        from convcut_trt.backends.trt_engine import LoadedEngine
        from convcut_trt.backends.trt_session import TensorRTSession

        follows = None if tail is None else _tail_of(tail)
        return TensorRTSession(LoadedEngine(self._flavour, engine.name, plan, follows))

    def describe(self, engine: Path, typed_onnx: Path | None = None) -> list[Layer] | None:
        """See Backend. Reads the text in RTX plans; full TensorRT is asked through its inspector, on the GPU."""
        operations = self.operations(engine)
        if operations is None:
            return None
        return trt_plan.as_layers(operations, self._network(typed_onnx) if typed_onnx else ())

    def operations(self, engine: Path) -> list[Operation] | None:
        """The device operations of an engine and what each covers; None where that cannot be read here."""
        plan = existing_file(engine).read_bytes()
        operations = trt_plan.operations(plan)
        if operations is None and self.can_run() is None:
            from convcut_trt.backends.trt_runtime import inspector_report

            operations = trt_inspect.operations(inspector_report(self._flavour, engine.name, plan))
        return operations

    def _network(self, typed_onnx: Path) -> tuple[Layer, ...]:
        """The layers of a typed ONNX with their multiply-adds."""
        model = load("onnx", self._flavour.extra).load(typed_onnx, load_external_data=False)
        size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
        request = Request(
            flavour=self.flavour,
            onnx=str(typed_onnx.resolve()),
            batch=(size, size, size),
            capabilities=(),
            workspace_mib=None,
            layers_only=True,
        )
        outcome = build_apart(self._flavour.title, request.to_json(), no_progress, None)
        return tuple(Layer(**layer) for layer in outcome.report["layers"])

    def _capabilities(self, targets: tuple[Device, ...]) -> tuple[tuple[int, int], ...]:
        """What the engine will be for; InputError where this flavour or machine cannot do it."""
        if not targets:
            return (self._own_gpu().compute_capability,)
        if not self._flavour.ahead_of_time:
            raise InputError(
                f"{self._flavour.title} builds only for the GPU it runs on: leave out --target and "
                f"build on the {targets[0].name}, or use --backend {RTX.name}"
            )
        for device in targets:
            if self.flavour not in device.flavours:
                raise InputError(
                    f"{self._flavour.title} has no engines for {device.name}"
                    f"{f' ({device.note})' if device.note else ''}: {_choices(self.flavour)}"
                )
        # Two names may mean one capability; the builder takes each once.
        return tuple(dict.fromkeys(device.compute_capability for device in targets))

    def _own_gpu(self) -> Gpu:
        found = gpu()
        if isinstance(found, Gpu):
            return found
        if self._flavour.ahead_of_time:
            raise InputError(f"{found}, so say what to build for: {_choices(self.flavour)}")
        raise InputError(
            f"{self._flavour.title} builds on the GPU it runs on, and there is {found}: build on "
            f"the device, or here with --backend {RTX.name} --target {supported(RTX.name)[0]}"
        )


def _tail_of(typed_onnx: Path) -> Tail:
    onnx = load("onnx", "rtx")
    return Tail.from_onnx(split(onnx.load(typed_onnx))[1])


def _choices(flavour: str) -> str:
    first, *rest = supported(flavour)
    return f"--target {first} (or {', '.join(rest)})"


def _made_for(plan: bytes, flavour: Flavour) -> str:
    """For example ``sm_89 (TensorRT-RTX 1.7.1.116)``, as far as the plan can be read."""
    version = trt_plan.version(plan)
    built_by = f"{flavour.title} {version}" if version else flavour.title
    # sm89 in the plan, sm_89 everywhere else.
    made_for = ", ".join(f"sm_{name[2:]}" for name in trt_plan.accelerators(plan))
    return f"{made_for or 'another machine'} ({built_by})"
