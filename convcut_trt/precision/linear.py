"""The MLPs of ConvNeXt blocks as matrix products over [N, H, W, C] in place of 1x1 convolutions: ``--mlp linear``.

The same sums in another form; which is faster depends on the backend. onnxruntime's CPU multiplies integers in
a matrix product whatever comes behind it, in a convolution only where the result is quantised at once, which
costs accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convcut_trt.errors import InputError
from convcut_trt.optional import load
from convcut_trt.precision.blocks import drop_unused, read_by, replace_nodes, roles

if TYPE_CHECKING:
    import onnx

_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def linear(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrites the 1x1 convolutions of all MLPs. Equal but for the order of sums.

    Args:
        model: FP32, in the form that export writes. It is not changed.

    Returns:
        The model with its tensors under the same names, so that ranges stay valid. Those between LayerNorm and
        the second product are [N, H, W, C].

    Raises:
        InputError: It has no MLP as 1x1 convolutions, or one without its partner.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    found = {
        node.output[0]: role
        for node, role in roles(graph)
        if role in ("fc1", "fc2") and node.op_type == "Conv"
    }
    if not found or list(found.values()) != ["fc1", "fc2"] * (len(found) // 2):
        raise InputError(
            "this model has no MLPs as pairs of 1x1 convolutions to rewrite: leave out --mlp linear"
        )
    weights = {tensor.name: tensor for tensor in graph.initializer}
    readers = read_by(graph)
    made_by = {name: node for node in graph.node for name in node.output}
    needless = set()
    nodes: list[onnx.NodeProto] = []

    def add(kind: str, inputs: list[str], output: str, name: str, **fields: Any) -> None:
        nodes.append(onnx.helper.make_node(kind, inputs, [output], name, **fields))

    for node in graph.node:
        result = node.output[0]
        role = found.get(result)
        if role is None:
            nodes.append(node)
            continue
        source = node.input[0]
        if role == "fc1":
            turn = made_by.get(source)
            if turn is not None and _only_turns(turn, readers):
                # LayerNorm's result takes the name of its transposed form, which goes.
                made_by[turn.input[0]].output[0] = source
                needless.add(turn.name)
            else:
                add("Transpose", [source], f"{source} nhwc", f"{source} to nhwc", perm=_TO_NHWC)
                source = f"{source} nhwc"
        values = onnx.numpy_helper.to_array(weights[node.input[1]])[:, :, 0, 0].T
        weight = f"{node.input[1]} transposed"
        if weight not in weights:
            weights[weight] = onnx.numpy_helper.from_array(np.ascontiguousarray(values), weight)
            graph.initializer.append(weights[weight])
        last = f"{result} nhwc" if role == "fc2" else result
        if len(node.input) > 2:
            add("MatMul", [source, weight], f"{result} product", node.name)
            add("Add", [f"{result} product", node.input[2]], last, f"{node.name} bias")
        else:
            add("MatMul", [source, weight], last, node.name)
        if role == "fc2":
            add("Transpose", [last], result, f"{node.name} to nchw", perm=_TO_NCHW)
    replace_nodes(graph, [node for node in nodes if node.name not in needless])
    drop_unused(graph)
    del graph.value_info[:]
    return copy


def _only_turns(turn: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]) -> bool:
    """Whether a node only turns [N, H, W, C] round for one reader, and nothing else reads what it turns."""
    perms = [list(item.ints) for item in turn.attribute if item.name == "perm"]
    return (
        turn.op_type == "Transpose"
        and perms == [_TO_NCHW]
        and len(readers[turn.output[0]]) == 1
        and len(readers[turn.input[0]]) == 1
    )
