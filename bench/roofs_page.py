"""``roofs.md``: what the estimates of a CPU are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from convcut_trt.backends.onnxruntime import OnnxRuntime

LIMITS = {"fp32": (1.25, 1.6), "fp16": (1.5, 2.5), "int8": (1.5, 2.5)}
"""Precision -> the factors that a whole network and a layer are meant to stay within."""


def markdown(report: Mapping[str, Any], errors: Mapping[str, float]) -> str:
    """The page of all parts of ``roofs.json``.

    Args:
        report: Its content.
        errors: Of ``bench.roofs.errors``.
    """
    return "\n".join([*_head(errors), *_wholes(report), *_layers(report), *_roofs(report), ""])


def _head(errors: Mapping[str, float]) -> Iterator[str]:
    held = ", ".join(f"{precision} {factor:.2f}" for precision, factor in errors.items())
    yield "# Estimates against measurements on a CPU"
    yield ""
    yield (
        "Columns called estimate or floor are estimates of `measuring.roofline`, the others are measured. The "
        "roofs of the same CPU are a matrix product and a copy, each at its lower quartile; what a kind of layer "
        "reaches of them is measured on a probe network of other sizes (`bench/probe.py`), not on the networks "
        "below. onnxruntime, batch 1; times are medians; one thread is timed by its own clock as a whole. A factor "
        "is the larger of measured over estimate and estimate over measured. Each range is over passes, which have "
        "roofs and estimates of their own. FP16 is stored in 16 bits and computed in FP32. BF16: "
        f"{OnnxRuntime().refuses('bf16')}."
    )
    yield ""
    yield f"Largest factor of a whole network, by which an estimate's range is stated down and up: {held}."
    yield ""


def _wholes(report: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "| network | precision | measured, ms | estimate, ms | floor, ms | factor | meant | "
        "layers above 2 %: factor | meant | kinds above 2 %: factor |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for _, found in sorted(report["parts"].items()):
        name, precision = found["network"], found["precision"]
        passes = found["passes"]
        whole, layer = LIMITS[precision]
        any_large = bool(found["layers"]) or found["layer_factor"] > 1
        cells = [
            name,
            precision,
            *(_range(passes, key) for key in ("measured_ms", "estimate_ms", "floor_ms")),
            _range(passes, "factor"),
            _meant(found["factor"], whole),
            _range(passes, "layer_factor") if any_large else "none so large",
            _meant(found["layer_factor"], layer) if any_large else "-",
            _range(passes, "kind_factor"),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _layers(report: Mapping[str, Any]) -> Iterator[str]:
    yield "## Kinds of layers, in the pass with the largest factor"
    yield ""
    yield "| network | precision | kind | share of time | measured, us | estimate, us | factor |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for _, found in sorted(report["parts"].items()):
        name, precision = found["network"], found["precision"]
        for row in sorted(found["kinds"], key=lambda row: -row["share"]):
            yield (
                f"| {name} | {precision} | {row['kind']} | {row['share']:.1%} | {row['measured_us']:.4g} | "
                f"{row['estimate_us']:.4g} | {row['factor']:.2f} |"
            )
    yield ""


def _roofs(report: Mapping[str, Any]) -> Iterator[str]:
    yield "## Roofs"
    yield ""
    yield "| network | precision | FP32, TFLOP/s | INT8, TOP/s | memory, GB/s | last cache, GB/s | CPU | date |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for _, found in sorted(report["parts"].items()):
        machine = found["machine"]
        roofs = [one["roofs"] for one in found["passes"]]
        flops = [one["tflops"] for one in roofs]
        cells = [
            found["network"],
            found["precision"],
            _range(flops, "fp32"),
            _range(flops, "int8"),
            _range(roofs, "memory_gb_s"),
            _range(roofs, "cache_gb_s"),
            f"{machine['processor']}, {machine['cores']} cores, {' '.join(machine['instructions'])}",
            found["date"][:10],
        ]
        yield f"| {' | '.join(cells)} |"


def _range(rows: list[Mapping[str, float]], key: str) -> str:
    low, high = min(row[key] for row in rows), max(row[key] for row in rows)
    return f"{low:.3g} to {high:.3g}" if f"{low:.3g}" != f"{high:.3g}" else f"{low:.3g}"


def _meant(factor: float, limit: float) -> str:
    return f"{limit:g}: {'kept' if factor <= limit else 'missed'}"
