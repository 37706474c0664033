"""What the time of an engine is held against: the datasheet of its GPU, or the measured roofs of its processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import onnx

from bench.results import Raw
from bench.turns import one_line
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.backends.probe import Gpu
from convcut_trt.devices import Device, Figures, known
from convcut_trt.errors import BackendMissing, ConvcutError
from convcut_trt.home import find_model
from convcut_trt.measuring import clocks, provenance
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.provenance import Machine
from convcut_trt.measuring.results import Measured, Subject
from convcut_trt.measuring.roofline import Estimate, Roofs, Speed, estimate, estimate_for
from convcut_trt.measuring.work import ON_CPU, layers
from convcut_trt.network import read_model
from convcut_trt.precision.typed import form_of, to_typed
from convcut_trt.ranges import Ranges

Roof = tuple[Device, str]
"""A device, and which variant of it."""


@cache
def typed(
    model: str, precision: str, placement: str, mlp: str, *, on_cpu: bool = False
) -> onnx.ModelProto:
    """The typed ONNX of a bundled model; empty texts choose what is usual.

    Raises:
        ConvcutError: No such model or form.
    """
    found = find_model(model)
    form = form_of(precision, on_cpu, placement or None, mlp or None)
    ranges = None
    if precision == "int8":
        ranges = Ranges.read(found.onnx.with_suffix(".ranges.json"))
    return to_typed(read_model(found), form, ranges).model


def device_of(machine: Machine) -> Device | None:
    """The row of ``devices.json`` that a machine is, by its name; None where there is none with figures."""
    name = _bare(machine.device)
    for device in known().values():
        own = _bare(device.name)
        board = _is_jetson(device) and f"{name} ".startswith(f"{own} ")
        if device.variants and (name == own or board):
            return device
    return None


def _bare(name: str) -> str:
    """Without who makes it; CUDA calls the T4 a Tesla."""
    return name.removeprefix("NVIDIA ").removeprefix("Tesla ").lower()


def _is_jetson(device: Device) -> bool:
    return _bare(device.name).startswith("jetson")


def figures_of(device: Device, state: State | None) -> Figures | None:
    """The variant that a device is in the state in which something was measured on it.

    A Jetson's variants are power modes; its own files call them ``MODE_15W`` or ``40W``. None for
    a mode that has no figures; where the mode is not known, and on any other device, the usual variant.
    """
    mode = state.power_mode if state else None
    if mode is None or not _is_jetson(device):
        return device.figures()
    name = _letters(mode).removeprefix("mode")
    for figures in device.variants:
        if name in (_letters(figures.variant), _letters(figures.variant.partition("(")[0])):
            return figures
    return None


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def estimate_of(
    machine: Machine, one: Measured, batch: int, roofs: Sequence[Raw] = ()
) -> Estimate | None:
    """The estimate for an engine of a bundled model; None where something is unknown.

    On a GPU of ``devices.json`` it comes from the datasheet, for the power mode that it ran in. On a CPU it comes
    from roofs that were measured on all cores of the same processor, and from what layers reached of them in the
    same precision: the newest, of the pass whose FP32 peak lies in the middle.

    Args:
        machine: Where it ran.
        one: The engine.
        batch: Faces in a call.
        roofs: Files of ``bench.roofs``.
    """
    subject = one.subject
    try:
        if subject.flavour.startswith("tensorrt"):
            device = device_of(machine)
            figures = None if device is None else figures_of(device, one.before.gpu)
            if device is None or figures is None:
                return None
            if (model := _typed_of(subject, on_cpu=False)) is None:
                return None
            return estimate_for(device, model, batch, figures.variant)
        measured = _measured(machine, subject.asked, roofs)
        if measured is None or (model := _typed_of(subject, on_cpu=True)) is None:
            return None
        return estimate(layers(model, batch, ON_CPU), measured, batch, subject.asked)
    except ConvcutError:
        return None


def _typed_of(subject: Subject, *, on_cpu: bool) -> onnx.ModelProto | None:
    """The typed ONNX of an engine of a bundled model; None for a peer, and for one of another model or library."""
    if subject.kind != "engine" or (on_cpu and subject.flavour != OnnxRuntime.flavour):
        return None
    if find_model(subject.model).spec.onnx_sha256 != subject.sha256.get("onnx"):
        return None
    return typed(subject.model, subject.asked, subject.placement, subject.mlp, on_cpu=on_cpu)


def _measured(machine: Machine, precision: str, roofs: Sequence[Raw]) -> Roofs | None:
    found = [
        part
        for raw in roofs
        for part in raw.values["parts"].values()
        if part["precision"] == precision and _all_cores_of(machine, part)
    ]
    if not found:
        return None
    part = max(found, key=lambda part: str(part["date"]))
    passes = sorted(part["passes"], key=lambda one: float(one["roofs"]["tflops"]["fp32"]))
    middle = passes[len(passes) // 2]["roofs"]
    return Roofs(
        name=machine.processor,
        bandwidth_gb_s=middle["memory_gb_s"],
        peak_tflops=middle["tflops"],
        cache_mb=part["machine"]["last_cache_mb"],
        cache_gb_s=middle["cache_gb_s"],
        speeds={kind: Speed(**speed) for kind, speed in middle["speeds"].items()},
    )


def _all_cores_of(machine: Machine, part: Mapping[str, Any]) -> bool:
    """Whether a part of ``bench.roofs`` was measured on all cores of a processor like this machine's."""
    if machine.system.endswith(machine.processor):
        return False  # its kind and no name, as on ARM: there are many such
    on = part["machine"]
    same = (on["processor"], on["cores"]) == (machine.processor, machine.cores)
    return same and part["threads"] == on["physical_cores"]


def roofs_here(gpu: Gpu) -> tuple[list[Roof], list[str]]:
    """The roofs of the GPU that is here: of its datasheet, and measured; and why one of both is missing."""
    roofs: list[Roof] = []
    missing = []
    device = device_of(provenance.machine())
    figures = None if device is None else figures_of(device, clocks.read(gpu))
    if device is None:
        missing.append(f"there are no datasheet figures of {gpu.name}")
    elif figures is None:
        missing.append(f"there are no datasheet figures of {device.name} in this power mode")
    else:
        roofs.append((device, figures.variant))
    try:
        # Imported here: torch takes seconds, and nothing else in this module needs it.
        from bench.gpu_roofs import measured_device

        own = measured_device(gpu.name, gpu.compute_capability)
        roofs.append((own, own.figures().variant))
    except (BackendMissing, RuntimeError) as error:  # what torch raises where a GPU refuses it
        missing.append(one_line(error))
    return roofs, missing


def figures_here(roofs: Sequence[Roof]) -> list[dict[str, Any]]:
    """What a result keeps of ``roofs_here``."""
    rows = []
    for device, variant in roofs:
        found = device.figures(variant)
        row = {
            "fp32_tflops": found.fp32_tflops,
            "fp16_tflops": found.fp16_tflops,
            "int8_tops": found.int8_tops,
            "memory_gb_s": found.bandwidth_gb_s,
            "l2_mb": found.l2_mb,
        }
        name = f"{device.name}, {variant}" if variant else device.name
        rows.append({"name": name, "source": device.source, **row})
    return rows
