"""What TensorRT's inspector reports of an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from convcut_trt.backends.trt_inspect import operations
from convcut_trt.backends.trt_plan import Operation


def tensor(kind: str) -> dict[str, str]:
    return {"Name": "x", "Format/Datatype": kind}


def layer(name: str, kind: str, *inputs: str, outputs: tuple[str, ...] = (), **more: Any) -> Any:
    sides = {"Inputs": [tensor(each) for each in inputs], "Outputs": [*map(tensor, outputs)]}
    return {"Name": name, "LayerType": kind, **sides, **more}


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("Half", "fp16"),
        ("Row major linear FP16 format", "fp16"),
        ("Channel major FP32 format where channel % 32 == 0", "fp32"),
        ("N/A due to dynamic shapes, Float", "fp32"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("BFloat16", "bf16"),
        ("FP8", "fp8"),
        ("Int32", "?"),
        ("", "?"),
    ],
)
def test_the_type_is_that_of_what_goes_in(said: str, means: str) -> None:
    report = json.dumps({"Layers": [layer("conv", "CaskConvolution", said)]})
    assert operations(report) == [Operation("conv", "CaskConvolution", means, ())]


def test_a_layer_says_what_it_covers() -> None:
    covered = "[ONNX Layer: /stem/conv]\x1e[ONNX Layer: /stem/norm]"
    report = {
        "Layers": [
            layer("fused", "Reformat", outputs=("Float",), Metadata=covered),
            layer("sizes", "shape_call", "Float"),
            layer("weights", "Constant", "Half"),
            layer("second", "gemm", "no type at all", "Half"),
            {},
        ]
    }
    assert operations(json.dumps(report)) == [
        Operation("fused", "Reformat", "fp32", ("/stem/conv", "/stem/norm")),
        Operation("second", "gemm", "fp16", ()),
        Operation("", "?", "?", ()),
    ]


@pytest.mark.parametrize(
    "report", ["", "no JSON", "[]", "{}", '{"Layers": []}', '{"Layers": ["conv1", "conv2"]}']
)
def test_a_report_without_types_is_none(report: str) -> None:
    assert operations(report) is None
