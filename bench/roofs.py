"""How good the estimates of ``measuring.roofline`` are: measured on this CPU, against its own measured roofs.

    python -m bench.roofs conv-cut-mini conv-cut-edge conv-cut

Roofs are a matrix product and a copy; what each kind of layer reaches of them is measured on ``bench.probe``, which
is none of the networks that the estimates are then held against, as a whole and layer by layer. Everything is
measured in turns within seconds of each other, several passes, each with roofs and an estimate of its own. With one
thread a network is timed by that thread's own clock, which other processes do not touch.

``roofs.json`` keeps a part for each network and precision, ``roofs.md`` shows all of them, and
``convcut_trt.measuring.roofline.ERRORS`` has to hold what they say.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench import roofs_page
from bench.about import about, keep
from bench.cpu_roofs import Gemms, copies, roofs_of, speeds
from bench.layer_times import Timed
from bench.probe import network
from convcut_trt import arguments
from convcut_trt.errors import InputError
from convcut_trt.fields import write_file
from convcut_trt.guard import guarded
from convcut_trt.home import find_model, zoo_names
from convcut_trt.measuring.roofline import LayerEstimate, Roofs, estimate, predict
from convcut_trt.measuring.work import ON_CPU, layers
from convcut_trt.network import read_model
from convcut_trt.precision.int8 import places
from convcut_trt.precision.linear import linear
from convcut_trt.precision.typed import form_of, to_typed
from convcut_trt.ranges import Ranges

RESULTS = Path(__file__).parent / "results"
NAME = "roofs.json"
DEVICE = "CPU"
PRECISIONS = ("fp32", "fp16", "int8")
PASSES = 3
SHARE = 0.02
"""Of the time: from here on a layer is held against its estimate."""
_PASS_S = 1.5  # of a network in each pass, timed as a whole; the profiled runs take as much
_RUNS = (6, 80)
_SAMPLES = 12  # whole runs of a pass that a result keeps
_RECIPES = Path(__file__).parents[1] / "export" / "recipes"
_CPU_INFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd")
F64 = NDArray[np.float64]


def typed_model(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The typed ONNX that onnxruntime runs on a CPU; INT8 with ranges that are made up, which times do not feel."""
    form = form_of(precision, True, None, None)
    if precision != "int8":
        return to_typed(model, form, None).model
    made_up = {place.source: (-4.0, 4.0) for place in places(linear(model), form.placement)}
    return to_typed(model, form, Ranges(1, "", "", "minmax", made_up, (), {})).model


def measure(
    model: onnx.ModelProto,
    precision: str,
    threads: int,
    cache_mb: float,
    step: Callable[[str], None],
) -> dict[str, Any]:
    """What was measured and estimated of a network.

    Args:
        model: FP32, of ours.
        precision: One of ``PRECISIONS``.
        threads: Of onnxruntime.
        cache_mb: The CPU's last cache, 1e6 bytes.
        step: Called before each pass with what it is.
    """
    gemms, pair = Gemms(threads), []
    for graph in (network(), model):
        typed = typed_model(graph, precision)
        pair.append(Timed(typed, layers(typed, 1, ON_CPU), threads))
    counts = [_count(timed) for timed in pair]
    passes = []
    for number in range(PASSES):
        step(f"{precision}, pass {number + 1} of {PASSES}")
        measured = roofs_of(gemms.tflops(), copies(threads), cache_mb)
        wholes: tuple[list[float], list[float]] = ([], [])
        # In turns, a few runs each, so that what else goes on hits both alike.
        turns = max(1, min(counts) // 4)
        for _ in range(turns):
            for whole, timed, count in zip(wholes, pair, counts, strict=True):
                whole += timed.run(max(1, count // turns))
        passes.append((measured, wholes))
    return _compared(precision, pair, passes, [timed.close() for timed in pair])


def _count(timed: Timed) -> int:
    timed.run(1)
    return int(np.clip(_PASS_S / max(timed.run(1)[0], 1e-4), *_RUNS))


def _compared(
    precision: str,
    pair: Sequence[Timed],
    passes: Sequence[tuple[Roofs, tuple[list[float], list[float]]]],
    rows: Sequence[F64],
) -> dict[str, Any]:
    """Estimates and measurements of all passes; the layers are those of the pass with the largest error."""
    results = []
    at = [2, 2]  # the first runs of each session warmed it up
    for measured, wholes in passes:
        times = []
        for which, whole in enumerate(wholes):
            part = rows[which][at[which] : at[which] + len(whole)]
            at[which] += len(whole)
            times.append(np.median(part, axis=0))
        results.append(_pass(precision, pair, measured, wholes[1], times))
    worst = max(results, key=lambda result: result["factor"])
    return {
        "passes": [{k: v for k, v in result.items() if k != "table"} for result in results],
        "layers": worst["table"]["layers"],
        "kinds": worst["table"]["kinds"],
        "factor": max(result["factor"] for result in results),
        "layer_factor": max(result["layer_factor"] for result in results),
        "kind_factor": max(result["kind_factor"] for result in results),
    }


def _pass(
    precision: str,
    pair: Sequence[Timed],
    measured: Roofs,
    whole_s: Sequence[float],
    times: Sequence[F64],
) -> dict[str, Any]:
    probe, tried = pair
    floors = np.array([layer.floor_us for layer in predict(probe.work, measured)])
    known = replace(measured, speeds=speeds(probe.work, floors, times[0]))
    guess = estimate(tried.work, known, 1, precision)
    whole = float(np.median(whole_s)) * 1e3
    table = {
        "layers": _layers(guess.layers, times[1]),
        "kinds": _kinds(guess.layers, times[1]),
    }
    return {
        "measured_ms": _short(whole),
        "estimate_ms": _short(guess.expected_ms),
        "floor_ms": _short(guess.floor_ms),
        "factor": _factor(whole, guess.expected_ms),
        "layer_factor": max((row["factor"] for row in table["layers"]), default=1.0),
        "kind_factor": max((row["factor"] for row in table["kinds"]), default=1.0),
        "samples_ms": [_short(second * 1e3) for second in whole_s[:_SAMPLES]],
        "roofs": {
            "tflops": {kind: _short(peak) for kind, peak in measured.peak_tflops.items()},
            "memory_gb_s": _short(measured.bandwidth_gb_s),
            "cache_gb_s": _short(measured.cache_gb_s or 0.0),
            "speeds": {
                kind: {name: _short(value) for name, value in asdict(speed).items()}
                for kind, speed in known.speeds.items()
            },
        },
        "table": table,
    }


def _layers(estimates: Sequence[LayerEstimate], times: F64) -> list[dict[str, Any]]:
    return [
        {
            "name": layer.work.name,
            "kind": layer.work.kind,
            "dtype": layer.work.dtype,
            **_row(float(time), layer.expected_us, float(times.sum())),
            "limited_by": layer.limited_by,
        }
        for layer, time in zip(estimates, times, strict=True)
        if time > SHARE * times.sum()
    ]


def _kinds(estimates: Sequence[LayerEstimate], times: F64) -> list[dict[str, Any]]:
    sums: dict[str, list[float]] = {}
    for layer, time in zip(estimates, times, strict=True):
        pair = sums.setdefault(layer.work.kind, [0.0, 0.0])
        pair[0] += float(time)
        pair[1] += layer.expected_us
    return [
        {"kind": kind, **_row(time, expected, float(times.sum()))}
        for kind, (time, expected) in sums.items()
        if time > SHARE * times.sum()
    ]


def _row(time_us: float, expected_us: float, all_us: float) -> dict[str, float]:
    return {
        "share": _short(time_us / all_us),
        "measured_us": _short(time_us),
        "estimate_us": _short(expected_us),
        "factor": _factor(time_us, expected_us),
    }


def _factor(measured: float, estimate: float) -> float:
    """How far apart they are, 1 or more."""
    return _short(max(measured / estimate, estimate / measured))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def errors(report: Mapping[str, Any]) -> dict[str, float]:
    """Precision -> the largest factor of a whole network in all of ``roofs.json``, rounded up to a hundredth."""
    largest = dict.fromkeys(PRECISIONS, 0.0)
    for part in report["parts"].values():
        precision = part["precision"]
        largest[precision] = max(largest[precision], part["factor"])
    return {
        precision: math.ceil(factor * 100 - 1e-9) / 100
        for precision, factor in largest.items()
        if factor
    }


def processor() -> dict[str, Any]:
    """The class of this CPU: its vector instructions and last cache, without its name."""
    flags: set[str] = set()
    if _CPU_INFO.is_file():
        flags = set(_CPU_INFO.read_text().replace("\n", " ").split())
    return {
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "last_cache_mb": last_cache_mb(),
    }


def last_cache_mb() -> float:
    """Last cache in 1e6 bytes.

    Raises:
        InputError: The system does not say.
    """
    sizes = [
        int(path.read_text().strip().removesuffix("K")) for path in _CACHES.glob("index*/size")
    ]
    if not sizes:
        raise InputError("this system does not say how large its caches are: run it on Linux")
    return _short(max(sizes) * 1024 / 1e6)


def read_network(name: str, scratch: Path) -> onnx.ModelProto:
    """A zoo model, a file, or the network of a recipe with random weights.

    Raises:
        InputError: None of these.
    """
    if name in zoo_names() or Path(name).exists():
        return read_model(find_model(name))
    if not (
        _RECIPES / f"{name}.toml"
    ).is_file():  # said before torch is loaded, which takes seconds
        raise InputError(f"{name} is no zoo model, no file and no recipe: name one of these")
    from bench.random_network import random_model

    return read_model(random_model(name, scratch))


def _write(name: str, model: onnx.ModelProto, precision: str, options: argparse.Namespace) -> None:
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    command = f"python -m bench.roofs {name} --precision {precision} --threads {options.threads}"
    found = measure(
        model,
        precision,
        options.threads,
        last_cache_mb(),
        lambda what: print(f"{name}: {what}", file=sys.stderr),
    )
    origin = about([command])
    origin["machine"].update(processor())
    part = {**origin, "network": f"{name}, {threads}", "precision": precision, **found}
    path = options.out / NAME
    whole = keep(path, DEVICE, f"{name}, {precision}, {threads}", part)
    write_file(path.with_suffix(".md"), roofs_page.markdown(whole, errors(whole)).encode())


def main(given: Sequence[str] | None = None) -> int:
    """Measures, and writes both files after each network and precision."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.roofs",
        description="Measure this CPU's roofs, and the estimates of measuring.roofline.",
        epilog="example: python -m bench.roofs conv-cut-mini conv-cut-edge conv-cut",
    )
    parser.add_argument(
        "networks", nargs="+", metavar="NETWORK", help="zoo name, .onnx file, or recipe"
    )
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="default: all"
    )
    parser.add_argument(
        "--threads", type=arguments.count, default=1, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("-o", "--out", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args(given)
    if not options.out.is_dir():
        raise InputError(f"the folder {options.out} does not exist: make it, or choose another")
    for name in options.networks:
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="convcut-"))
            model = read_network(name, Path(scratch))
        for precision in options.precision:
            _write(Path(name).stem, model, precision, options)
    print((options.out / NAME).with_suffix(".md"))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
