"""Reading a model's ONNX: what is no network of ours is refused, whatever would stumble over it later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from convcut_trt.errors import InputError
from convcut_trt.network import read_onnx
from tests import block


def _weight(model: onnx.ModelProto) -> Any:
    return next(tensor for tensor in model.graph.initializer if tensor.name == "fc1.w")


def test_a_network_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(block.network().SerializeToString())
    assert read_onnx(path) == block.network()


def cut(model: onnx.ModelProto) -> None:
    _weight(model).raw_data = _weight(model).raw_data[:-4]


def other_sizes(model: onnx.ModelProto) -> None:
    _weight(model).dims[0] += 1


def negative(model: onnx.ModelProto) -> None:
    _weight(model).dims[0] = -1


def another_type(model: onnx.ModelProto) -> None:
    _weight(model).data_type = TensorProto.STRING


def shapes_that_part(model: onnx.ModelProto) -> None:
    model.graph.output[2].type.tensor_type.shape.dim[1].dim_value += 1


def in_another_file(model: onnx.ModelProto) -> None:
    tensor = _weight(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")


def endless(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["more again"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("more again", TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("Loop", ["", "yes"], [], body=body))


def huge(model: onnx.ModelProto) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["ones"]))


def described_twice(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(model.graph.output[1])


@pytest.mark.parametrize(
    "change",
    [
        cut,
        other_sizes,
        negative,
        another_type,
        shapes_that_part,
        in_another_file,
        endless,
        huge,
        described_twice,
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    path = tmp_path / "a.onnx"
    (tmp_path / "secret").write_bytes(bytes(100_000))
    model = block.network()
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"a\.onnx is no ONNX file, or was cut off .*export"):
        read_onnx(path)
