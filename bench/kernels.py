"""The two kernels on a GPU, against the ways to do without them. Every answer is checked before it is timed.

    python -m bench.kernels --out bench/results [--quick] [--part tail]

writes ``kernels.DEVICE.json`` after every shape, so that what was measured is kept whatever comes, and the page
``kernels.DEVICE.md`` at the end. Shapes that the time does not suffice for are told as not measured.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import about, floors, kernels_page
from bench.inputs import Expected, random_boxes, random_map, random_tail
from bench.kernel_methods import (
    EMPTY,
    KERNEL,
    EmptyKernel,
    KernelFaces,
    KernelTail,
    Place,
    TwinFaces,
    empty_function,
)
from bench.kernel_plan import CLASSES, FACES, FULL, QUICK, TAIL, Form, Plan
from bench.turns import WAYS, Comparison, Meter, Method, Wrong, compare, one_line
from convcut_trt.backends.probe import gpu
from convcut_trt.errors import BackendMissing, ConvcutError
from convcut_trt.fields import write_file
from convcut_trt.frames import Layout
from convcut_trt.gpu.driver import Cuda, Stream
from convcut_trt.gpu.kernels import Kernels
from convcut_trt.gpu.resources import Resources
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.kernels.tail import Tail
from convcut_trt.preprocess import faces

if TYPE_CHECKING:
    from bench.torch_side import TorchGpu
    from bench.torch_tails import TorchTails

RESULTS = Path(__file__).parent / "results"
NO_TIME = "not measured: the time was used up"


class Bench:
    """One GPU, made ready to measure.

    Attributes:
        cuda: The GPU.
        stream: On which everything is timed.
        kernels: Of this package.
        meter: Takes samples.
        torch: torch on the same stream; None where it cannot be had, and ``no_torch`` says why.
        ceilings: Of the GPU.
        random: For inputs and orders.
    """

    def __init__(self, cuda: Cuda, plan: Plan, seed: int, opened: ExitStack) -> None:
        opened.enter_context(cuda)
        self.cuda, self.stream = cuda, Stream(cuda)
        resources = Resources(cuda)
        opened.callback(resources.close)
        self.kernels = Kernels(cuda, resources)
        self.meter = Meter(cuda, self.stream, resources)
        self.random = np.random.default_rng(seed)
        self.torch, self.no_torch = self._torch(opened)
        self.empty = empty_function(Place(cuda, self.stream, self.kernels, resources))
        end = time.perf_counter() + plan.warm_up_s
        while True:
            moved = floors.bandwidth(self.meter)
            if time.perf_counter() >= end:
                break
        state = about.clock_state() or {}
        self.ceilings = floors.Ceilings(
            cuda.compute_capability, cuda.multiprocessors, state.get("sm_mhz"), moved
        )

    def _torch(self, opened: ExitStack) -> tuple[TorchGpu | None, str]:
        try:
            from bench.torch_side import TorchGpu

            return opened.enter_context(TorchGpu(int(self.stream))), ""
        except (ImportError, ConvcutError) as error:
            return None, one_line(error)

    def place(self, resources: Resources) -> Place:
        """For one comparison, whose resources are its own."""
        return Place(self.cuda, self.stream, self.kernels, resources)


Rows = list[dict[str, Any]]
Keep = Callable[[Rows], None]


def measure_tails(bench: Bench, plan: Plan, keep: Keep) -> Rows:
    """Every form at every batch; ``keep`` is called with all rows so far."""
    rows: Rows = []
    end, compiling = time.perf_counter() + plan.seconds[TAIL], plan.compile_s
    for form in plan.forms:
        if time.perf_counter() > end:
            rows += [{**vars(form), "batch": n, "reason": NO_TIME} for n in plan.batches]
        else:
            compiling -= _measure_form(bench, plan, form, rows, compiling)
        keep(rows)
    return rows


def _measure_form(bench: Bench, plan: Plan, form: Form, rows: Rows, compile_s: float) -> float:
    """Adds the rows of a form; returns the seconds that torch.compile took."""
    tail = random_tail(bench.random, form.channels, form.side, form.units, form.attention, CLASSES)
    modules = None if bench.torch is None else _torch_tails(bench.torch, tail)
    compiled_s = 0.0
    for batch in plan.batches:
        map = random_map(bench.random, tail, batch)
        expected = Expected(tail, map)
        reasons: dict[str, str] = {}
        resources = Resources(bench.cuda)
        try:
            place = bench.place(resources)
            methods: list[Method] = [
                KernelTail(place, tail, map, expected),
                EmptyKernel(place, bench.empty, (batch, 1, 1)),
            ]
            if modules is None:
                reasons["torch"] = bench.no_torch
            else:
                methods += modules.eager(map, expected)
                for mode in modules.modes(batch):
                    start = time.perf_counter()
                    try:
                        if compiled_s > compile_s:
                            raise TimeoutError(NO_TIME)
                        methods.append(modules.compiled(mode, map, expected))
                    # A compiler may fail in any way: the others are still to be measured.
                    except Exception as error:
                        reasons[f"torch.compile, {mode}"] = one_line(error)
                    compiled_s += time.perf_counter() - start
            found = compare(bench.meter, methods, plan.effort, bench.random)
            floor = floors.tail_floor(tail, batch, map.itemsize, bench.ceilings)
            rows.append({**vars(form), "batch": batch, **_row(found, reasons, floor)})
        finally:
            resources.close()
    if bench.torch is not None:
        bench.torch.tidy()
    return compiled_s


def measure_faces(bench: Bench, plan: Plan, keep: Keep) -> Rows:
    """Every format with every number of faces; ``keep`` is called with all rows so far."""
    size = find_model(DEFAULT_MODEL).spec.size
    rows: Rows = []
    end = time.perf_counter() + plan.seconds[FACES]
    for format in plan.formats:
        layout = Layout(*plan.frame, format)
        frame = bench.random.integers(0, 256, layout.rows * layout.pitch, dtype=np.uint8)
        for count in plan.faces:
            row: dict[str, Any] = {"frame": list(plan.frame), "format": format, "faces": count}
            if time.perf_counter() > end:
                rows.append({**row, "reason": NO_TIME})
            else:
                rows.append({**row, **_measure_crops(bench, plan, layout, frame, count, size)})
            keep(rows)
    return rows


def _measure_crops(
    bench: Bench, plan: Plan, layout: Layout, frame: Any, count: int, size: int
) -> dict[str, Any]:
    boxes = random_boxes(bench.random, layout, count)
    expected = faces(layout.view(frame), boxes, size, 0.0, layout.format)
    reasons: dict[str, str] = {}
    resources = Resources(bench.cuda)
    try:
        place = bench.place(resources)
        kernel = KernelFaces(place, layout, frame, boxes, expected)
        methods: list[Method] = [
            kernel,
            EmptyKernel(place, bench.empty, kernel.plan.grid),
            TwinFaces(layout, frame, boxes, size),
        ]
        if bench.torch is None:
            reasons["torch"] = bench.no_torch
        else:
            from bench.torch_faces import TorchFaces

            methods.append(TorchFaces(bench.torch, layout, frame, boxes, expected))
        found = compare(bench.meter, methods, plan.effort, bench.random)
        floor = floors.faces_floor(layout, kernel.crops, size, bench.ceilings)
        return _row(found, reasons, floor)
    finally:
        resources.close()


def _torch_tails(gpu: TorchGpu, tail: Tail) -> TorchTails:
    from bench.torch_tails import TorchTails

    return TorchTails(gpu, tail)


def _row(found: Comparison, reasons: Mapping[str, str], floor: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of all methods; how many times as fast the kernel is as each, and as long as an empty one."""
    methods = {**found.figures(), **{name: {"reason": text} for name, text in reasons.items()}}
    kernel_is: dict[str, Any] = {}
    for name in methods:
        if name == KERNEL:
            continue
        for way in WAYS:
            pair = (EMPTY, KERNEL) if name == EMPTY else (KERNEL, name)
            ratio = found.ratio(way, *pair)
            if ratio is not None:
                values = (ratio.value, ratio.low, ratio.high)
                kernel_is.setdefault(name, {})[way] = [float(f"{value:.4g}") for value in values]
    return {
        "floor": dict(floor),
        "kernel_is": kernel_is,
        "wrong": list(found.wrong),
        "methods": methods,
    }


def _failed(row: Mapping[str, Any]) -> set[str]:
    """The methods of a row that make the run a failure; what others lack is no fault of the kernel."""
    if "reason" in row:
        return set()
    return {*row["wrong"], *({KERNEL} if "reason" in row["methods"][KERNEL] else ())}


MEASURE: Mapping[str, Callable[[Bench, Plan, Keep], Rows]] = {
    FACES: measure_faces,
    TAIL: measure_tails,
}


def run(out: Path, part: str, plan: Plan, command: Sequence[str], seed: int) -> Path:
    """Measures a part and writes it down, again after every shape; returns the page.

    Raises:
        Wrong: The kernel did not answer, or a method answered wrong; everything is written.
        BackendMissing: cuda-bindings, the driver, or what compiles the kernels is not here.
        CudaError: The driver refused, or the context was lost; what was measured until then is written.
        InputError: The folder cannot be written to.
    """
    with ExitStack() as opened:
        cuda = Cuda()
        bench = Bench(cuda, plan, seed, opened)
        path = out / f"kernels.{about.slug(cuda.name)}.json"
        values: dict[str, Any] = {
            **about.about(command),
            "compute_capability": ".".join(map(str, cuda.compute_capability)),
            "multiprocessors": cuda.multiprocessors,
            "copy_gb_per_s": round(bench.ceilings.bytes_per_us / 1e3, 1),
            "sm_mhz": bench.ceilings.sm_mhz,
            "effort": asdict(plan.effort),
            "seed": seed,
            "clocks_before": about.clock_state(),
        }
        start = time.perf_counter()

        def keep(rows: Rows) -> None:
            values["seconds"] = round(time.perf_counter() - start, 1)
            values["clocks_after"] = about.clock_state()
            whole = about.keep(path, cuda.name, part, {**values, "rows": rows})
            write_file(path.with_suffix(".md"), kernels_page.markdown(whole).encode())

        rows = MEASURE[part](bench, plan, keep)
    failed = [f"{name}: {row['methods'][name]['reason']}" for row in rows for name in _failed(row)]
    if failed:
        raise Wrong(f"{part}: {len(failed)} failed, the first: {failed[0]}; see {path.name}")
    return path.with_suffix(".md")


def main(given: Sequence[str] | None = None) -> int:
    """Measures both kernels, or one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels",
        description="Time the tail and the preprocessing kernel against an empty kernel, numpy and torch.",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--part", choices=tuple(MEASURE), help="one of the two alone")
    parser.add_argument("--quick", action="store_true", help="a few shapes, half a minute")
    parser.add_argument("--seed", type=int, help="of inputs and orders (default: drawn anew)")
    options = parser.parse_args(given)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    found = gpu()
    if isinstance(found, str):
        raise BackendMissing(f"{found}: nothing can be measured, run this where the GPU is")
    options.out.mkdir(parents=True, exist_ok=True)
    command = ["python", "-m", "bench.kernels", "--out", "DIR", *(["--quick"] * options.quick)]
    print(f"seed {seed}")
    for part in (options.part,) if options.part else tuple(MEASURE):
        plan = QUICK if options.quick else FULL
        print(run(options.out, part, plan, [*command, "--part", part, "--seed", str(seed)], seed))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
