"""How long a network takes at least, and about how long it will take: an estimate, never a measurement.

A layer's floor is the longer of its multiply-adds at the peak of their type and its bytes at the memory's bandwidth
(the roofline of Williams, Waterman and Patterson 2009, CACM 52(4)); a network's is their sum. What fits into the
last cache does not come from memory: activations where a layer's fit, weights where those of the network do. No
network reaches its floor. ``Speed`` says what share of it a kind of layer reaches and what each
call costs besides: on a CPU both are measured on a probe network (``bench/roofs.py``), on a GPU they are assumed.

The range around an estimate is as wide as the errors that the validation found: ``ERRORS``, held to
``bench/results/roofs.json`` by a test. No GPU has been validated: ``GPU_FAST``, ``GPU_USUAL`` and ``GPU_SLOW`` are
assumptions, and every such estimate says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convcut_trt.devices import Device, Figures
from convcut_trt.errors import InputError
from convcut_trt.measuring.work import ON_GPU, Work, layers

if TYPE_CHECKING:
    import onnx

ERRORS: Mapping[str, float] = {"fp32": 1.21, "fp16": 1.37, "int8": 1.35}
"""Precision -> the largest factor between a whole network's measured and estimated time, onnxruntime on a CPU."""


@dataclass(frozen=True)
class Speed:
    """What a kind of layer reaches.

    Attributes:
        share: Of its floor's speed, above 0.
        overhead_us: Of each call, besides.
    """

    share: float = 1.0
    overhead_us: float = 0.0


GPU_FAST, GPU_USUAL, GPU_SLOW = Speed(1.0, 1.0), Speed(0.6, 2.0), Speed(1 / 3, 5.0)
"""Assumed, not measured: what each layer reaches on a GPU at best, as a rule, and at worst."""


@dataclass(frozen=True)
class Roofs:
    """What bounds a device.

    Attributes:
        name: For people.
        bandwidth_gb_s: Of memory, 1e9 bytes a second.
        peak_tflops: Type, or kind and type (``depthwise fp16``) -> 1e12 operations a second, dense; a multiply-add
            is two.
        cache_mb: Last cache, 1e6 bytes.
        cache_gb_s: Its bandwidth; None where it is not known: then what it holds costs nothing.
        speeds: Kind, or kind and type (``gemm int8``) -> what it reaches. A kind that is not named goes like
            ``elementwise``, and without that reaches its floor.
    """

    name: str
    bandwidth_gb_s: float
    peak_tflops: Mapping[str, float]
    cache_mb: float
    cache_gb_s: float | None = None
    speeds: Mapping[str, Speed] = field(default_factory=dict)

    def speed(self, work: Work) -> Speed:
        """What a layer reaches."""
        for key in (f"{work.kind} {work.dtype}", work.kind, "elementwise"):
            if key in self.speeds:
                return self.speeds[key]
        return Speed()


@dataclass(frozen=True)
class LayerEstimate:
    """An estimate of one layer, in microseconds.

    Attributes:
        work: The layer.
        compute_us: Its multiply-adds at the peak.
        memory_us: Its bytes at the bandwidth.
        overhead_us: What its call costs besides.
        expected_us: The estimate.
    """

    work: Work
    compute_us: float
    memory_us: float
    overhead_us: float
    expected_us: float

    @property
    def floor_us(self) -> float:
        """The longer of compute and memory."""
        return max(self.compute_us, self.memory_us)

    @property
    def limited_by(self) -> str:
        """``compute``, ``memory`` or ``overhead``: what takes the larger part of the estimate."""
        if self.overhead_us > self.expected_us - self.overhead_us:
            return "overhead"
        return "compute" if self.compute_us >= self.memory_us else "memory"


@dataclass(frozen=True)
class Estimate:
    """An estimate of a network, in milliseconds for a whole batch.

    Attributes:
        name: The device.
        batch: Faces in a call.
        layers: One for each layer.
        expected_ms: The estimate.
        low_ms: Lower end of its range.
        high_ms: Upper end.
        basis: Where the range comes from.
    """

    name: str
    batch: int
    layers: tuple[LayerEstimate, ...]
    expected_ms: float
    low_ms: float
    high_ms: float
    basis: str

    @property
    def floor_ms(self) -> float:
        """Sum of the layers' floors."""
        return sum(layer.floor_us for layer in self.layers) / 1e3

    @property
    def limited_by(self) -> str:
        """What limits the layers that take most of the time."""
        sums: dict[str, float] = {}
        for layer in self.layers:
            sums[layer.limited_by] = sums.get(layer.limited_by, 0) + layer.expected_us
        return max(sums, key=lambda key: sums[key])

    def against(self, measured_ms: float) -> str:
        """A measured time beside the roof, as ``38 % of the compute roof, limited by overhead (estimate)``.

        Args:
            measured_ms: For a whole batch.

        Raises:
            InputError: Not above 0.
        """
        if not measured_ms > 0:
            raise InputError(f"a measured time of {measured_ms} ms: give one above 0")
        compute = sum(layer.compute_us for layer in self.layers)
        memory = sum(layer.memory_us for layer in self.layers)
        roof, floor = ("compute", compute) if compute >= memory else ("memory", memory)
        share = floor / 1e3 / measured_ms * 100
        # Beyond all that the estimate allows for, neither roof is what holds a network back.
        limit = self.limited_by if measured_ms <= self.high_ms else "overhead"
        return f"{share:.0f} % of the {roof} roof, limited by {limit} (estimate)"


def predict(work: Sequence[Work], roofs: Roofs) -> list[LayerEstimate]:
    """Estimates each layer.

    Args:
        work: Of ``work.layers``, fused as the device fuses.
        roofs: What bounds the device.

    Raises:
        InputError: Multiply-adds in a type that the roofs have no peak for.
    """
    cache = roofs.cache_mb * 1e6
    resident = sum(layer.weight_bytes for layer in work) <= cache
    return [_layer(layer, roofs, resident, cache) for layer in work]


def _layer(work: Work, roofs: Roofs, resident: bool, cache: float) -> LayerEstimate:
    compute = 0.0
    if work.multiply_adds:
        peaks = roofs.peak_tflops
        peak = peaks.get(f"{work.kind} {work.dtype}", peaks.get(work.dtype))
        if peak is None:
            raise InputError(
                f"{roofs.name} has no {work.dtype} peak, and {work.name} multiplies in it: choose another precision"
            )
        compute = 2 * work.multiply_adds / peak / 1e6
    moved = work.read_bytes + work.written_bytes
    held = (moved if moved <= cache else 0) + (work.weight_bytes if resident else 0)
    memory = (work.bytes - held) / roofs.bandwidth_gb_s / 1e3
    if roofs.cache_gb_s is not None:
        memory += held / roofs.cache_gb_s / 1e3
    speed = roofs.speed(work)
    expected = speed.overhead_us + max(compute, memory) / speed.share
    return LayerEstimate(work, compute, memory, speed.overhead_us, expected)


def estimate(work: Sequence[Work], roofs: Roofs, batch: int, precision: str) -> Estimate:
    """Estimates a network on a CPU whose roofs and speeds were measured.

    Args:
        work: Of ``work.layers``, for ``batch``.
        roofs: Measured.
        batch: Faces in a call.
        precision: One of ``ERRORS``.

    Raises:
        InputError: No validation of this precision; and as ``predict``.
    """
    if precision not in ERRORS:
        raise InputError(
            f"no estimate of {precision} was validated: choose from {', '.join(ERRORS)}"
        )
    found = tuple(predict(work, roofs))
    expected = sum(layer.expected_us for layer in found) / 1e3
    error = ERRORS[precision]
    basis = f"validated on a CPU within {error:.2f} times"
    return Estimate(roofs.name, batch, found, expected, expected / error, expected * error, basis)


def estimate_for(
    device: Device, typed_onnx: Path | onnx.ModelProto, batch: int = 1, variant: str | None = None
) -> Estimate:
    """Estimates a typed ONNX on a device, from its datasheet.

    The lower end takes the fastest dense FP16 of the datasheet, that adds up in FP16: which one is used is the
    builder's to choose. The shares and the costs of a launch are assumed.

    Args:
        device: With figures.
        typed_onnx: Of ``typed.to_typed``, or its file.
        batch: Faces in a call.
        variant: One of ``Device.variants`` by name, for example a power mode; None for the first.

    Raises:
        InputError: A device without figures, an unknown variant, or as ``work.layers``.
    """
    figures = device.figures(variant)
    work = layers(typed_onnx, batch, ON_GPU)
    found, slow, fast = (
        tuple(predict(work, roofs_of(device, figures, speed, speed is GPU_FAST)))
        for speed in (GPU_USUAL, GPU_SLOW, GPU_FAST)
    )
    # At best a launch is hidden behind the work before it.
    low = sum(max(layer.floor_us, layer.overhead_us) for layer in fast) / 1e3
    expected, high = (sum(layer.expected_us for layer in ends) / 1e3 for ends in (found, slow))
    basis = "from the datasheet, with assumed efficiency: not validated on any GPU"
    name = f"{device.name}, {figures.variant}" if figures.variant else device.name
    return Estimate(name, batch, found, expected, low, high, basis)


def roofs_of(
    device: Device, figures: Figures, speed: Speed = GPU_USUAL, fp16_adds: bool = False
) -> Roofs:
    """The roofs of a datasheet.

    Args:
        device: For its name.
        figures: One of its variants.
        speed: What every kind of layer is assumed to reach.
        fp16_adds: FP16 products add up in FP16 instead of FP32, which GeForce cards do twice as fast.
    """
    half = figures.fp16_fp16_tflops if fp16_adds else figures.fp16_tflops
    lanes = figures.fp32_tflops
    # Tensor cores have no depthwise products; a lane does at most two of 16 bits or four of 8 at once.
    peaks = {"fp32": lanes, "fp16": half, "int8": figures.int8_tops}
    peaks |= {"depthwise fp16": 2 * lanes, "depthwise int8": 4 * lanes}
    if device.compute_capability >= (8, 0):
        peaks |= {"bf16": figures.fp16_tflops, "depthwise bf16": 2 * lanes}
    return Roofs(
        name=device.name,
        bandwidth_gb_s=figures.bandwidth_gb_s,
        peak_tflops=peaks,
        cache_mb=figures.l2_mb,
        speeds={"elementwise": speed},
    )
