"""Time of each operation of engines on this GPU, beside what is estimated for the layers that it does.

    python -m bench.gpu_layers --out bench/results --backend tensorrt

writes ``layers.DEVICE.json`` and its page. Engines are built from the trained network and from larger ones with
random weights; the network as a whole is timed between events, in a CUDA graph, its operations by TensorRT's
profiler. Estimates are made of the datasheet's roofs, and of those measured here. What TensorRT does not tell, and
what does not run here, is part of the result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from bench import about, layers_page
from bench.attribution import F64, attribute, compared, factor, roof, short, strangers
from bench.roof_of import Roof, figures_here, roofs_here
from bench.tails import BACKENDS, RESULTS
from bench.turns import one_line
from convcut_trt.backends.base import BuildOptions
from convcut_trt.backends.probe import gpu
from convcut_trt.backends.tensorrt import TensorRT
from convcut_trt.backends.trt_flavours import FLAVOURS
from convcut_trt.backends.trt_plan import Operation
from convcut_trt.backends.trt_profile import operation_times
from convcut_trt.backends.trt_session import TensorRTSession
from convcut_trt.backends.trt_timed import gpu_times
from convcut_trt.errors import ConvcutError, CudaError, GateFailed
from convcut_trt.fields import write_file
from convcut_trt.gates import BUDGETS
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, Model, find_model, zoo_names
from convcut_trt.measuring.roofline import Estimate, estimate_for
from convcut_trt.measuring.timed import Timed, asking, settle
from convcut_trt.measuring.work import ON_GPU, layers
from convcut_trt.network import read_model
from convcut_trt.precision.typed import form_of, to_typed
from convcut_trt.ranges import Ranges
from convcut_trt.request import DEFAULT_BATCH
from convcut_trt.scratch import scratch_folder

QUICK_CASES = ((DEFAULT_MODEL, "fp16"), (DEFAULT_MODEL, "fp32"), (DEFAULT_MODEL, "int8"))
CASES = (*QUICK_CASES, ("conv-cut-edge", "fp16"), ("conv-cut", "fp16"))
"""Network, a zoo name or a recipe's, and precision."""
BATCHES = (DEFAULT_BATCH[0], DEFAULT_BATCH[2])
RUNS, QUICK_RUNS = 100, 20
WARM_UP_S = 2.0


@dataclass(frozen=True)
class Engine:
    """An open engine and all that its times are held against.

    Attributes:
        session: Open.
        operations: By its own report; None where it cannot be read.
        model: What it was built from.
        typed: The graph that was built.
        precision: That was asked for.
    """

    session: TensorRTSession
    operations: list[Operation] | None
    model: Model
    typed: onnx.ModelProto
    precision: str

    def asked(self, batch: int) -> Timed:
        """Asks for two batches of witnesses in turns, and holds the answers to the trained network's."""
        faces, wanted = self.model.spec.witness_faces(self.model.folder)
        rows = [np.arange(start, start + batch) % len(faces) for start in (0, 1)]
        return Timed(
            f"{self.model.spec.name} {self.precision}, batch {batch},",
            asking(self.session, [faces[row] for row in rows]),
            BUDGETS[self.precision]["witnesses"],
            [wanted[row] for row in rows],
            "`convcut-trt build` says which of its gates it fails",
        )


def measure(engine: Engine, batch: int, runs: int, roofs: Sequence[Roof]) -> dict[str, Any]:
    """Times an engine and its operations, and holds both against estimates.

    Args:
        engine: Open.
        batch: Faces in a call.
        runs: How many of each kind.
        roofs: What the estimates come from.

    Raises:
        GateFailed: A wrong answer.
        CudaError: The GPU failed.
    """
    call = engine.asked(batch)
    settle(call, WARM_UP_S)
    place = call.place
    call()  # brings its faces to the GPU
    whole, answers = gpu_times(engine.session, batch, runs)
    call.check(place, answers)
    times: dict[str, F64] = {}
    said = "nothing"
    place = call.place
    call()
    try:
        times, answers = operation_times(engine.session, batch, runs)
        call.check(place, answers)
    except CudaError as error:
        if error.fatal:
            raise
        said = one_line(error)
    work = layers(engine.typed, batch, ON_GPU)
    found = attribute(list(times), engine.operations or (), work)
    measured = float(np.median(whole))
    row: dict[str, Any] = {
        "batch": batch,
        "outcome": "measured",
        "measured_ms": short(measured),
        "samples_ms": [short(value) for value in whole],
        "layers": len(work),
        "reported": None if engine.operations is None else len(engine.operations),
        "told": len(times),
        "told_us": short(float(np.median(sum(times.values()))) * 1e3) if times else None,
        "strangers": strangers(times, found),
        "against": [],
    }
    if not times:
        row["said"] = said
    for device, variant in roofs:
        guess = estimate_for(device, engine.typed, batch, variant)
        by_layer = compared(times, found, guess.layers) if times else {}
        row["against"].append({**_whole(guess, measured), **by_layer})
    return row


def _whole(guess: Estimate, measured_ms: float) -> dict[str, Any]:
    return {
        "roofs": guess.name,
        "estimate_ms": short(guess.expected_ms),
        "range_ms": [short(guess.low_ms), short(guess.high_ms)],
        "factor": factor(measured_ms, guess.expected_ms),
        **roof(guess.layers, measured_ms * 1e3),
    }


def cases(
    backend: TensorRT, network: str, precision: str, runs: int, roofs: Sequence[Roof]
) -> Iterator[dict[str, Any]]:
    """Builds an engine and measures it at each of ``BATCHES``.

    Raises:
        ConvcutError: It cannot be built or does not run here, or as ``measure``.
    """
    with scratch_folder() as folder:
        model = find_model(network) if network in zoo_names() else _random(network, folder)
        ranges = None
        if precision == "int8":
            ranges = Ranges.read(model.onnx.with_suffix(".ranges.json"))
        form = form_of(precision, backend.on_cpu, None, None)
        typed = to_typed(read_model(model), form, ranges).model
        path = folder / "typed.onnx"
        path.write_bytes(typed.SerializeToString())
        plan = path.with_suffix(".engine")
        plan.write_bytes(backend.build(path, BuildOptions(DEFAULT_BATCH)).engine)
        operations = backend.operations(plan)
        with backend.open(plan) as session:
            engine = Engine(cast(TensorRTSession, session), operations, model, typed, precision)
            for batch in BATCHES:
                yield measure(engine, batch, runs, roofs)


def _random(network: str, folder: Path) -> Model:
    # Imported here: it takes seconds, and the zoo's network does not need it.
    from bench.random_network import random_model

    return random_model(network, folder)


def run(out: Path, name: str, *, quick: bool, command: Sequence[str]) -> int:
    """Measures one backend and writes it down after each engine; the exit code.

    Nothing is wrong where this backend does not run here: that is said, and nothing is written.

    Args:
        out: Folder of the results.
        name: Of the backend, one of ``tails.BACKENDS``.
        quick: Fewer networks and runs.
        command: As typed.
    """
    found, backend = gpu(), TensorRT(FLAVOURS[name])
    reason = backend.can_run()
    if reason or isinstance(found, str):
        print(f"no layer times of {name}: {reason or found}")
        return 0
    path = out / f"layers.{about.slug(found.name)}.json"
    roofs, missing = roofs_here(found)
    rows: list[dict[str, Any]] = []
    part: dict[str, Any] = {
        **about.about(command),
        "backend": backend.versions(),
        "compute_capability": ".".join(map(str, found.compute_capability)),
        "clocks_before": about.clock_state(),
        "outcome": "begun and not finished: the process ended while it worked",
        "roofs": figures_here(roofs),
        "missing": missing,
        "cases": rows,
    }

    def keep(**changes: Any) -> None:
        part.update(changes)
        _write(path, about.keep(path, found.name, name, part))

    wrong = 0
    for network, precision in QUICK_CASES if quick else CASES:
        which = {"network": network, "precision": precision}
        try:
            for row in cases(backend, network, precision, QUICK_RUNS if quick else RUNS, roofs):
                rows.append({**which, **row})
                keep()
        except GateFailed as error:
            wrong += 1
            rows.append({**which, "outcome": one_line(error)})
        except ConvcutError as error:
            if isinstance(error, CudaError) and error.fatal:
                raise
            # What is not for this GPU, and who says so, is a result too.
            rows.append({**which, "outcome": f"not measured: {one_line(error)}"})
        keep()
    measured = len({(row["network"], row["precision"]) for row in rows if "told" in row})
    keep(clocks_after=about.clock_state(), outcome=f"{measured} engines measured")
    print(path.with_suffix(".md"))
    return GateFailed.exit_code if wrong else 0


def _write(path: Path, whole: Mapping[str, Any]) -> None:
    write_file(path.with_suffix(".md"), layers_page.markdown(whole).encode())


def main(given: Sequence[str] | None = None) -> int:
    """Measures with one backend."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_layers",
        description="Build engines for this GPU, and hold the time of their operations against estimates.",
        epilog="example: python -m bench.gpu_layers --backend tensorrt",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument("--quick", action="store_true", help="the trained network only, fewer runs")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    command = ["python", "-m", "bench.gpu_layers", "--out", "DIR", "--backend", options.backend]
    command += ["--quick"] * options.quick
    return run(options.out, options.backend, quick=options.quick, command=command)


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
