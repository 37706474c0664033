"""An estimate of a network held against what it takes here: as a whole, by layers, and by kinds of them.

Roofs, the probe network and the network are measured in turns within seconds of each other, several passes, each
with roofs and an estimate of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.attribution import factor, short
from bench.cpu_roofs import Gemms, copies, roofs_of, speeds
from bench.layer_times import Timed
from bench.probe import network
from convcut_trt.measuring.roofline import LayerEstimate, Roofs, estimate, predict
from convcut_trt.measuring.work import ON_CPU, layers
from convcut_trt.precision.int8 import places
from convcut_trt.precision.linear import linear
from convcut_trt.precision.typed import form_of, to_typed
from convcut_trt.ranges import Ranges

PASSES = 3
SHARE = 0.02
"""Of the time: from here on a layer is held against its estimate."""
_PASS_S = 1.5  # of a network in each pass, timed as a whole; the profiled runs take as much
_RUNS = (6, 80)
_SAMPLES = 12  # whole runs of a pass that a result keeps
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
        precision: fp32, fp16 or int8.
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
        "measured_ms": short(whole),
        "estimate_ms": short(guess.expected_ms),
        "floor_ms": short(guess.floor_ms),
        "factor": factor(whole, guess.expected_ms),
        "layer_factor": max((row["factor"] for row in table["layers"]), default=1.0),
        "kind_factor": max((row["factor"] for row in table["kinds"]), default=1.0),
        "samples_ms": [short(second * 1e3) for second in whole_s[:_SAMPLES]],
        "roofs": {
            "tflops": {kind: short(peak) for kind, peak in measured.peak_tflops.items()},
            "memory_gb_s": short(measured.bandwidth_gb_s),
            "cache_gb_s": short(measured.cache_gb_s or 0.0),
            "speeds": {
                kind: {name: short(value) for name, value in asdict(speed).items()}
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
            **_counted([layer]),
            "limited_by": layer.limited_by,
        }
        for layer, time in zip(estimates, times, strict=True)
        if time > SHARE * times.sum()
    ]


def _kinds(estimates: Sequence[LayerEstimate], times: F64) -> list[dict[str, Any]]:
    kinds: dict[str, list[int]] = {}
    for at, layer in enumerate(estimates):
        kinds.setdefault(layer.work.kind, []).append(at)
    rows = []
    for kind, members in kinds.items():
        time, of_kind = float(times[members].sum()), [estimates[at] for at in members]
        if time > SHARE * times.sum():
            expected = sum(layer.expected_us for layer in of_kind)
            rows.append(
                {"kind": kind, **_row(time, expected, float(times.sum())), **_counted(of_kind)}
            )
    return rows


def _counted(estimates: Sequence[LayerEstimate]) -> dict[str, int]:
    """What the plot of a roofline needs besides the time."""
    return {
        "multiply_adds": sum(layer.work.multiply_adds for layer in estimates),
        "bytes": sum(layer.work.bytes for layer in estimates),
    }


def _row(time_us: float, expected_us: float, all_us: float) -> dict[str, float]:
    return {
        "share": short(time_us / all_us),
        "measured_us": short(time_us),
        "estimate_us": short(expected_us),
        "factor": factor(time_us, expected_us),
    }
