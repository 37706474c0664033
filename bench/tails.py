"""The FP16 engine with the native tail and with the kernel behind it, built, judged and timed on this GPU.

    python -m bench.tails --out bench/results --backend tensorrt-rtx

writes ``tails.DEVICE.json`` and its page. Where the engine does not run the result is that, in the library's words.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import about
from bench.turns import Wrong, one_line
from convcut_trt import backends, devices, tails
from convcut_trt.auto import time_engines
from convcut_trt.backends.base import BuildOptions
from convcut_trt.backends.probe import gpu
from convcut_trt.backends.trt_flavours import FLAVOURS
from convcut_trt.candidate import Candidate, Workshop, make
from convcut_trt.errors import BackendMissing, ConvcutError
from convcut_trt.fields import write_file
from convcut_trt.gates import judged
from convcut_trt.gates.judge import Case
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.measuring.measure import Timings
from convcut_trt.network import read_model
from convcut_trt.precision.typed import form_of, to_typed
from convcut_trt.progress import Progress

RESULTS = Path(__file__).parent / "results"
BACKENDS = ("tensorrt-rtx", "tensorrt")
AHEAD = ("h200", "rtx4060ti")  # compute capabilities 9.0 and 8.9
BATCHES = ((1, 1, 1), (1, 8, 16))
NATIVE, KERNEL = "native tail", "kernel tail"
_UNFINISHED = "begun and not finished: the process ended while it worked"
_LOG = 1500  # characters of what the library said


def measure(backend_name: str, faces: int) -> dict[str, Any]:
    """Builds, judges and times both engines for each of ``BATCHES``.

    Args:
        backend_name: One of ``BACKENDS``.
        faces: How many of the bundled pictures the gates take.

    Raises:
        ConvcutError: The engine cannot be had here; the text says why.
    """
    backend = backends.get(backend_name)
    if reason := backend.can_run():
        return {"outcome": f"not measured: {reason}"}
    model = find_model(DEFAULT_MODEL)
    form = form_of("fp16", backend.on_cpu, None, None)
    engines, timings = [], []
    with tempfile.TemporaryDirectory(prefix="convcut-") as folder, Progress() as progress:
        for batch in BATCHES:
            scratch = Path(folder) / str(batch[1])
            scratch.mkdir()
            pictures = judged.bundled(model.spec.size, faces)
            case = Case(model, read_model(model), pictures, batch, progress)
            workshop = Workshop(case, backend, BuildOptions(batch), None, {}, True, scratch)
            tails.check_kernel(backend, case.original, runs_here=True)
            pair: dict[str, Candidate] = {
                NATIVE: make(workshop, form),
                KERNEL: make(replace(workshop, tail="kernel"), form),
            }
            engines += [_engine(name, batch, built) for name, built in pair.items()]
            timings += [_timed(batch, times) for times in time_engines(workshop, pair)]
    failed = [engine for engine in engines if engine["failed"]]
    outcome = "runs" if not failed else f"runs, and fails at {', '.join(failed[0]['failed'])}"
    return {
        "outcome": outcome,
        "backend": backend.versions(),
        "engines": engines,
        "timings": timings,
    }


def ahead(flavour: str) -> list[dict[str, str]]:
    """Builds for GPUs by name alone, as on a machine without one, and tries to run each engine here.

    Returns:
        Compute capability and outcome of each of ``AHEAD``; nothing for a TensorRT that cannot.
    """
    if not FLAVOURS[flavour].ahead_of_time:
        return []
    backend, model = backends.get(flavour), find_model(DEFAULT_MODEL)
    typed = to_typed(read_model(model), form_of("fp16", backend.on_cpu, None, None), None)
    faces = judged.bundled(model.spec.size, 1).faces
    found = []
    for key in AHEAD:
        # Also where this TensorRT does not list the chip: whether it works is the question.
        device = replace(devices.find(key), flavours=(flavour,))
        outcome = "not built"
        with tempfile.TemporaryDirectory(prefix="convcut-") as folder:
            path = Path(folder) / "ahead.onnx"
            path.write_bytes(typed.model.SerializeToString())
            try:
                built = backend.build(path, BuildOptions((1, 1, 1), (device,)))
                outcome, plan = "built, and does not run here", path.with_suffix(".engine")
                plan.write_bytes(built.engine)
                with backend.open(plan) as session:
                    session.run(faces)
                outcome = "built, and runs here"
            except ConvcutError as error:
                outcome += f": {one_line(error)}"
        found.append({"target": device.sm, "outcome": outcome})
    return found


def _engine(name: str, batch: Sequence[int], built: Candidate) -> dict[str, Any]:
    return {
        "engine": name,
        "batch": list(batch),
        "megabytes": round(len(built.engine.engine) / 1e6, 3),
        "operations": built.engine.operations,
        "seconds": round(built.engine.seconds, 2),
        "failed": [gate.name for gate in built.failed],
        "gates": [asdict(gate) for gate in built.gates],
    }


def _timed(batch: Sequence[int], times: Timings) -> dict[str, Any]:
    ratio = times.ratio(KERNEL, NATIVE)
    return {
        "profile": list(batch),
        "batch": times.batch,
        "ms": {name: round(times.milliseconds(name), 5) for name in (NATIVE, KERNEL)},
        "kernel_is": [round(value, 4) for value in (ratio.value, ratio.low, ratio.high)],
        "rounds": {
            name: [round(float(value), 5) for value in times.rounds[name]]
            for name in (NATIVE, KERNEL)
        },
    }


def run(out: Path, backend: str, faces: int, command: Sequence[str]) -> Path:
    """Measures one backend and writes it down; returns the page.

    Raises:
        BackendMissing: There is no GPU.
        InputError: The folder cannot be written to.
        Wrong: An engine ran and failed at a gate; all is written.
    """
    found = gpu()
    if isinstance(found, str):
        raise BackendMissing(f"{found}: nothing can be measured, run this where the GPU is")
    path = out / f"tails.{about.slug(found.name)}.json"
    values: dict[str, Any] = {
        **about.about(command),
        "compute_capability": ".".join(map(str, found.compute_capability)),
        "clocks_before": about.clock_state(),
    }
    start = time.perf_counter()

    def keep(result: Mapping[str, Any]) -> None:
        values["seconds"] = round(time.perf_counter() - start, 1)
        whole = about.keep(path, found.name, backend, {**values, **result})
        write_file(path.with_suffix(".md"), markdown(whole).encode())

    keep({"outcome": _UNFINISHED})
    values["ahead"] = ahead(backend)
    keep({"outcome": _UNFINISHED})
    try:
        result = measure(backend, faces)
    except ConvcutError as error:
        # What is not for this chip, and who says so, is a result too.
        said = " ".join(error.log.split())[:_LOG]
        result = {"outcome": f"does not run here: {one_line(error)}", "said": said}
    values["clocks_after"] = about.clock_state()
    keep(result)
    if any(engine["failed"] for engine in result.get("engines", ())):
        raise Wrong(f"{backend}: {result['outcome']}; see {path.name}")
    return path.with_suffix(".md")


def markdown(whole: Mapping[str, Any]) -> str:
    """The page of all backends."""
    parts = [
        f"# {DEFAULT_MODEL} in FP16 on {whole['device']}, native tail and kernel tail",
        "Milliseconds of `run` from faces to answers in host memory, median over rounds in which both engines took "
        "turns; how many times as fast the kernel tail is, with its 95 % bootstrap interval.",
    ]
    for name, part in whole["parts"].items():
        versions = ", ".join(f"{key} {value}" for key, value in part["versions"].items())
        parts += [
            f"## {name}: {part['outcome']}",
            f"`{part['command']}` at commit {part['commit']}, {part['date']}. {versions}.",
        ]
        parts += [
            f"Built ahead of time for {tried['target']}: {tried['outcome']}."
            for tried in part.get("ahead", ())
        ]
        if part.get("said"):
            parts.append(f"It said: {part['said']}")
        lines = [
            f"| {':'.join(map(str, row['profile']))} | {row['batch']} | {row['ms'][NATIVE]:.4f} | "
            f"{row['ms'][KERNEL]:.4f} | {row['kernel_is'][0]:.3f} ({row['kernel_is'][1]:.3f} to "
            f"{row['kernel_is'][2]:.3f}) |"
            for row in part.get("timings", ())
        ]
        if lines:
            head = (
                f"| profile | batch | {NATIVE} | {KERNEL} | times as fast |\n|---|---|---|---|---|"
            )
            parts.append("\n".join([head, *lines]))
    return "\n\n".join(parts) + "\n"


def main(given: Sequence[str] | None = None) -> int:
    """Measures one backend."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.tails",
        description="Build the FP16 engine with both tails on this GPU, judge them, time them in turns.",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument("--faces", type=int, default=256, help="of the gates (default: 256)")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    command = ["python", "-m", "bench.tails", "--out", "DIR", "--backend", options.backend]
    print(run(options.out, options.backend, options.faces, command))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
