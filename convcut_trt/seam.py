"""The seam of a model: the trunk (faces -> map) is cast and quantised, the tail (map -> answers) stays FP32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convcut_trt.errors import InputError
from convcut_trt.spec import INPUT, OUTPUTS

if TYPE_CHECKING:
    import onnx

SEAM = OUTPUTS[-1]
TAIL_PREFIX = "fp32/"


def check_outline(model: onnx.ModelProto, source: str) -> None:
    """Makes sure that a graph is one of ours: uint8 [N, S, S, 3] -> logits, probabilities, map.

    Raises:
        InputError: It is the ONNX of another network.
    """
    from onnx import TensorProto

    inputs, outputs = model.graph.input, tuple(value.name for value in model.graph.output)
    shape = (
        [size.dim_value for size in inputs[0].type.tensor_type.shape.dim]
        if len(inputs) == 1
        else []
    )
    fits = (
        outputs == OUTPUTS
        and len(shape) == 4
        and inputs[0].name == INPUT
        and inputs[0].type.tensor_type.elem_type == TensorProto.UINT8
        and shape[1] == shape[2] > 0
        and shape[3] == 3
    )
    if not fits:
        names = ", ".join(value.name for value in inputs)
        raise InputError(
            f"{source} is not a Conv-cut model ({names} -> {', '.join(outputs)}): it needs uint8 {INPUT} "
            f"[N, S, S, 3] -> {', '.join(OUTPUTS)}; write it with `convcut-trt export`"
        )


def split(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Cuts a model at the map.

    Returns:
        The trunk (images -> map) and the tail (map -> logits, probabilities).

    Raises:
        InputError: There is a way around the map.
    """
    from onnx.utils import Extractor

    extractor = Extractor(model)
    trunk = extractor.extract_model([INPUT], [SEAM])
    tail = extractor.extract_model([SEAM], list(OUTPUTS[:-1]))
    if any(INPUT in node.input for node in tail.graph.node):
        raise InputError(
            f"the {OUTPUTS[0]} depend on more of the network than the {SEAM}, so it cannot be cut there: "
            "write it with `convcut-trt export`"
        )
    return trunk, tail


def join(trunk: onnx.ModelProto, tail: onnx.ModelProto) -> onnx.ModelProto:
    """Puts trunk and tail together again, outputs in the order of ``spec.OUTPUTS``.

    The tail's tensors get a prefix, as both halves may hold constants of one name.
    """
    from onnx import compose, helper

    prefixed = compose.add_prefix(tail, TAIL_PREFIX, rename_functions=False)
    model = compose.merge_models(
        trunk,
        prefixed,
        io_map=[(SEAM, TAIL_PREFIX + SEAM)],
        inputs=[INPUT],
        outputs=[*(TAIL_PREFIX + name for name in OUTPUTS[:-1]), SEAM],
    )
    model.ir_version = trunk.ir_version
    # merge_models adds up the opset entries of both; one a domain is what readers expect.
    opsets = {entry.domain: entry.version for entry in trunk.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(
        helper.make_opsetid(domain, number) for domain, number in opsets.items()
    )
    _rename(model, {TAIL_PREFIX + name: name for name in OUTPUTS[:-1]})
    # merge_models keeps the order of the halves, not the one that it was given.
    outputs = sorted(model.graph.output, key=lambda value: OUTPUTS.index(value.name))
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
