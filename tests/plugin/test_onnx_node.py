"""Models whose tail is the plugin's node."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from convcut_trt.errors import InputError
from convcut_trt.kernels.tail import Tail
from convcut_trt.plugin.onnx_node import DOMAIN, OPERATOR, with_plugin_tail
from convcut_trt.precision.half import to_half
from convcut_trt.precision.int8 import to_int8
from convcut_trt.ranges import Ranges
from convcut_trt.seam import split
from tests.kernels.test_tail_model import another_axis
from tests.models import changed, network, pictures, run, zoo

ROOT = Path(__file__).parents[2]


def typed(precision: str) -> onnx.ModelProto:
    model = network("zoo")
    if precision == "int8":
        return to_int8(model, Ranges.read(zoo().onnx.with_suffix(".ranges.json")), "pw", "fp16")
    return model if precision == "fp32" else to_half(model, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_node_says_what_the_tail_is(precision: str) -> None:
    model = typed(precision)
    before = model.SerializeToString()
    result = with_plugin_tail(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result)

    (node,) = (node for node in result.graph.node if node.domain == DOMAIN)
    assert (node.op_type, list(node.input)) == (OPERATOR, ["map"])
    assert list(node.output) == ["logits", "probabilities"]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    tail = Tail.from_onnx(split(model)[1])
    np.testing.assert_array_equal(np.float32(attributes.pop("parameters")), tail.pack())
    assert attributes == {
        "attention": b"spatial",
        "channels": 256,
        "units": 0,
        "classes": 8,
        "plugin_version": b"1",
    }


def test_input_and_outputs_are_those_of_the_model() -> None:
    model = network("zoo")
    result = with_plugin_tail(model)
    assert list(result.graph.input) == list(model.graph.input)
    assert list(result.graph.output) == list(model.graph.output)
    # Nothing of the tail is left behind: without its node, what remains computes the map and no more.
    del result.graph.node[-1], result.graph.output[:2]
    faces = pictures(model, 2)
    np.testing.assert_array_equal(run(result, faces)["map"], run(model, faces)["map"])
    used = {name for node in result.graph.node for name in node.input}
    assert {value.name for value in result.graph.initializer} <= used


def test_another_tail_is_refused() -> None:
    with pytest.raises(InputError, match="native"):
        with_plugin_tail(changed(network("zoo"), another_axis))


def test_the_python_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "plugin.md").read_text()
    (snippet,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "convcut_trt").symlink_to(ROOT / "convcut_trt")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "plugin.md", "exec"), {})  # noqa: S102 our own page
    assert onnx.load("mini-plugin.onnx").graph.node[-1].op_type == OPERATOR
