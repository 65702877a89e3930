"""Run an ONNX graph of convolutions, also one with 8-bit weights and values, in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import CheckpointError, shortened
from ...optional import need
from ..budget import Budget
from .constants import array_of
from .onnx_size import count_parts

_BYTE = (-128, 127)  # what int8 can hold


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    Attributes:
        kind: ONNX's name of the operation.
        inputs: names of what it reads; "" for an input that is left out.
        output: name of its result.
        attributes: its attributes by name.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """A graph, and its constants.

    Attributes:
        nodes: nodes that depend on an input, in order.
        constants: arrays by name. Weights of 8 bits are float32 here.
        inputs: names of the inputs.
        output: name of the result.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    output: str

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Compute the result from the inputs.

        Raises:
            CheckpointError: a node is none of those that are supported.
        """
        values = {**self.constants, **dict(zip(self.inputs, inputs, strict=True))}
        for node in self.nodes:
            if node.kind not in _OPERATIONS:
                raise CheckpointError(f"the node {shortened(node.kind, 40)} is not supported")
            given = [values[name] if name else None for name in node.inputs]
            values[node.output] = _OPERATIONS[node.kind](given, node.attributes)
        return values[self.output]


def read_graph(path: Path) -> Graph:
    """Read an ONNX file without running it.

    Raises:
        CheckpointError: the package onnx is missing, or the file is damaged or claims far more than its size.
    """
    onnx = need("onnx", "onnx", f"{path} is an ONNX file", CheckpointError)
    try:
        budget, data = Budget.of(path), path.read_bytes()
        count_parts(data, budget)
        graph = onnx.load_model_from_string(data).graph
        constants = {tensor.name: _constant(onnx, tensor, budget) for tensor in graph.initializer}
        nodes = []
        for node in graph.node:
            attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            read = Node(node.op_type, tuple(node.input), node.output[0], attributes)
            if read.kind == "DequantizeLinear" and all(name in constants for name in read.inputs):
                values = [constants[name] for name in read.inputs]
                budget.spend(size=4 * values[0].numel())
                constants[read.output] = _from_bytes(values, attributes)
            else:
                nodes.append(read)
        inputs = tuple(each.name for each in graph.input if each.name not in constants)
        return Graph(tuple(nodes), constants, inputs, graph.output[0].name)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # protobuf's errors, and whatever a damaged graph leads to
        raise CheckpointError(
            f"{path} is a damaged or incomplete ONNX file ({type(error).__name__} {shortened(str(error))}); copy or "
            f"download it again"
        ) from None


def _constant(onnx: Any, tensor: Any, budget: Budget) -> Tensor:
    array = array_of(onnx, tensor)
    budget.spend(size=array.nbytes)
    return torch.tensor(array)


def _from_bytes(values: list[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    codes, scale, zero = values
    if scale.ndim:  # one for each channel
        shape = [1] * codes.ndim
        shape[int(attributes.get("axis", 1))] = -1
        scale, zero = scale.view(shape), zero.view(shape)
    return (codes.float() - zero.float()) * scale


def _to_bytes(values: list[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    value, scale, zero = values
    return (torch.round(value / scale) + zero.float()).clamp(*_BYTE)


def _convolution(values: list[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    image, weight, *bias = values
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = F.pad(image, (left, right, top, bottom))
    stride, groups = list(attributes.get("strides", (1, 1))), int(attributes.get("group", 1))
    return F.conv2d(padded, weight, bias[0] if bias else None, stride, groups=groups)


def _clip(values: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    value, low, high = (*values, None, None)[:3]
    return value if low is None and high is None else value.clamp(low, high)


_OPERATIONS: dict[str, Callable[[list[Any], Mapping[str, Any]], Tensor]] = {
    "Add": lambda values, _: values[0] + values[1],
    "Clip": _clip,
    "Conv": _convolution,
    "DequantizeLinear": _from_bytes,
    "GlobalAveragePool": lambda values, _: values[0].mean(dim=(2, 3), keepdim=True),
    "QuantizeLinear": _to_bytes,
    "Relu": lambda values, _: F.relu(values[0]),
    "Reshape": lambda values, _: values[0].reshape(values[1].tolist()),
    "Transpose": lambda values, attributes: values[0].permute(*attributes["perm"]),
}
