"""What ``bench.kernels`` measures, in which order, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.turns import Effort
from convcut_trt.kernels.tail import Attention

TAIL, FACES = "tail", "preprocessing"
CLASSES = 8


@dataclass(frozen=True)
class Form:
    """A tail: map [N, channels, side, side], units of the projection (0: none), attention."""

    channels: int
    side: int
    units: int
    attention: Attention


# What has to be reached comes first, should the time not suffice.
FORMS = tuple(
    Form(channels, side, units, attention)
    for side in (3, 2)
    for units in (0, 32)
    for attention in ("channel", "spatial", "none")
    for channels in (32, 256)
)


@dataclass(frozen=True)
class Plan:
    """What is measured, and how long it may take.

    Attributes:
        forms: Tails.
        batches: Faces in a batch of the tail; ascending, so that compilers meet batch 1 first.
        frame: Width and height of the camera frame.
        formats: Of the frame.
        faces: Faces in it.
        seconds: For each part; what is begun then is finished.
        compile_s: Of it for torch.compile.
        warm_up_s: Of copies, until the clocks have settled.
        effort: Of each comparison.
    """

    forms: tuple[Form, ...] = FORMS
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    frame: tuple[int, int] = (1920, 1080)
    formats: tuple[str, ...] = ("rgb8", "bgr8", "nv12")
    faces: tuple[int, ...] = (1, 8, 32)
    seconds: Mapping[str, float] = field(default_factory=lambda: {TAIL: 200.0, FACES: 30.0})
    compile_s: float = 110.0
    warm_up_s: float = 1.0
    effort: Effort = Effort()


FULL = Plan()
QUICK = Plan(
    forms=FORMS[:6],
    batches=(1, 64),
    seconds={TAIL: 20.0, FACES: 6.0},
    compile_s=10.0,
    warm_up_s=0.3,
    effort=Effort(rounds=7, slot_s=0.001),
)
