"""Which convolutions and matrix products of a graph are what part of a ConvNeXt block, told by what is around."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from convcut_trt.optional import load

if TYPE_CHECKING:
    import onnx


def roles(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, str]]:
    """The nodes that have a role in a ConvNeXt block, in the order of the graph.

    ``fc1`` is the 1x1 convolution (or matrix product) in front of a GELU, ``fc2`` the one behind it, ``dw`` the
    depthwise convolution in front of a LayerNorm.
    """
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    readers = read_by(graph)
    made_by = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul") or node.input[1] not in weights:
            continue
        shape = weights[node.input[1]]
        group = next((item.i for item in node.attribute if item.name == "group"), 1)
        behind = _behind(node, readers, weights)
        before = made_by.get(node.input[0])
        if node.op_type == "MatMul" or (shape[2:] == [1, 1] and group == 1):
            if behind == "Gelu":
                found.append((node, "fc1"))
            elif before is not None and before.op_type == "Gelu":
                found.append((node, "fc2"))
        elif group == shape[0] > 1 and behind == "LayerNormalization":
            found.append((node, "dw"))
    return found


def read_by(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor -> the nodes that read it."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def drop_unused(graph: onnx.GraphProto) -> None:
    """Takes out the constants that no node reads any more."""
    used = {name for node in graph.node for name in node.input}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Gives a graph other nodes, some of which may be its own."""
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    kept = onnx.GraphProto()
    kept.node.extend(nodes)  # copies them before the graph's own go
    del graph.node[:]
    graph.node.extend(kept.node)


def _behind(
    node: onnx.NodeProto,
    readers: dict[str, list[onnx.NodeProto]],
    weights: dict[str, list[int]],
) -> str:
    """The type of the one node behind, past a bias and a change of layout; empty where there are several."""
    while len(following := readers.get(node.output[0], [])) == 1:
        node = following[0]
        bias = node.op_type == "Add" and any(name in weights for name in node.input)
        if node.op_type != "Transpose" and not bias:
            return str(node.op_type)
    return ""
