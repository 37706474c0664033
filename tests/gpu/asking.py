"""An engine that is asked with arrays in GPU memory, and what it has to answer."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from convcut_trt.engine import Engine
from convcut_trt.manifest import EngineManifest
from tests.gpu.application import Application
from tests.gpu.machine import Machine, expected

SHAPES = {"logits": (5,), "probabilities": (5,), "map": (8, 4, 4)}


def engine(gpu: Machine, **options: Any) -> Engine:
    """An engine that is never asked for its manifest."""
    return Engine(cast(EngineManifest, None), gpu.open(**options))


def close_to(given: dict[str, np.ndarray], pictures: np.ndarray) -> None:
    assert tuple(given) == tuple(SHAPES)
    for name, values in expected(pictures).items():
        np.testing.assert_allclose(given[name], values, rtol=1e-5, atol=1e-5)


def empty_out(app: Application, count: int, stream: int, kind: str = "interface") -> dict[str, Any]:
    """Arrays for all outputs, filled on a stream with what must not survive."""
    arrays = {n: np.full((count, *shape), np.nan, np.float32) for n, shape in SHAPES.items()}
    if kind == "interface":
        return {n: app.interface(a, stream, stream=stream) for n, a in arrays.items()}
    return {n: app.exporter(a, stream) for n, a in arrays.items()}
