"""Reads the parameters of a tail out of its ONNX graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.kernels.tail import Attention, Projection, Tail
from convcut_trt.spec import OUTPUTS

if TYPE_CHECKING:
    import onnx

LOGITS, PROBABILITIES, MAP = OUTPUTS


def read_tail(tail: onnx.ModelProto) -> Tail:
    """The parameters of a tail.

    The graph is written out as one formula and compared with those of the tails that export writes: whatever
    differs, be it one axis, is another tail.

    Args:
        tail: The second half of ``seam.split`` of a ``NAME.onnx``.

    Raises:
        InputError: Not a tail as export writes it, or outside of the kernel's limits; the native tail can do it.
    """
    inputs = tail.graph.input
    shape = [size.dim_value for size in inputs[0].type.tensor_type.shape.dim] if inputs else []
    if [value.name for value in inputs] != [MAP] or len(shape) != 4 or min(shape[1:]) < 1:
        raise _unknown(f"begins elsewhere than at one {MAP} [N, C, H, W] of fixed size")
    reader = _Reader(tail)
    formula = reader.formula(PROBABILITIES)
    channels, height, width = shape[1:]
    for attention, template in _templates(channels, height * width):
        match = re.fullmatch(_pattern(template), formula)
        # The logits must be the ones that the probabilities come from.
        if match and match["logits"] == reader.formula(LOGITS):
            constants = {
                name: reader.constants[key]
                for name, key in match.groupdict().items()
                if name != "logits"
            }
            return _tail((channels, height, width), attention, constants)
    raise _unknown(f"computes {formula if len(formula) < 400 else formula[:400] + ' ...'}")


class _Reader:
    """Writes values as formulas: whole numbers as they are, other constants as $0, $1 ... as they come."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.nodes = {name: node for node in model.graph.node for name in node.output}
        self.values: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.constants: dict[str, NDArray[np.float32]] = {}
        self.known = {MAP: MAP}

    def formula(self, name: str) -> str:
        """Of the value of this name."""
        if name not in self.known:
            self.known[name] = self._write(name)
        return self.known[name]

    def _write(self, name: str) -> str:
        from onnx import helper

        if name in self.values:
            value = self.values[name]
            if value.dtype == np.float32:
                key = f"${len(self.constants)}"
                self.constants[key] = value
                return key
            return f"{value.tolist()}".replace(" ", "")
        node = self.nodes.get(name)
        if node is None:
            raise _unknown(f"takes {name!r} from elsewhere")
        parts = [self.formula(part) for part in node.input]
        parts += sorted(f"{a.name}={helper.get_attribute_value(a)}" for a in node.attribute)
        return f"{node.op_type}({','.join(parts)})".replace(" ", "")


def _templates(channels: int, positions: int) -> Iterator[tuple[Attention, str]]:
    """The formulas of all tails of this map; <name> stands for a constant."""
    tokens = f"Reshape(Transpose({MAP},perm=[0,2,3,1]),[-1,{positions},{channels}],allowzero=0)"
    scores = f"Mul(<score>,MatMul({tokens},Transpose({tokens},perm=[0,2,1])))"
    spatial = f"ReduceMean(MatMul(Softmax({scores},axis=-1),{tokens}),[1],keepdims=0)"
    # Of one position onnxsim makes a Squeeze.
    mean = f"Squeeze({MAP},[2,3])" if positions == 1 else f"ReduceMean({MAP},[2,3],keepdims=0)"
    pools: tuple[tuple[Attention, str], ...] = (
        ("none", mean),
        ("channel", mean),
        ("spatial", spatial),
    )
    for attention, pooled in pools:
        hidden = f"Relu({_gemm(pooled, 'projection')})"
        for y in (pooled, f"Add(Mul({hidden},<scale>),<shift>)"):
            attended = y
            if attention == "channel":
                row = f"Unsqueeze({y},[1])"
                products = f"Mul(Unsqueeze(Mul(<score>,{y}),[2]),{row})"
                attended = f"ReduceSum(Mul(Softmax({products},axis=2),{row}),[2],keepdims=0)"
            logits = f"{{{_gemm(attended, 'head')}}}"
            yield attention, f"Softmax({logits},axis=1)"
            yield attention, f"Softmax(Div({logits},<temperature>),axis=1)"


def _gemm(x: str, name: str) -> str:
    return f"Gemm({x},<{name}>,<{name}_bias>,alpha=1.0,beta=1.0,transB=1)"


def _pattern(template: str) -> str:
    """A regular expression whose groups are the constants and, between braces, the logits."""
    pattern = re.escape(template).replace(r"\{", "(?P<logits>").replace(r"\}", ")")
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return rf"(?P<{name}>\$\d+)"

    return re.sub(r"(?<!\?P)<(\w+)>", group, pattern)


def _tail(
    map_shape: tuple[int, int, int],
    attention: Attention,
    constants: dict[str, NDArray[np.float32]],
) -> Tail:
    for name in ("score", "temperature"):
        if name in constants and constants[name].size != 1:
            raise _unknown(f"has a {name} of shape {constants[name].shape}")
    projection = None
    if "projection" in constants:
        projection = Projection(
            constants["projection"],
            constants["projection_bias"],
            constants["scale"],
            constants["shift"],
        )
    return Tail(
        map_shape,
        attention,
        float(constants["score"].item()) if "score" in constants else 0.0,
        projection,
        constants["head"],
        constants["head_bias"],
        float(constants["temperature"].item()) if "temperature" in constants else 1.0,
    )


def _unknown(what: str) -> InputError:
    return InputError(
        f"the tail of this model {what}, which the tail kernel does not know: build it with the native tail, "
        "--tail native"
    )
